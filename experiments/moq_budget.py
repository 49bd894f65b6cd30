"""Orders under minimum quantities that share a budget and containers: an integer plan with a proof of how good it is, at two sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from dpsc.decision import BoundedOrders, Containers, OrderPlan
from dpsc.instances.orders import LARGEST, orders
from dpsc.objective import newsvendor_table
from dpsc.report import Outcome, Section, figures
from dpsc.search import Referee, orders_by_milp
from experiments.context import RunContext


def problem(count: int, *, seed: int, budget_share: float, containers: Mapping[str, float] | None) -> OrderPlan:
    """The instance: the budget is a share of what the items would spend if nothing coupled them.

    Args:
        count: items.
        seed: of the generator.
        budget_share: of the unconstrained spend.
        containers: `volume`, `cost` and `smallest_fill`; None where volume is free.
    """
    items = orders(count, seed=seed)
    quantity = torch.arange(LARGEST + 1, dtype=torch.float64)
    cost = newsvendor_table(items.mean_demand, items.holding_cost, items.stockout_cost, largest=LARGEST)
    cost += items.order_cost[:, None] * (quantity > 0)
    spent = 0.0
    for rows in torch.arange(count).split(10_000):
        closed = (quantity > 0) & (quantity < items.minimum_order[rows, None])
        spent += float((items.price[rows] * cost[rows].masked_fill(closed, torch.inf).argmin(1)).sum())
    shared: dict[str, Any] = {} if containers is None else {"volume": items.volume, "containers": Containers(**containers)}
    return OrderPlan(cost=cost, minimum_order=items.minimum_order, price=items.price, budget=budget_share * spent, **shared)


def run(*, context: RunContext, seed: int, sizes: Mapping[str, int], budget_share: float, containers: Mapping[str, float], referee_seconds: float) -> Outcome:
    """Solve both sizes, the smaller one by HiGHS as well.

    Args:
        context: of the run.
        seed: of the generator.
        sizes: label of the metrics -> items; the first one goes to the referee.
        budget_share: of the unconstrained spend.
        containers: `volume`, `cost`, `smallest_fill`.
        referee_seconds: time limit of HiGHS.
    """
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    infeasible = 0
    plans: dict[str, tuple[OrderPlan, BoundedOrders]] = {}
    for label, count in sizes.items():
        plan = problem(count, seed=seed, budget_share=budget_share, containers=containers)
        start = time.perf_counter()
        found = plan.solve()
        wall = time.perf_counter() - start
        _, wrong = plan.check(found.decision, found.containers)
        infeasible += len(wrong)
        plans[label] = plan, found
        metrics |= {f"bound_{label}": found.bound, f"value_{label}": found.value, f"gap_pct_{label}": found.gap_pct, f"wall_s_{label}": wall}
        metrics |= {f"budget_{label}": plan.budget, f"containers_{label}": found.containers}
        rows.append(_row(f"dpsc, {count:,} items", found.value, found.bound, wall, found.containers, not wrong))
    first = next(iter(sizes))
    plan, found = plans[first]
    alone = OrderPlan(cost=plan.cost, minimum_order=plan.minimum_order, price=plan.price, budget=plan.budget).solve()
    metrics |= {f"bound_budget_alone_{first}": alone.bound, f"value_budget_alone_{first}": alone.value}
    rows.append(_row(f"dpsc, {sizes[first]:,} items, budget alone", alone.value, alone.bound, float("nan"), 0, True))
    for _ in context.track(range(1), f"HiGHS, {referee_seconds:g} s"):
        referee = _referee(plan, referee_seconds)
    infeasible += len(plan.check(referee.decision, referee.containers)[1]) if referee.decision is not None else 0
    metrics |= {f"highs_value_{first}": referee.value, f"highs_bound_{first}": referee.bound, f"highs_wall_s_{first}": referee.wall_s}
    metrics |= {"infeasible_rows": infeasible, f"above_highs_bound_pct_{first}": 100 * (found.value / referee.bound - 1)}
    rows.append(_row(f"HiGHS, {sizes[first]:,} items", referee.value, referee.bound, referee.wall_s, referee.containers, referee.decision is not None))
    return _outcome(metrics, rows, plans, first, list(sizes)[-1], found, referee)


def _referee(plan: OrderPlan, seconds: float) -> Referee:
    assert plan.volume is not None
    assert plan.containers is not None
    return orders_by_milp(
        cost=plan.cost,
        minimum_order=plan.minimum_order,
        price=plan.price,
        budget=plan.budget,
        volume=plan.volume,
        container_volume=plan.containers.volume,
        container_cost=plan.containers.cost,
        smallest_fill=plan.containers.smallest_fill,
        seconds=seconds,
    )


def _row(name: str, value: float, bound: float, wall: float, containers: int, feasible: bool) -> dict[str, Any]:
    return {
        "method": name,
        "value": value,
        "bound": bound,
        "gap_pct": 100 * (value / bound - 1),
        "wall_s": wall,
        "containers": containers,
        "feasible": feasible,
    }


def _outcome(
    metrics: Mapping[str, float],
    rows: list[dict[str, Any]],
    plans: Mapping[str, tuple[OrderPlan, BoundedOrders]],
    first: str,
    last: str,
    found: BoundedOrders,
    referee: Referee,
) -> Outcome:
    plan = plans[first][0]
    free = plan.cost.masked_fill(_closed(plan), torch.inf).argmin(1).double()
    return Outcome(
        metrics=metrics,
        title="Orders that share a budget and containers",
        summary=(
            f"{len(free)} items: a plan of whole orders at {found.value:,.1f} and a proof that none costs less than {found.bound:,.1f}, a gap of "
            f"{found.gap_pct:.4f} % in {metrics[f'wall_s_{first}']:.1f} s; HiGHS, given the whole problem for {referee.wall_s:.0f} s, "
            f"has {referee.value:,.1f} and a bound of {referee.bound:,.1f}. {len(plans[last][0].price):,} items: "
            f"{metrics[f'gap_pct_{last}']:.4f} % in {metrics[f'wall_s_{last}']:.1f} s on one thread."
        ),
        sections=[
            Section(
                "The question",
                "Every item is ordered not at all or at least its minimum. All orders together must stay within a budget, and fill a whole number of "
                "containers to at least 97 % on average; each container costs money. Which items give way?",
            ),
            Section(
                "Result",
                "The bound holds for every plan. It comes from two prices, of money and of volume, at which the items fall apart; the plan takes their answers "
                "and settles what is ambiguous by a small integer program. For many items nothing is ambiguous but the rounding of one container.",
                tables=("methods",),
            ),
            Section(
                "What the coupling changes",
                "Orders of the smaller instance without and with the shared limits: on the diagonal an item keeps its order, below it gives way.",
                figures=("orders", "surcharge"),
            ),
        ],
        tables={
            "methods": pd.DataFrame(rows),
            "orders": pd.DataFrame({"item": range(len(free)), "unconstrained": free.numpy(), "order": found.decision.numpy()}),
        },
        figures={
            "orders": figures.scatter_pairs(free, found.decision, x_label="order without shared limits, units", y_label="order within the limits, units"),
            "surcharge": figures.distribution(
                {
                    "items that still order": _surcharge(plan, found)[found.decision > 0],
                    "items that gave up their order": _surcharge(plan, found)[(found.decision == 0) & (free > 0)],
                },
                label="shadow price of the limits, money a unit ordered",
            ),
        },
        learned={label: {"order": result.decision} for label, (_, result) in plans.items()},
    )


def _surcharge(plan: OrderPlan, found: BoundedOrders) -> torch.Tensor:
    assert plan.volume is not None
    return found.budget_price * plan.price + found.volume_price * plan.volume


def _closed(plan: OrderPlan) -> torch.Tensor:
    quantity = torch.arange(plan.cost.shape[1], dtype=torch.float64)
    return (quantity > 0) & (quantity < plan.minimum_order[:, None])
