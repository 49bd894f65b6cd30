"""Textbook problems of one stage in steady state: lot sizes, base stock, (s, S), (r, Q)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpsc.objective import interpolated, newsvendor_table, normal_loss, normal_second_loss, poisson_pmf
from dpsc.relax import Anneal, step
from dpsc.search import EconomicOrderQuantity, NormalNewsvendor, NormalReorder, OrderUpToCost, PoissonReorder, newsvendor_costs
from dpsc.simulate.chain import average_cost
from dpsc.types import Instance
from experiments.textbook_problem import Decision, Problem, row, short, whole_neighbours

SPREAD_POINTS = 8  # order-up-to levels that stand for one while training


# ------------------------------------------------------------------------------------------------ steady demand, one decision


def lot_size(instance: Instance) -> Problem:
    """log Q, and the share of backorders as a logit."""
    p = instance.parameters
    k, h, d, b = p["order_cost"], p["holding_cost"], p["demand_rate"], p.get("stockout_cost")
    referee = EconomicOrderQuantity(**p)

    def loss(theta: Tensor, done: float) -> Tensor:
        q, x = theta[:, 0].exp(), torch.sigmoid(theta[:, 1]) if b else 0.0
        return k * d / q + 0.5 * q * (h * (1 - x) ** 2 + (b or 0.0) * x**2)

    def decisions(v: Sequence[float]) -> list[Decision]:
        return [(math.exp(v[0]), 1 / (1 + math.exp(-v[1])))] if b else [(math.exp(v[0]),)]

    best = referee.optimum()
    start = row(math.log(d / 12), 0.0) if b else row(math.log(d / 12))
    found = (best.order_quantity, best.backorder_share) if b else (best.order_quantity,)
    return Problem(short(instance), "order quantity", start, loss, decisions, lambda q: referee.cost(*q), (found, best.cost))


def disrupted(p: dict[str, Any], q: Tensor) -> Tensor:
    """Expected cost over expected length of a cycle."""
    rate = p["disruption_rate"] + p["recovery_rate"]
    wait = p["disruption_rate"] / rate * -torch.expm1(-rate * q / p["demand_rate"]) / p["recovery_rate"]
    cycle = p["order_cost"] + p["holding_cost"] * q * q / (2 * p["demand_rate"]) + p["stockout_cost"] * p["demand_rate"] * wait
    return cycle / (q / p["demand_rate"] + wait)


def uncertain_yield(p: dict[str, Any], q: Tensor) -> Tensor:
    """The same, over 10,000 equally likely yields at the midpoints of their distribution function, of normal shape."""
    z = torch.special.ndtri((torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000)
    z = z / z.square().mean().sqrt()
    drawn = p["yield_mean"] + p["yield_deviation"] * z
    arrived = q[..., None] + drawn if p["kind"] == "additive" else q[..., None] * drawn
    cycle = p["order_cost"] + p["holding_cost"] * arrived.square().mean(-1) / (2 * p["demand_rate"])
    return cycle * p["demand_rate"] / arrived.mean(-1)


def order_quantity(instance: Instance, referee: Any, cost: Callable[[dict[str, Any], Tensor], Tensor]) -> Problem:
    p, best = dict(instance.parameters), referee.optimum()
    start = row(math.log(p["demand_rate"] / 12 + max(-p.get("yield_mean", 0.0), 0.0)))
    return Problem(
        short(instance), "order quantity", start, lambda theta, done: cost(p, theta[:, 0].exp()), lambda v: [(math.exp(v[0]),)],
        lambda q: referee.cost(*q), ((best.order_quantity,), best.cost),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- newsvendor, base-stock


def newsvendor(instance: Instance) -> Problem:
    """The level in standard deviations above the mean of the demand it covers."""
    p = instance.parameters
    periods = p.get("lead_time", 0.0) + 1
    mean, spread = p["mean_demand"] * periods, p["deviation"] * periods**0.5
    referee = NormalNewsvendor(**p)
    best = referee.optimum()

    def loss(theta: Tensor, done: float) -> Tensor:
        level = mean + spread * theta[:, 0]
        short = normal_loss(level, mean, spread)
        return p["holding_cost"] * (level - mean + short) + p["stockout_cost"] * short

    return Problem(
        short(instance), "base stock", row(0.0), loss, lambda v: [(mean + spread * v[0],)], lambda level: referee.cost(*level), ((best.level,), best.cost)
    )


def poisson_newsvendor(instance: Instance) -> Problem:
    """The cost between whole levels is that of rounding at random."""
    p = instance.parameters
    mean, most = p["mean_demand"], int(4 * p["mean_demand"])
    h, b = (torch.tensor(p[name], dtype=torch.float64) for name in ("holding_cost", "stockout_cost"))
    table = newsvendor_table(torch.tensor(mean, dtype=torch.float64), h, b, largest=most)
    exact = newsvendor_costs(poisson_pmf(torch.tensor(mean, dtype=torch.float64), most), p["holding_cost"], p["stockout_cost"])
    return Problem(
        short(instance), "base stock", row(1.0), lambda theta, done: interpolated(table[None].expand(len(theta), -1), mean * theta[:, 0]),
        lambda v: whole_neighbours([mean * v[0]]), lambda level: float(exact[int(level[0])]), ((float(exact.argmin()),), float(exact.min())),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- (s, S)


def order_up_to(instance: Instance, anneal: Anneal) -> Problem:
    """s and S in means of demand, from (1, 4); the trigger is a probability while training, a fractional S a mixture of its neighbours."""
    p = instance.parameters
    mean = p["mean_demand"]
    pmf = poisson_pmf(torch.tensor(mean, dtype=torch.float64), int(2 * mean + 40))
    costs = {"holding_cost": p["holding_cost"], "stockout_cost": p["stockout_cost"], "order_cost": p["order_cost"]}
    referee = OrderUpToCost(pmf, **costs)
    best = referee.optimum()
    lowest, states = -int(2 * mean + 40), int(7 * mean + 80)
    x = torch.arange(lowest, lowest + states, dtype=torch.float64)

    def loss(theta: Tensor, done: float) -> Tensor:
        s, top = mean * theta[:, :1], mean * theta[:, 1:]
        open_ = step(s - x, relax=anneal(done), scale=mean)
        stay = torch.eye(states, dtype=torch.float64)
        raised = torch.zeros(len(theta), states, states, dtype=torch.float64)
        for offset in _offsets(done):
            target = torch.maximum(top + mean * offset, x).clamp_max(float(x[-1]))
            low = target.detach().floor().clamp_max(float(x[-1]) - 1)
            part, to = target - low, (low - lowest).long()
            raised = raised.scatter_add(2, torch.stack([to, to + 1], -1), torch.stack([1 - part, part], -1) / SPREAD_POINTS)
        return average_cost((1 - open_)[..., None] * stay + open_[..., None] * raised, pmf, lowest=lowest, check=False, **costs)

    return Problem(
        short(instance), "(s, S)", row(1.0, 4.0), loss, lambda v: [d for d in whole_neighbours([mean * v[0], mean * v[1]]) if d[0] < d[1]],
        lambda d: referee.cost(int(d[0]), int(d[1])), ((best.reorder_point, best.order_up_to_level), best.cost),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- (r, Q)


def poisson_reorder(instance: Instance) -> Problem:
    """r in lead-time demands and log Q; costs are sums of a table over r + 1 ... r + Q, read between its entries."""
    p = instance.parameters
    referee = PoissonReorder(**p)
    best = referee.optimum()
    mean, lot = p["demand_rate"] * p["lead_time"], math.sqrt(2 * p["order_cost"] * p["demand_rate"] / p["holding_cost"])
    lowest, count = -int(mean) - 20, int(4 * mean + 10 * lot) + 60
    position = torch.arange(lowest, lowest + count, dtype=torch.float64)
    demand = torch.arange(int(6 * mean) + 60, dtype=torch.float64)
    law = poisson_pmf(torch.tensor(mean, dtype=torch.float64), len(demand) - 1)
    left = position[:, None] - demand
    sums = (law * (p["holding_cost"] * left.clamp_min(0) + p["stockout_cost"] * (-left).clamp_min(0))).sum(1).cumsum(0)

    def loss(theta: Tensor, done: float) -> Tensor:
        r, q = mean * theta[:, 0], theta[:, 1].exp()
        table = sums[None].expand(len(theta), -1)
        return (p["order_cost"] * p["demand_rate"] + interpolated(table, r + q - lowest) - interpolated(table, r - lowest)) / q

    return Problem(
        short(instance), "(r, Q)", row(1.0, math.log(2 * lot)), loss, lambda v: [d for d in whole_neighbours([mean * v[0], math.exp(v[1])]) if d[1] >= 1],
        lambda d: referee.cost(int(d[0]), int(d[1])), ((best.reorder_point, best.order_quantity), best.cost),
    )  # fmt: skip


def normal_reorder(instance: Instance) -> list[Problem]:
    """Three objectives of r and Q: exact, expected inventory level, loss function."""
    p = instance.parameters
    referee = NormalReorder(**p)
    k, h, b, rate = p["order_cost"], p["holding_cost"], p["stockout_cost"], p["demand_rate"]
    mean, spread = referee.mean, referee.spread
    start = row(0.0, math.log(rate / 12))

    def decisions(v: Sequence[float]) -> list[Decision]:
        return [(mean + spread * v[0], math.exp(v[1]))]

    def parts(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r, q = mean + spread * theta[:, 0], theta[:, 1].exp()
        return r, q, h * (r - mean + 0.5 * q) + k * rate / q

    def exact(theta: Tensor, done: float) -> Tensor:
        r, q, base = parts(theta)
        return base + (h + b) * (normal_second_loss(r, mean, spread) - normal_second_loss(r + q, mean, spread)) / q

    def expected_inventory(theta: Tensor, done: float) -> Tensor:
        r, q, base = parts(theta)
        return base + b * rate * normal_loss(r, mean, spread) / q

    def loss_function(theta: Tensor, done: float) -> Tensor:
        r, q, base = parts(theta)
        return base + (h + b) * normal_second_loss(r, mean, spread) / q

    return [
        Problem(f"{short(instance)}_{name}", "(r, Q)", start, loss, decisions, lambda d, c=cost: c(*d), ((best.reorder_point, best.order_quantity), best.cost))
        for name, loss, cost, best in (
            ("exact", exact, referee.cost, referee.optimum()),
            ("expected_inventory", expected_inventory, referee.expected_inventory_cost, referee.expected_inventory()),
            ("loss_function", loss_function, referee.loss_function_cost, referee.loss_function()),
        )
    ]


def _offsets(done: float) -> list[float]:
    """The spread of order-up-to levels, means of demand: evenly over one mean for half of the training, then ever less.

    The cost of an order-up-to level has a valley for every number of periods that an order lasts, one mean of demand apart; levels spread over one mean see
    only the hillside that they are cut into.
    """
    width = min(1.0, max(0.0, (0.8 - done) / 0.3))
    return [width * ((i + 0.5) / SPREAD_POINTS - 0.5) for i in range(SPREAD_POINTS)]
