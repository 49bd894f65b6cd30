"""The serial line: a trace by hand, units, the exact cost and its exact slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from dpsc.decision.policies import base_stock_order
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from dpsc.search import serial_cost
from dpsc.simulate import Noise, State, advance, start
from dpsc.simulate.serial import average_cost, line, local_levels

LEAD = torch.tensor([1.0, 2.0], dtype=torch.float64)


def up_to(level: Tensor) -> Callable[[State], Tensor]:
    return lambda state: base_stock_order(state.echelon_position(), level, relax=Exact())


def play(order_first: bool) -> list[tuple[list[float], list[float], float]]:
    """Levels 5 and 8, demand 4, 3, 6: what is shipped, what is on hand, backorders of stage 1."""
    level = torch.tensor([5.0, 8.0], dtype=torch.float64)
    world = line(LEAD, order_first=order_first)
    state = start(world, local_levels(level), paths=1)
    trace = []
    for wanted in (4.0, 3.0, 6.0):
        state, flow = advance(state, up_to(level), Noise(torch.tensor([[wanted, 0.0]], dtype=torch.float64)), world=world, relax=Exact())
        trace.append((flow.shipped[0].tolist(), state.on_hand[0].tolist(), float(flow.backorder[0, 0])))
    return trace


def test_three_periods_by_hand() -> None:
    """Start 5 and 3. Period 1: demand 4 leaves 1, stage 1 wants 4 and gets 3, stage 2 buys 4. Period 2: 3 arrive, demand 3 leaves 1, stage 1 wants 4 and gets
    nothing, stage 2 buys 3. Period 3: 4 arrive upstream, demand 6 leaves 5 who wait, stage 1 wants 10 and gets 4, stage 2 buys 6."""
    assert play(order_first=False) == [([3, 4], [1, 0], 0), ([0, 3], [1, 0], 0), ([4, 6], [0, 0], 5)]


def test_swapping_order_and_demand_changes_the_trace() -> None:
    """Period 1: nothing is wanted, demand 4 leaves 1. Period 2: stage 1 wants 4, gets 3, stage 2 buys 4; demand 3 leaves 2 who wait. Period 3: 3 arrive; stage
    1 wants 4 and gets none, stage 2 buys 3; demand 6 leaves 5 who wait."""
    assert play(order_first=True) == [([0, 0], [1, 3], 0), ([3, 4], [0, 0], 2), ([0, 3], [0, 0], 5)]


def test_units_are_neither_made_nor_lost() -> None:
    level = torch.tensor([12.0, 20.0, 31.0], dtype=torch.float64)
    lead = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)
    demand = torch.from_numpy(numpy.random.default_rng(0).poisson(5.0, (40, 16)).astype(float))
    world = line(lead, order_first=True)
    state = start(world, local_levels(level), paths=16)
    begin = state.echelon_position()[..., -1]
    bought = torch.zeros(16, dtype=torch.float64)
    for wanted in demand:
        noise = Noise(torch.nn.functional.pad(wanted[:, None], (0, 2)))
        state, flow = advance(state, up_to(level), noise, world=world, relax=Exact())
        bought = bought + flow.shipped[..., -1]
        assert bool((flow.shipped >= 0).all())
        assert bool((state.on_hand >= 0).all())
        assert torch.equal(flow.shipped, flow.shipped.round())
    assert torch.equal(begin + bought - demand.sum(0), state.echelon_position()[..., -1])


@pytest.mark.parametrize("order_first", [True, False])
@pytest.mark.parametrize("charge_pipeline", [True, False])
def test_cost_and_gradient_are_those_of_the_exact_recursion(order_first: bool, charge_pipeline: bool) -> None:
    given: dict[str, Any] = {"holding_cost": [1.0, 0.5, 0.2], "lead_time": [2, 1, 2], "stockout_cost": 9.0, "order_first": order_first}
    given["charge_pipeline"] = charge_pipeline
    levels = torch.tensor([20.0, 25.0, 34.0], dtype=torch.float64, requires_grad=True)
    demand = torch.from_numpy(numpy.maximum(numpy.random.default_rng(1).normal(5, 2, (130, 3000)), 0))
    cost = average_cost(
        levels,
        demand,
        up_to(levels),
        lead_time=torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64),
        holding_cost=torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64),
        stockout_cost=9.0,
        order_first=order_first,
        charge_pipeline=charge_pipeline,
    )
    exact: Callable[..., float] = lambda at: serial_cost(mean_demand=5.0, deviation=2.0, clipped=True, levels=at, **given).cost  # noqa: E731
    assert abs(float(cost.mean().detach()) - exact(levels.tolist())) < 4 * float(cost.detach().std()) / 3000**0.5 + 1e-3
    (slope,) = torch.autograd.grad(cost.mean(), levels)
    h = 0.25
    for i in range(3):
        up, down = ([x + h * s * (i == k) for k, x in enumerate(levels.tolist())] for s in (1, -1))
        assert abs(float(slope[i]) - (exact(up) - exact(down)) / (2 * h)) < 0.05


def test_candidates_are_leading_dimensions() -> None:
    demand = torch.from_numpy(numpy.random.default_rng(2).poisson(5.0, (60, 8)).astype(float))
    levels = torch.tensor([[12.0, 20.0], [15.0, 22.0], [9.0, 30.0]], dtype=torch.float64)

    def cost(level: Tensor) -> Tensor:
        return average_cost(
            level, demand, up_to(level), lead_time=LEAD, holding_cost=torch.tensor([2.0, 1.0], dtype=torch.float64), stockout_cost=9.0, order_first=True
        )

    assert torch.equal(cost(levels), torch.stack([cost(level) for level in levels]))


def test_mistakes_are_named() -> None:
    level, demand = torch.tensor([5.0, 8.0], dtype=torch.float64), torch.ones(40, 3, dtype=torch.float64)
    good: dict[str, Any] = {"lead_time": LEAD, "holding_cost": torch.ones(2, dtype=torch.float64), "stockout_cost": 1.0, "order_first": True}
    with pytest.raises(InputError, match=r"lead_time must be >= 1 period where .* got 0 for edge 0"):
        average_cost(level, demand, up_to(level), **{**good, "lead_time": LEAD - 1})
    with pytest.raises(InputError, match=r"demand must have more than warm_up = 30 periods, got 30"):
        average_cost(level, demand[:30], up_to(level), **good)
    with pytest.raises(InputError, match=r"demand must be finite, got 120 of 120"):
        average_cost(level, demand * torch.nan, up_to(level), **good)
    with pytest.raises(ShapeError, match=r"level and holding_cost must end in N = 2 stages, got \(3,\) and \(2,\)"):
        average_cost(torch.ones(3, dtype=torch.float64), demand, up_to(level), **good)
    with pytest.raises(ShapeError, match=r"level must have shape \(..., N\) = \(..., 2\), got \(3,\)"):
        base_stock_order(torch.ones(4, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64), relax=Exact())
