"""Average-cost policies under minimum orders and batches: whole orders found by gradients, priced exactly on their Markov chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import instances, noise
from dpsc.objective import poisson_pmf
from dpsc.relax import Anneal, Exact, maximum, step
from dpsc.report import Outcome, Section, figures
from dpsc.search import average_cost_optimum
from dpsc.simulate.chain import average_cost
from dpsc.training import fit
from dpsc.types import Instance, Relaxation
from experiments.context import RunContext

LOWEST, STATES, LARGEST_DEMAND = -60, 141, 40
RULES = {"structured": "trigger and level", "softmax": "softmax over orders"}


class World:
    """One instance on its lattice: inventory levels, demand, the orders that a supplier accepts, and the exact price of a rule."""

    def __init__(self, instance: Instance, device: torch.device) -> None:
        p = instance.parameters
        self.name, self.known = instance.name.removeprefix("average_cost_"), float(instance.known["cost"])
        self.minimum, self.batch = p.get("minimum_order"), p.get("batch")
        self.mean = float(p["mean_demand"])
        self.demand = poisson_pmf(torch.tensor(self.mean, dtype=torch.float64, device=device), LARGEST_DEMAND)
        self.costs = {"holding_cost": p["holding_cost"], "stockout_cost": p["stockout_cost"]}
        self.x = torch.arange(LOWEST, LOWEST + STATES, dtype=torch.float64, device=device)
        order = torch.arange(STATES, device=device)
        self.allowed = (order == 0) | (order % self.batch == 0 if self.batch else order >= self.minimum)  # of an order
        raised = order[None] - order[:, None]
        self.possible = (raised >= 0) & self.allowed[raised.clamp_min(0)]  # of a level after ordering

    def price(self, level: Tensor, *, check: bool = False) -> Tensor:
        """Exact average cost."""
        return average_cost(level, self.demand, lowest=LOWEST, check=check, **self.costs)

    def moves(self, order: Tensor) -> Tensor:
        """`(..., X, X)` the rule that places whole orders `(..., X)`."""
        target = (torch.arange(STATES, device=order.device) + order.long()).clamp_max(STATES - 1)
        return torch.nn.functional.one_hot(target, STATES).to(order.dtype)

    def orders(self, level: Tensor) -> Tensor:
        """The whole orders of a rule that does not mix."""
        return (level.argmax(-1) - torch.arange(STATES, device=level.device)).double()


def structured(world: World, parameters: Tensor, relax: Relaxation) -> Tensor:
    """Order when the inventory has fallen to s: up to S, at least M; or as many batches as lift it above s.

    The trigger is read by `relax`, as the probability of ordering; a fractional level S is a mixture of its two neighbours, so that every order placed is
    whole and allowed at any temperature.

    Args:
        world: the instance.
        parameters: `(..., 2)` s and S, units.
        relax: the reading.
    Returns: `(..., X, X)` probabilities of the level after ordering.
    """
    s = parameters[..., :1]
    trigger = s - world.x
    if world.batch:
        deepest = -LOWEST // world.batch + 2
        reached = torch.stack([step(trigger - n * world.batch, relax=relax, scale=world.mean) for n in range(deepest)], -1)
        share = reached - torch.cat([reached[..., 1:], torch.zeros_like(reached[..., :1])], -1)
        stay = 1 - reached[..., 0]
        total = stay[..., None] * world.moves(torch.zeros_like(world.x))
        for n in range(deepest):
            total = total + share[..., n, None] * world.moves(torch.full_like(world.x, (n + 1.0) * world.batch))
        return total
    open_ = step(trigger, relax=relax, scale=world.mean)
    q = maximum(parameters[..., 1:] - world.x, float(world.minimum), relax=Exact())
    low = q.detach().floor()
    part = q - low
    order = (1 - part)[..., None] * world.moves(low) + part[..., None] * world.moves(low + 1)
    return (1 - open_)[..., None] * world.moves(torch.zeros_like(world.x)) + open_[..., None] * order


def run(
    *,
    context: RunContext,
    names: list[str],
    starts: int,
    steps: Mapping[str, int],
    optimizer: Mapping[str, Callable[..., torch.optim.Optimizer]],
    anneal: Anneal,
) -> Outcome:
    """Optimise both rules on every instance, from random starts side by side, and price what they order exactly.

    Args:
        context: of the run.
        names: of instances.
        starts: of each rule.
        steps: rule -> gradient steps.
        optimizer: rule -> partial of torch.optim.
        anneal: schedule of the structured rule's trigger.
    """
    metrics: dict[str, float] = {}
    rows, curves, pictures, learned, infeasible = [], {}, {}, {}, 0
    for name in context.track(names, "instances", len(names)):
        world = World(instances.get(name), context.device)
        begin = time.perf_counter()
        best, curve = _train_structured(world, starts, steps["structured"], optimizer["structured"], anneal, context.seed)
        wall = time.perf_counter() - begin
        begin = time.perf_counter()
        free = _train_softmax(world, starts, steps["softmax"], optimizer["softmax"], context.seed)
        wall_softmax = time.perf_counter() - begin
        optimum = average_cost_optimum(allowed=world.allowed[:61].cpu(), demand_pmf=world.demand.cpu(), lowest=LOWEST, **world.costs)
        cost = {rule: float(world.price(level, check=True)) for rule, level in (("structured", best), ("softmax", free))}
        infeasible += sum(int((~world.allowed[world.orders(level).long()]).sum()) for level in (best, free))
        chosen = min(cost, key=lambda rule: cost[rule])
        metrics |= {f"cost_{world.name}": cost[chosen], f"optimum_{world.name}": optimum.cost}
        metrics |= {f"gap_pct_{rule}_{world.name}": 100 * (cost[rule] / optimum.cost - 1) for rule in RULES}
        metrics |= {f"wall_s_{world.name}": wall + wall_softmax}
        rows += [
            {
                "instance": world.name,
                "rule": RULES[rule],
                "cost": cost[rule],
                "optimum": optimum.cost,
                "gap_pct": 100 * (cost[rule] / optimum.cost - 1),
                "wall_s": t,
            }
            for rule, t in (("structured", wall), ("softmax", wall_softmax))
        ]
        curves[world.name] = (100 * (curve / optimum.cost - 1)).clamp_max(400)
        shown = slice(-LOWEST - 15, -LOWEST + 11)
        pictures[world.name] = torch.stack([world.orders(best)[shown], world.orders(free)[shown], optimum.order[: len(world.x)][shown].double()])
        learned[world.name] = {"structured_order": world.orders(best), "softmax_order": world.orders(free)}
    metrics["infeasible_orders"] = infeasible
    return _outcome(metrics, rows, curves, pictures, learned)


def _train_structured(
    world: World, starts: int, steps: int, optimizer: Callable[..., torch.optim.Optimizer], anneal: Anneal, seed: int
) -> tuple[Tensor, Tensor]:
    """The best whole rule of all starts, and the exact cost on the way of the rounded best start, `(starts, checks)`."""
    index = torch.arange(starts, device=world.x.device)
    drawn = torch.stack([noise.uniform(seed, f"moq_average_cost {world.name}", index, torch.full_like(index, k)) for k in (0, 1)], -1)
    parameters = (
        drawn * torch.tensor([20.0, 30.0], dtype=torch.float64, device=world.x.device) + torch.tensor([-5.0, 0.0], device=world.x.device)
    ).requires_grad_()
    seen: list[Tensor] = []

    def whole() -> Tensor:
        trigger, level = parameters.detach().unbind(-1)
        return structured(world, torch.stack([trigger.floor(), level.round()], -1), Exact())  # an inventory is at or below s if it is at or below floor(s)

    def loss(_: Any, done: float) -> Tensor:
        if round(done * steps) % 10 == 0:
            seen.append(world.price(whole()))
        return world.price(structured(world, parameters, anneal(done)))

    fit(loss, optimizer=optimizer([parameters]), batches=lambda _: [None], epochs=steps, rate=lambda done: 1 - done)
    level = whole()
    return level[int(world.price(level).argmin())], torch.stack(seen, -1)


def _train_softmax(world: World, starts: int, steps: int, optimizer: Callable[..., torch.optim.Optimizer], seed: int) -> Tensor:
    """Logits of every allowed level in every state; the chain is differentiated as it is, and the largest logit is the rule."""
    index = torch.arange(STATES, device=world.x.device)
    drawn = torch.stack([noise.uniform(seed, f"moq_average_cost softmax {k}", index[:, None], index[None]) for k in range(starts)])
    logits = drawn.requires_grad_()
    closed = ~world.possible

    def loss(_: Any, done: float) -> Tensor:
        return world.price(torch.softmax(logits.masked_fill(closed, -torch.inf), -1))

    fit(loss, optimizer=optimizer([logits]), batches=lambda _: [None], epochs=steps)
    level = torch.nn.functional.one_hot(logits.detach().masked_fill(closed, -torch.inf).argmax(-1), STATES).to(torch.float64)
    return level[int(world.price(level).argmin())]


def _outcome(
    metrics: Mapping[str, float],
    rows: list[dict[str, Any]],
    curves: Mapping[str, Tensor],
    pictures: Mapping[str, Tensor],
    learned: Mapping[str, Any],
) -> Outcome:
    table = pd.DataFrame(rows)
    worst = table.groupby("rule").gap_pct.max()
    return Outcome(
        metrics=metrics,
        title="Average-cost policies under minimum orders and batches",
        summary=(
            f"Whole orders found by gradients, priced exactly: at most {worst[RULES['structured']]:.2f} % above the optimum with a trigger and a level, "
            f"{worst[RULES['softmax']]:.2f} % with a free choice of order in every state."
        ),
        sections=[
            Section(
                "The question",
                "Demand is Poisson with mean 5 a period. A unit left over costs 1, a unit backordered 9. The supplier accepts no order below a minimum, or "
                "only whole batches. Which rule has the lowest cost in the long run?\n\n"
                "Every rule is a Markov chain on whole inventory levels. Its stationary distribution is a linear system, so the cost is exact and has an exact "
                "gradient; the trigger is smoothed while training, orders are whole and allowed throughout.",
            ),
            Section("Result", "Optimum by relative value iteration.", tables=("rules",), figures=("orders",)),
            Section(
                "Training",
                "Cost of the trigger-and-level rules, rounded, above the optimum: mean and 10 % to 90 % band over the random starts. The best start counts.",
                figures=("training",),
            ),
        ],
        tables={"rules": table},
        figures={
            "orders": figures.matrices(
                {name: grid for name, grid in pictures.items()},
                row_names=[*RULES.values(), "optimal"],
                column_names=[str(x) for x in range(-15, 11)],
            ),
            "training": figures.curves(
                {name: values.clamp_max(400) for name, values in curves.items()}, x_label="tens of steps", y_label="above the optimum, %"
            ),
        },
        learned=learned,
    )
