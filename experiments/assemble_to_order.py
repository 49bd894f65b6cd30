"""Assemble to order: stocks of components learned through a layer that builds the best products from them in every scenario."""

from __future__ import annotations

import time
from collections.abc import Callable

import cvxpy
import pandas as pd
import torch
from torch import Tensor

from dpsc.decision import ConvexProgram
from dpsc.instances.assembly import ASSEMBLE_TO_ORDER, Assembly, assembly
from dpsc.report import Outcome, Section, figures
from dpsc.training import fit
from experiments.context import RunContext


class Profit:
    """Mean profit of a stock x: mean over scenarios of the best build, plus salvage, less cost.

    profit(x) = mean_n max {r.y + v.(x - B y) : B y <= x, 0 <= y <= D_n} - c.x, concave in x.
    """

    def __init__(self, of: Assembly) -> None:
        self.of = of
        build = cvxpy.Variable(len(of.price), name="build")
        stock, demand = cvxpy.Parameter(len(of.unit_cost), name="stock"), cvxpy.Parameter(len(of.price), name="demand")
        margin = (of.price - of.bill_of_materials.T @ of.salvage).numpy()
        limits = [of.bill_of_materials.numpy() @ build <= stock, build <= demand, build >= 0]
        self.layer = ConvexProgram(cvxpy.Problem(cvxpy.Minimize(-margin @ build), limits))

    def slope(self, stock: Tensor) -> tuple[float, Tensor]:
        """Profit and its gradient, by the multipliers of the layer (envelope theorem)."""
        scenarios = len(self.of.demand)
        given = {"stock": stock.detach().expand(scenarios, -1), "demand": self.of.demand}
        gradient = self.layer.value_gradient(**given)["stock"].mean(0)
        return self.value(stock), self.of.salvage - self.of.unit_cost - gradient

    def value(self, stock: Tensor) -> float:
        """Profit, from the builds of the layer."""
        solution = self.layer(stock=stock.detach().expand(len(self.of.demand), -1), demand=self.of.demand)
        return float(-solution.objective.mean() + (self.of.salvage - self.of.unit_cost) @ stock.detach())


def run(*, context: RunContext, steps: int, optimizer: Callable[..., torch.optim.Optimizer], start: float) -> Outcome:
    """Learn the stocks, round them, polish the integers.

    Args:
        context: of the run.
        steps: gradient steps.
        optimizer: partial of torch.optim.
        start: stock of every component.
    """
    profit = Profit(assembly(**ASSEMBLE_TO_ORDER.parameters))
    optimum = float(ASSEMBLE_TO_ORDER.known["profit"])
    begin = time.perf_counter()
    stock = torch.full_like(profit.of.unit_cost, start).requires_grad_()
    seen: list[float] = []
    best = (-torch.inf, stock.detach().clone())

    def loss(_: object, __: float) -> Tensor:
        nonlocal best
        value, slope = profit.slope(stock.detach().clamp_min(0))
        seen.append(value)
        if value > best[0]:
            best = (value, stock.detach().clamp_min(0).clone())
        return -value - (slope * (stock - stock.detach())).sum()  # the value, with the gradient of the multipliers

    fit(
        loss,
        optimizer=optimizer([stock]),
        batches=lambda _: [None],
        epochs=steps,
        rate=lambda done: 1 - done,
        track=lambda items: context.track(items, "stocks", steps),
    )
    continuous, level = best
    wall = time.perf_counter() - begin
    rounded = level.round()
    before = profit.value(rounded)
    integer, whole, tried = _polish(profit, rounded, before)
    wall_polish = time.perf_counter() - begin - wall
    metrics = {
        "continuous_pct": 100 * continuous / optimum,
        "rounded_pct": 100 * before / optimum,
        "integer_pct": 100 * integer / optimum,
        "profit_continuous": continuous,
        "profit_integer": integer,
        "wall_s": wall,
        "polish_s": wall_polish,
        "polish_evaluations": tried,
    }
    return Outcome(
        metrics=metrics,
        title="Assemble to order",
        summary=(
            f"Stocks of six components reach {metrics['continuous_pct']:.2f} % of the optimal profit by the gradient through the layer that builds products, "
            f"and {metrics['integer_pct']:.2f} % in whole units after {tried} exact evaluations."
        ),
        sections=[
            Section(
                "The question",
                "Components are bought before demand is known; once it is, the most profitable products are built from what is there. In every "
                "scenario the build is a linear program, and what one more unit of a component would have earned is "
                "its multiplier: their mean is the gradient of the profit.",
            ),
            Section("Result", "Per cent of the optimum of the linear program over all scenarios at once.", tables=("stocks",), figures=("training",)),
        ],
        tables={
            "stocks": pd.DataFrame(
                {
                    "component": range(1, len(level) + 1),
                    "learned": level.numpy(),
                    "whole": whole.numpy(),
                    "optimal": ASSEMBLE_TO_ORDER.known["stock"],
                    "unit_cost": profit.of.unit_cost.numpy(),
                }
            )
        },
        figures={"training": figures.curves({"profit, % of the optimum": torch.tensor(seen) / optimum * 100}, x_label="step", y_label="% of the optimum")},
        learned={"stock": {"continuous": level, "whole": whole}},
    )


def _polish(profit: Profit, whole: Tensor, value: float) -> tuple[float, Tensor, int]:
    """Move one component by one unit, or two by one, as long as it pays; exact profits."""
    unit = torch.eye(len(whole), dtype=whole.dtype)
    moves = [s * e for e in unit for s in (1, -1)]
    moves += [a * e + b * f for i, e in enumerate(unit) for f in unit[i + 1 :] for a in (1, -1) for b in (1, -1)]
    tried, better = 0, True
    while better:
        better = False
        for move in moves:
            candidate = whole + move
            if float(candidate.min()) < 0:
                continue
            tried += 1
            found = profit.value(candidate)
            if found > value + 1e-9:
                value, whole, better = found, candidate, True
    return value, whole, tried
