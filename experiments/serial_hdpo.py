"""Serial lines: echelon base-stock levels by pathwise gradients, priced exactly by the recursion that knows the optimum."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import instances, noise
from dpsc.decision.policies import base_stock_order
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, figures
from dpsc.search import serial_cost
from dpsc.simulate import State
from dpsc.simulate.serial import average_cost
from dpsc.training import fit
from dpsc.types import Instance
from experiments.context import RunContext


def run(
    *,
    context: RunContext,
    names: list[str],
    starts: dict[str, list[float]],
    paths: int,
    periods: int,
    warm_up: int,
    steps: int,
    optimizer: Callable[..., torch.optim.Optimizer],
) -> Outcome:
    """Optimise the levels of every instance and price them exactly.

    Args:
        context: of the run.
        names: of instances.
        starts: instance -> local base-stock levels to start from, stage 1 first.
        paths: futures a step.
        periods: of a future.
        warm_up: periods that are not counted.
        steps: gradient steps, every one on fresh futures.
        optimizer: partial of torch.optim.
    """
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    curves, learned = {}, {}
    for name in context.track(names, "serial lines", len(names)):
        instance = instances.get(name)
        optimum = float(instance.known["cost"])
        begin = time.perf_counter()
        level, seen = _train(instance, starts[name], paths, periods, warm_up, steps, optimizer, context)
        wall = time.perf_counter() - begin
        exact = serial_cost(**instance.parameters, levels=level.tolist())
        first = serial_cost(**instance.parameters, levels=torch.tensor(starts[name]).cumsum(0).tolist())
        gap = 100 * (exact.cost / optimum - 1)
        short = "example_6_1" if "example" in name else f"p{instance.parameters['stockout_cost']:g}"
        metrics |= {f"gap_pct_{short}": gap, f"cost_{short}": exact.cost, f"wall_s_{short}": wall}
        rows.append(
            {
                "instance": name,
                "start": first.cost,
                "cost": exact.cost,
                "optimum": optimum,
                "gap_pct": gap,
                "levels": " ".join(f"{x:.2f}" for x in level.tolist()),
                "optimal_levels": " ".join(f"{x:.2f}" for x in instance.known["levels"]),
                "wall_s": wall,
            }
        )
        curves[name] = seen
        learned[name] = {"level": level}
    metrics["worst_gap_pct"] = max(row["gap_pct"] for row in rows)
    return Outcome(
        metrics=metrics,
        title="Serial lines by pathwise gradients",
        summary=(
            f"Echelon base-stock levels learned from simulated futures, priced exactly: at most {metrics['worst_gap_pct']:.3f} % above the optimum, "
            f"in at most {max(row['wall_s'] for row in rows):.0f} s each."
        ),
        sections=[
            Section(
                "The question",
                "A line of stages, each supplied by the next, with lead times; only the last customer's demand is random. How much should each stage and all "
                "below it hold together? The simulator has kinks (stock upstream runs out) and no jumps, so the gradient of the average simulated cost is "
                "an unbiased estimate of the true one.",
            ),
            Section("Result", "Priced by the recursion of Clark and Scarf, which also gives the optimum.", tables=("lines",), figures=("training",)),
        ],
        tables={"lines": pd.DataFrame(rows)},
        figures={"training": figures.curves(curves, x_label="step", y_label="simulated cost a period, money")},
        learned=learned,
    )


def _train(
    instance: Instance,
    local: list[float],
    paths: int,
    periods: int,
    warm_up: int,
    steps: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    context: RunContext,
) -> tuple[Tensor, Tensor]:
    """Echelon levels, the mean of the last quarter of the steps, and the simulated cost of every step."""
    p = instance.parameters
    numbers = {"dtype": torch.float64, "device": context.device}
    share = torch.tensor(local, **numbers).requires_grad_()
    lead, h = torch.tensor(p["lead_time"], **numbers), torch.tensor(p["holding_cost"], **numbers)
    period, path = torch.arange(periods, device=context.device)[:, None], torch.arange(paths // 2, device=context.device)
    tail: list[Tensor] = []

    def loss(_: Any, done: float) -> Tensor:
        z = noise.normal(context.seed, f"serial demand {round(done * steps)}", period, path)
        demand = p["mean_demand"] + p["deviation"] * torch.cat([z, -z], -1)  # antithetic pairs
        if p["clipped"]:
            demand = demand.clamp_min(0)
        level = share.cumsum(0)
        if done >= 0.75:
            tail.append(level.detach())

        def want(state: State) -> Tensor:
            return base_stock_order(state.echelon_position(), level, relax=Exact())

        return average_cost(
            level,
            demand,
            want,
            lead_time=lead,
            holding_cost=h,
            stockout_cost=p["stockout_cost"],
            order_first=p["order_first"],
            charge_pipeline=p["charge_pipeline"],
            warm_up=warm_up,
        ).mean()

    history = fit(loss, optimizer=optimizer([share]), batches=lambda _: [None], epochs=steps, rate=lambda done: min(1.0, 2 * (1 - done)))
    return torch.stack(tail).mean(0).cpu(), history.loss.cpu()
