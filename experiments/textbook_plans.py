"""Textbook problems of several periods or stages: lot plans, finite horizons, guaranteed service, serial lines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from dpsc import noise
from dpsc.instances import textbook
from dpsc.relax import Anneal, step
from dpsc.search import FiniteHorizon, GuaranteedService, JointReplenishment, plan_cost, serial_cost, wagner_whitin
from dpsc.types import Instance
from experiments.textbook_problem import Decision, Problem, short, whole_neighbours

EXPLORED = 1.0  # inventories that enter a period of a finite horizon, for one that started


# -------------------------------------------------------------------------------------------------------------- lot planning


def lot_plan(instance: Instance, seed: int, starts: int = 8) -> Problem:
    """A probability of ordering in every period but the first, independently; the expected cost is linear in each of them."""
    p = instance.parameters
    demand = torch.tensor(p["demand"], dtype=torch.float64)
    periods = len(demand)
    best = wagner_whitin(**p)
    drawn = noise.normal(seed, f"textbook {instance.name}", torch.arange(starts)[:, None], torch.arange(periods - 1)[None])

    def loss(theta: Tensor, done: float) -> Tensor:
        chance = torch.cat([torch.ones_like(theta[:, :1]), torch.sigmoid(theta)], 1)
        total = p["order_cost"] * chance.sum(1)
        for t in range(periods):
            without = torch.ones_like(chance[:, 0])  # no order in s + 1 ... t
            for s in range(t, -1, -1):
                total = total + p["holding_cost"] * demand[t] * (t - s) * chance[:, s] * without
                without = without * (1 - chance[:, s])
        return total

    def decisions(v: Sequence[float]) -> list[Decision]:
        opens = [0, *(t + 1 for t, x in enumerate(v) if x > 0), periods]
        orders = [0.0] * periods
        for s, t in itertools.pairwise(opens):
            orders[s] = sum(p["demand"][s:t])
        return [tuple(orders)]

    return Problem(short(instance), "lot plan", drawn, loss, decisions, lambda orders: plan_cost(orders, **p), (best.orders, best.cost))


def joint_replenishment(instance: Instance) -> Problem:
    """m_i = 1 + softplus of a parameter, from 2."""
    p = instance.parameters
    referee = JointReplenishment(**p)
    best = referee.optimum()
    item, holding = (
        torch.tensor(v, dtype=torch.float64) for v in (p["item_order_cost"], [h * d for h, d in zip(p["holding_cost"], p["demand_rate"], strict=True)])
    )

    def loss(theta: Tensor, done: float) -> Tensor:
        m = 1 + torch.nn.functional.softplus(theta)
        return (2 * (p["order_cost"] + (item / m).sum(-1)) * (holding * m).sum(-1)).sqrt()

    def decisions(v: Sequence[float]) -> list[Decision]:
        return whole_neighbours([1 + math.log1p(math.exp(x)) for x in v])

    start = torch.full((1, len(item)), math.log(math.e - 1), dtype=torch.float64)
    return Problem(
        short(instance), "joint replenishment", start, loss, decisions, lambda m: referee.plan([int(x) for x in m]).cost, (best.multiples, best.cost)
    )


# ------------------------------------------------------------------------------------------------------------ finite horizon


def horizon(instance: Instance, anneal: Anneal) -> Problem:
    """s_t and S_t of every period in means of demand, from 1 and 1.5 ... 4, or S_t alone from 2; the law of the inventory is followed forward.

    While training, inventories of all kinds enter in every period: the best policy is best from each of them, and no s_t goes unseen.
    """
    p = instance.parameters
    referee = FiniteHorizon(**p)
    best = referee.optimum()
    mean, periods = p["mean_demand"], p["periods"]
    both = p["order_cost"] > 0
    x, g = torch.from_numpy(referee.inventory()).double(), torch.from_numpy(referee.period())
    d, share = (torch.from_numpy(numpy.asarray(v)) for v in referee.demand())
    after = (torch.arange(len(x))[:, None] - d).clamp_min(0)
    move = torch.zeros(len(x), len(x), dtype=torch.float64)
    move.scatter_add_(1, after, share.expand_as(after))
    last = float(x[-1]) - 1
    explored = EXPLORED * ((x >= -mean) & (x <= 2 * mean)).double() / len(x)

    def loss(theta: Tensor, done: float) -> Tensor:
        levels = mean * theta[:, :periods]
        law = torch.zeros(len(theta), len(x), dtype=torch.float64)
        law[:, int(-x[0])] = 1
        law = law + explored
        total, factor = torch.zeros(len(theta), dtype=torch.float64), 1.0
        for t in range(periods):
            opens = (step(mean * theta[:, periods + t, None] - x, relax=anneal(done), scale=mean) if both else torch.ones(1, dtype=torch.float64)).expand_as(
                law
            )
            top = torch.maximum(levels[:, t, None], x).clamp_max(last)
            ordered = law * opens * (top.detach() > x)
            low = top.detach().floor()
            part, to = top - low, (low - x[0]).long()
            arrived = (law - ordered).scatter_add(1, to, ordered * (1 - part)).scatter_add(1, to + 1, ordered * part)
            total = total + factor * (p["order_cost"] * ordered + p["purchase_cost"] * ordered * (top - x)).sum(1)
            total = total + factor * (arrived @ g)
            law, factor = arrived @ move + explored, factor * p["discount"]
        end = p["terminal_holding_cost"] * x.clamp_min(0) + p["terminal_stockout_cost"] * (-x).clamp_min(0)
        return total + factor * (law @ end)

    def decisions(v: Sequence[float]) -> list[Decision]:
        levels = [round(mean * a) for a in v[:periods]]
        points = [math.floor(mean * a) for a in v[periods:]] if both else levels
        return [(*points, *levels)]

    tops = torch.tensor([[1.5], [2.0], [3.0], [4.0]] if both else [[2.0]], dtype=torch.float64)  # the cost has a valley for each length of a cycle
    start = torch.cat([tops.expand(-1, periods), torch.ones(len(tops), periods if both else 0)], 1)
    return Problem(
        short(instance), "finite horizon", start, loss, decisions, lambda v: referee.cost([int(a) for a in v[:periods]], [int(a) for a in v[periods:]]),
        ((*best.reorder_points, *best.order_up_to_levels), best.cost), explores=True,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- guaranteed service


def service_network(instance: Instance) -> GuaranteedService:
    """The network of an instance; its stages are named by numbers."""
    p = instance.parameters
    numbered = {side: {int(stage): time for stage, time in p[side].items()} for side in ("inbound", "outbound")}
    return GuaranteedService(**{**p, **numbered, "links": [tuple(link) for link in p["links"]]})


def service(instance: Instance, seed: int, starts: int = 64) -> Problem:
    """A distribution over promises at every stage; what is promised is cut at what can be kept. The expected cost is linear in each distribution."""
    network = service_network(instance)
    best = network.optimum()
    stages, count = len(network.price), max(network.longest) + 1
    time = torch.arange(count)
    times, order = torch.arange(count, dtype=torch.float64), network.downstream
    free = [k for k in range(stages) if network.customers[k]]  # a stage that faces customers promises as late as they accept
    none = noise.uniform(seed, f"textbook {instance.name}", torch.arange(starts)[:, None], torch.arange(len(free))[None]) < 0.5
    drawn = torch.zeros(starts, len(free), count, dtype=torch.float64)  # each stage leans to promising at once, or to holding nothing
    drawn[..., 0], drawn[..., -1] = 5.0 * none, 5.0 * ~none
    drawn = drawn.flatten(1)

    def loss(theta: Tensor, done: float) -> Tensor:
        chosen = torch.softmax(theta.reshape(len(theta), len(free), count), -1)
        total, beyond = torch.zeros(len(theta), dtype=torch.float64), {}
        for k in order:
            within = (time >= network.inbound.get(k, 0)).double().expand(len(theta), -1)  # P(SI <= t)
            for i in network.suppliers[k]:
                within = within * (1 - beyond[i])
            incoming = torch.diff(within, dim=1, prepend=torch.zeros_like(within[:, :1]))
            if k in free:
                promise = chosen[:, free.index(k)]
            else:
                promise = torch.nn.functional.one_hot(torch.tensor(network.outbound.get(k, 0)), count).double().expand(len(theta), -1)
            net = (times[:, None] + network.processing_time[k] - times).clamp_min(0).sqrt()  # [SI, promise]
            total = total + network.price[k] * torch.einsum("gi,gj,ij->g", incoming, promise, net)
            lead = 1 - torch.cat([torch.zeros_like(within[:, : network.processing_time[k]]), within], 1)[:, :count]  # P(SI + T > t)
            beyond[k] = (1 - promise.cumsum(1)) * lead
        return total

    def decisions(v: Sequence[float]) -> list[Decision]:
        wanted = torch.tensor(v).reshape(len(free), count).argmax(-1).tolist()
        kept = [0] * stages
        for k in order:
            lead = max([network.inbound.get(k, 0), *(kept[i] for i in network.suppliers[k])]) + network.processing_time[k]
            kept[k] = min(wanted[free.index(k)] if k in free else network.outbound.get(k, 0), lead)
        return [tuple(map(float, kept))]

    return Problem(
        short(instance), "guaranteed service", drawn, loss, decisions, lambda v: network.cost([int(s) for s in v]), (best.service_times, best.cost)
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- serial lines


def local_holding_cost(instance: Instance) -> list[float]:
    """h_i, the sum of the echelon costs of stage i and all stages above it."""
    echelon = instance.parameters["echelon_holding_cost"]
    return [sum(echelon[i:]) for i in range(len(echelon))]


def serial_price(instance: Instance, *, levels: Sequence[float] | None = None, tail: float = 0.0) -> tuple[Decision, float]:
    """Exact cost of echelon levels, or of the best ones; units in transit cost what the stage they come from charges."""
    p = instance.parameters
    found = serial_cost(
        mean_demand=p["mean_demand"], deviation=p.get("deviation", 1.0), clipped=False, holding_cost=local_holding_cost(instance), lead_time=p["lead_time"],
        stockout_cost=p["stockout_cost"], order_first=False, charge_pipeline=True, levels=levels, law=p["law"], tail=tail,
    )  # fmt: skip
    return found.levels, found.cost


SERIAL = (*textbook.SERIAL_NORMAL, *textbook.SERIAL_POISSON)
