"""The best integers of a small box: against enumeration, and against what is known of single articles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.instances.replenishment import EXTENDED_RSQ, Articles, Paths, articles, paths
from dpsc.objective import Quantile
from dpsc.relax import Exact
from dpsc.search import integer_box_optimum
from dpsc.simulate.replenishment import PARAMETERS, Replenishment


def bowl(x: Tensor) -> Tensor:
    """Minimum 0 at (3, -2, 7), with ripples."""
    y = x - torch.tensor([3.0, -2.0, 7.0], dtype=torch.float64)
    return y.square().sum(-1) + 3 * (x.long() % 4 != 3).any(-1) * (y != 0).any(-1)


LOWER, UPPER = torch.tensor([0, -10, 0]), torch.tensor([12, 10, 30])


def test_coarse_to_fine_finds_what_enumeration_finds() -> None:
    full = integer_box_optimum(bowl, lower=LOWER, upper=UPPER)
    assert full.evaluations == 13 * 21 * 31
    assert (full.point.tolist(), full.value) == ([3, -2, 7], 0.0)
    quick = integer_box_optimum(bowl, lower=LOWER, upper=UPPER, step=torch.tensor([2, 4, 5]), keep=10)
    assert (quick.point.tolist(), quick.value) == ([3, -2, 7], 0.0)
    assert quick.evaluations < full.evaluations / 3


def test_the_best_point_may_lie_in_a_corner_and_nan_is_no_point() -> None:
    found = integer_box_optimum(lambda x: torch.where(x[:, 0] == 12, torch.nan, -x.sum(-1)), lower=LOWER, upper=UPPER, step=5, rows=7)
    assert (found.point.tolist(), found.value) == ([11, 10, 30], -51.0)


@pytest.mark.parametrize(("seed", "trigger"), [(3, "position"), (8, "idle")])
def test_best_integers_of_single_articles(seed: int, trigger: str) -> None:
    of = articles(1, seed=seed)
    drawn = paths(of, 256)
    single = Articles(*(x.float() for x in of)), Paths(*(x.float() for x in drawn))
    world, wide = Replenishment(single[1], articles=single[0], trigger=trigger), Quantile(0.75)

    def value(points: Tensor) -> Tensor:
        whole = (points + torch.tensor([0.0, 0.0, 0.5, 0.0])).float()  # any trigger level in [s, s + 1) is the same rule
        whole[:, 1:] /= single[0].scale
        return wide(world.cost(dict(zip(PARAMETERS, whole.T[..., None], strict=True)), relax=Exact()))[:, 0]

    top = int(torch.quantile(drawn.demand.sum(0), 0.95)) + 4
    step = max(1, round(top / 14))
    found = integer_box_optimum(
        value, lower=torch.tensor([0, 0, -1, 1]), upper=torch.tensor([7, top, top, top]), step=torch.tensor([1, step, step, step]), keep=20
    )
    best, known, _ = EXTENDED_RSQ.known["best_integers"][trigger][seed]
    assert found.value == pytest.approx(known, abs=0.006)  # known to two decimals
    mine = [p if b is not None else None for p, b in zip(found.point.tolist(), best, strict=True)]
    assert mine == list(best) or float(value(torch.tensor([[float(b or 1) for b in best]]))) == pytest.approx(found.value, abs=0.006)  # ties are common


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"lower must be <= upper"):
        integer_box_optimum(bowl, lower=UPPER, upper=LOWER)
    with pytest.raises(ShapeError, match=r"one shape \(K,\), got \(3,\) and \(2,\)"):
        integer_box_optimum(bowl, lower=LOWER, upper=UPPER[:2])
    with pytest.raises(InputError, match=r"step must be >= 1, got \[0, 0, 0\]"):
        integer_box_optimum(bowl, lower=LOWER, upper=UPPER, step=0)
    with pytest.raises(ShapeError, match=r"the objective must return"):
        integer_box_optimum(lambda x: x, lower=LOWER, upper=UPPER)
    with pytest.raises(InputError, match="too many to number"):
        integer_box_optimum(bowl, lower=LOWER * 0, upper=UPPER * 0 + 10**7)
