"""The contract of every decision problem, and the proof that none is missing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import cvxpy as cp
import pytest
import torch
from torch import Tensor

import dpsc
from dpsc.decision import Allocation, ConvexProgram, DecisionLayer, Knapsack, Portfolio, Rationing
from tests.contract import Case, DecisionContract


def normal(name: str, *shape: int, scale: float = 1.0):
    def draw(generator: torch.Generator, batch: tuple[int, ...]) -> dict[str, Tensor]:
        return {name: scale * torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)}

    return draw


def newsvendor() -> ConvexProgram:
    """Two variables, several parameters, a piecewise-linear cost: epigraph variables that are not part of the decision."""
    order, extra = cp.Variable(2, name="order"), cp.Variable(name="extra")
    demand, price = cp.Parameter(2, name="demand"), cp.Parameter(name="price")
    shortage = cp.pos(demand - order)
    cost = cp.sum(shortage) * 4 + cp.sum_squares(order) + price * extra + cp.square(extra)

    def objective(decision: dict[str, Tensor], demand: Tensor, price: Tensor) -> Tensor:
        q, e = decision["order"], decision["extra"]
        return 4 * (demand - q).clamp(min=0).sum(-1) + (q * q).sum(-1) + price * e + e * e

    return ConvexProgram(cp.Problem(cp.Minimize(cost), [order <= 5, extra >= -1, extra <= 1]), objective=objective)


def newsvendor_parameters(generator: torch.Generator, batch: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        "demand": 1.5 + torch.rand(*batch, 2, generator=generator, dtype=torch.float64) * 3,
        "price": torch.randn(*batch, generator=generator, dtype=torch.float64),
    }


def shortage(generator: torch.Generator, batch: tuple[int, ...]) -> dict[str, Tensor]:
    """One supply and one set of weights for all rows, so that all share the feasible set; wants at which some get nothing and some rows lack nothing."""
    want = 1.5 + 2 * torch.randn(*batch, 4, generator=generator, dtype=torch.float64)
    weight = torch.tensor([0.5, 1.0, 2.0, 0.8], dtype=torch.float64).expand(*batch, 4).clone()
    return {"want": want, "supply": torch.full(batch, 5.0, dtype=torch.float64), "weight": weight}


CASES = [
    Case("allocation", lambda: Allocation(4), normal("cost", 4)),
    Case("allocation, one item", lambda: Allocation(1), normal("cost", 1)),
    Case("allocation, nearly linear", lambda: Allocation(5, regularization=0.05), normal("cost", 5)),
    Case("allocation through ConvexProgram", lambda: Allocation(4, closed_form=False), normal("cost", 4)),
    Case("portfolio", lambda: Portfolio(3), normal("returns", 3)),
    Case("portfolio through ConvexProgram", lambda: Portfolio(3, closed_form=False), normal("returns", 3)),
    Case("convex program", newsvendor, newsvendor_parameters),
    Case("rationing", lambda: Rationing(4), shortage),
    Case("knapsack", lambda: Knapsack([1, 2, 3, 2, 1], 4), normal("value", 5), differentiable=False),
]


@pytest.fixture(params=CASES, ids=[c.name for c in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


class TestEveryDecisionLayer(DecisionContract):
    pass


def test_the_list_of_cases_is_complete() -> None:
    for module in pkgutil.walk_packages(dpsc.__path__, "dpsc."):
        importlib.import_module(module.name)

    def below(cls: type) -> set[type]:
        return {cls}.union(*(below(s) for s in cls.__subclasses__()))

    concrete = {c for c in below(DecisionLayer) if c.__module__.startswith("dpsc.") and not inspect.isabstract(c) and not c.__name__.startswith("_")}
    assert concrete == {type(case.make()) for case in CASES}
