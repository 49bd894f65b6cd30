"""Lost sales: every published optimum, and the exact cost of the best capped base-stock rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import scipy.stats
import torch
from torch import Tensor

from dpsc.errors import InputError, SolveError
from dpsc.instances import lost_sales
from dpsc.search import LostSales, capped_base_stock
from dpsc.types import Instance


def model(instance: Instance) -> LostSales:
    p = instance.parameters
    law = scipy.stats.poisson(p["mean_demand"]) if p["demand"] == "poisson" else scipy.stats.geom(1 / (1 + p["mean_demand"]), loc=-1)
    pmf = law.pmf(range(int(law.ppf(1 - 1e-10)) + 2))
    pmf[-1] += 1 - pmf.sum()
    return LostSales(torch.from_numpy(pmf), p["lead_time"], p["holding_cost"], p["stockout_cost"])


@pytest.mark.parametrize("instance", lost_sales.ALL, ids=lambda i: i.name)
def test_optima(instance: Instance) -> None:
    cost, width = model(instance).optimum()
    assert width < 1e-5
    assert abs(cost - instance.known["cost"]) < 1.1e-4


@pytest.mark.parametrize("instance", [i for i in lost_sales.ALL if i.parameters["demand"] == "poisson"], ids=lambda i: i.name)
def test_capped_base_stock(instance: Instance) -> None:
    level, largest = instance.known["capped_level"], instance.known["capped_order"]
    cost, _ = model(instance).cost(capped_base_stock(level, largest), highest=level, largest_order=largest)
    assert abs(cost - instance.known["capped_cost"]) < 1e-4
    assert cost >= instance.known["cost"] - 1e-4


def test_one_period_of_lead_time_by_a_chain_of_one_number() -> None:
    """Base stock S with L = 1: the state after ordering is S - sales of the period before; solve its chain directly."""
    m = model(next(i for i in lost_sales.ALL if i.name == "lost_sales_poisson_1_9"))
    level = 13
    move = torch.zeros(level + 1, level + 1, dtype=torch.float64)
    each = torch.zeros(level + 1, dtype=torch.float64)
    for x in range(level + 1):
        for d, p in enumerate(m.demand_pmf.tolist()):
            left = max(x - d, 0)
            move[x, left + level - x] += p
            each[x] += p * (left + 9 * max(d - x, 0))
    stationary = torch.linalg.matrix_power(move, 4096)[0]
    cost, _ = m.cost(lambda states: level - states.sum(-1), highest=level, largest_order=level)
    assert abs(cost - float(stationary @ each)) < 1e-6
    assert abs(cost - 5.5475) < 1e-4  # published


PMF = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)


def small(rule: Callable[[Tensor], Tensor]) -> object:
    return LostSales(PMF, 2, 1.0, 4.0).cost(rule, highest=6, largest_order=3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: LostSales(PMF * 0.5, 1, 1.0, 4.0), InputError, r"demand_pmf must be a vector of probabilities"),
        (lambda: LostSales(PMF, 0, 1.0, 4.0), InputError, r"lead_time must be an integer >= 1, got 0"),
        (lambda: LostSales(PMF, 1, 1.0, 0.0), InputError, r"stockout_cost must be a finite number > 0"),
        (lambda: small(lambda s: s[:, 0] * 0 + 0.5), InputError, r"whole orders in \[0, 3\], one a state, got others in state \[0.0, 0.0\]"),
        (lambda: small(lambda s: s[:, 0]), InputError, r"got others in state \[4.0, 0.0\]"),
        (lambda: small(lambda s: s), InputError, r"got others of shape \(28, 2\)"),
        (lambda: LostSales(PMF, 1, 1.0, 4.0).optimum(iterations=2), SolveError, r"did not close its bracket to 1e-05 in 2 iterations"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
