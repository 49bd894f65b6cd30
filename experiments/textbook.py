"""Answers of a textbook: decisions by gradients, priced exactly, and the referees' answers against the printed digits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import noise
from dpsc.decision.policies import base_stock_order
from dpsc.instances import average_cost as average_cost_instances
from dpsc.instances import textbook
from dpsc.relax import Anneal, Exact, Poisson
from dpsc.report import Outcome, Section, figures
from dpsc.search import DisruptedSupply, FiniteHorizon, NormalReorder, UncertainYield, power_approximation
from dpsc.simulate import State
from dpsc.simulate.serial import average_cost
from dpsc.training import fit
from dpsc.types import Instance
from experiments.context import RunContext
from experiments.textbook_levels import (
    disrupted,
    lot_size,
    newsvendor,
    normal_reorder,
    order_quantity,
    order_up_to,
    poisson_newsvendor,
    poisson_reorder,
    uncertain_yield,
)
from experiments.textbook_plans import SERIAL, horizon, joint_replenishment, local_holding_cost, lot_plan, serial_price, service
from experiments.textbook_problem import Problem, whole_neighbours


@dataclass(frozen=True)
class Lines:
    """How serial lines are simulated while training: `paths` futures a step, `periods` of which `warm_up` do not count, gradient `steps`."""

    paths: int
    periods: int
    warm_up: int
    steps: int


def run(
    *,
    context: RunContext,
    steps: Mapping[str, int],
    rate: Mapping[str, float],
    optimizer: Callable[..., torch.optim.Optimizer],
    anneal: Mapping[str, Anneal],
    lines: Lines,
    families: Sequence[str] | None = None,
) -> Outcome:
    """Optimise every problem by gradients, price the decisions, and compare the referees with the book.

    Args:
        context: of the run.
        steps: family -> gradient steps.
        rate: family -> learning rate.
        optimizer: partial of torch.optim, which takes `lr`.
        anneal: "(s, S)", "finite horizon" -> schedule of their triggers.
        lines: how serial lines are simulated.
        families: of problems; all of them where None.
    """
    begin, begin_cpu = time.perf_counter(), time.process_time()
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[Tensor]] = {}
    learned: dict[str, Any] = {}
    chosen = [p for p in problems(anneal, context.seed) if families is None or p.family in families]
    for problem in context.track(chosen, "problems", len(chosen)):
        started = time.process_time()
        theta, curve = _train(problem, steps[problem.family], rate[problem.family], optimizer)
        cost, decision = min((problem.price(d), d) for row in theta.tolist() for d in problem.decisions(row))
        first = min(problem.price(d) for row in problem.start.tolist() for d in problem.decisions(row))
        rows.append(_row(problem.name, problem.family, first, cost, decision, problem.optimum, time.process_time() - started))
        reached = curve[-1] if problem.explores else problem.optimum[1]
        curves.setdefault(problem.family, []).append(100 * (curve / reached - 1).clamp(-1, 1))
        learned[problem.name] = {"parameters": theta, "decision": torch.tensor(decision, dtype=torch.float64)}
    if families is None or "serial" in families:
        for instance in context.track(SERIAL, "serial lines", len(SERIAL)):
            started = time.process_time()
            start, level, curve = _train_line(instance, lines, rate["serial"], optimizer, context.seed)
            whole = instance.parameters["law"] == "poisson"
            cost, decision = min((serial_price(instance, levels=d)[1], d) for d in (whole_neighbours(level) if whole else [tuple(level)]))
            optimum = serial_price(instance)
            name = instance.name.removeprefix("textbook_")
            rows.append(_row(name, "serial", serial_price(instance, levels=start)[1], cost, decision, optimum, time.process_time() - started))
            curves.setdefault("serial", []).append(100 * (curve / optimum[1] - 1).clamp(-1, 1))
            learned[name] = {"decision": torch.tensor(decision, dtype=torch.float64)}
    answers = pd.DataFrame(printed(problems(anneal, context.seed)))
    return _outcome(pd.DataFrame(rows), answers, curves, learned, time.perf_counter() - begin, time.process_time() - begin_cpu)


def problems(anneal: Mapping[str, Anneal], seed: int) -> list[Problem]:
    """All of them but the serial lines, which are simulated.

    Args:
        anneal: "(s, S)", "finite horizon" -> how their triggers are read while training.
        seed: of the random starts.
    """
    return [
        *(lot_size(i) for i in textbook.LOT_SIZES),
        order_quantity(textbook.DISRUPTED, DisruptedSupply(**textbook.DISRUPTED.parameters), disrupted),
        *(order_quantity(i, UncertainYield(**i.parameters), uncertain_yield) for i in textbook.YIELDS),
        *(newsvendor(i) for i in textbook.NEWSVENDORS),
        poisson_newsvendor(textbook.POISSON_NEWSVENDOR),
        *(order_up_to(i, anneal["(s, S)"]) for i in (*textbook.ORDER_UP_TO, *average_cost_instances.FIXED_COSTS)),
        *(poisson_reorder(i) for i in textbook.POISSON_REORDER),
        *normal_reorder(textbook.NORMAL_REORDER),
        *(lot_plan(i, seed) for i in textbook.LOT_PLANS),
        *(joint_replenishment(i) for i in textbook.JOINT),
        *(horizon(i, anneal["finite horizon"]) for i in textbook.HORIZONS),
        *(service(i, seed) for i in textbook.SERVICE),
    ]


def _row(name: str, family: str, first: float, cost: float, decision: Sequence[float], optimum: tuple[Sequence[float], float], cpu: float) -> dict[str, Any]:
    return {
        "problem": name,
        "family": family,
        "start": first,
        "cost": cost,
        "optimum": optimum[1],
        "gap_pct": 100 * (cost / optimum[1] - 1),
        "decision": " ".join(f"{x:.6g}" for x in decision),
        "optimal_decision": " ".join(f"{x:.6g}" for x in optimum[0]),
        "cpu_s": cpu,
    }


def _train(problem: Problem, steps: int, rate: float, optimizer: Callable[..., torch.optim.Optimizer]) -> tuple[Tensor, Tensor]:
    """Parameters `(G, P)` after training on the logarithm of the cost, so that one learning rate serves money of any size; and the best start's costs."""
    theta = problem.start.clone().requires_grad_()
    history = fit(
        lambda _, done: problem.loss(theta, done).log(), optimizer=optimizer([theta], lr=rate), batches=lambda _: [None], epochs=steps,
        rate=lambda done: 1 - done,
    )  # fmt: skip
    curve = history.loss.exp()
    return theta.detach(), curve[:, int(curve[-1].argmin())]


def _train_line(
    instance: Instance, lines: Lines, rate: float, optimizer: Callable[..., torch.optim.Optimizer], seed: int
) -> tuple[list[float], list[float], Tensor]:
    """Echelon levels of a serial line by pathwise gradients: where they start, the mean of the last quarter of the steps, and the costs on the way.

    A period divides every lead time; in it demand is met, then every stage orders. Costs are those of the book's time unit.
    """
    p = instance.parameters
    unit = common_period(p["lead_time"])
    lead = torch.tensor([round(x / unit) for x in p["lead_time"]], dtype=torch.float64)
    mean = p["mean_demand"] * unit
    holding = torch.tensor(local_holding_cost(instance), dtype=torch.float64)
    share = (mean * (lead + 1) / mean).requires_grad_()  # in demands of a period
    start = (mean * share.detach()).cumsum(0).tolist()
    period, path = torch.arange(lines.periods)[:, None], torch.arange(lines.paths // 2)
    law = Poisson(torch.tensor(mean, dtype=torch.float64))
    tail: list[Tensor] = []

    def loss(_: Any, done: float) -> Tensor:
        u = noise.uniform(seed, f"textbook {instance.name} {round(done * lines.steps)}", period, path)
        u = torch.cat([u, 1 - u], -1)  # antithetic pairs
        demand = law.quantile(u) if p["law"] == "poisson" else mean + p["deviation"] * unit**0.5 * torch.special.ndtri(u)
        level = (mean * share).cumsum(0)
        if done >= 0.75:
            tail.append(level.detach())

        def want(state: State) -> Tensor:
            return base_stock_order(state.echelon_position(), level, relax=Exact())

        return average_cost(
            level, demand, want, lead_time=lead, holding_cost=holding, stockout_cost=p["stockout_cost"], order_first=False, charge_pipeline=True,
            warm_up=lines.warm_up,
        ).mean()  # fmt: skip

    history = fit(loss, optimizer=optimizer([share], lr=rate), batches=lambda _: [None], epochs=lines.steps, rate=lambda done: min(1.0, 2 * (1 - done)))
    return start, torch.stack(tail).mean(0).tolist(), history.loss


def common_period(lead_time: Sequence[float]) -> float:
    """The longest time of which all lead times are multiples."""
    parts = [Fraction(x).limit_denominator(1000) for x in lead_time]
    scale = math.lcm(*(x.denominator for x in parts))
    return float(Fraction(math.gcd(*(int(x * scale) for x in parts)), scale))


def printed(solved: Sequence[Problem]) -> list[dict[str, Any]]:
    """Every number that the book or its package prints, and what the referees compute, one row a number.

    Where the printed answer follows a convention, the referee follows it here; answers from a coarse grid cannot agree to the digit and are marked.
    """
    by_name = {p.name: p for p in solved}
    rows: list[dict[str, Any]] = []

    def add(instance: Instance, what: str, value: float, computed: float, *, grid: bool = False) -> None:
        digits = len(repr(float(value)).partition(".")[2])
        rows.append(
            {
                "instance": instance.name.removeprefix("textbook_"),
                "number": what,
                "printed": value,
                "computed": computed,
                "error_pct": 100 * abs(computed / value - 1),
                "agrees": abs(computed - value) <= 0.5 * 10.0**-digits * (1 + 1e-9),
                "grid": grid,
            }
        )

    order = {
        "order_quantity": 0, "level": 0, "reorder_point": 0, "backorder_share": 1, "order_up_to_level": 1,
    }  # fmt: skip
    plain = (*textbook.LOT_SIZES, textbook.DISRUPTED, *textbook.YIELDS, *textbook.NEWSVENDORS, textbook.POISSON_NEWSVENDOR, *textbook.ORDER_UP_TO)
    for instance in plain:
        decision, cost = by_name[instance.name.removeprefix("textbook_")].optimum
        for what, value in instance.known.items():
            add(instance, what, value, cost if what == "cost" else decision[order[what]])
    for instance in textbook.POISSON_REORDER:
        (r, q), cost = by_name[instance.name.removeprefix("textbook_")].optimum
        for what, computed in (("reorder_point", r), ("order_quantity", q), ("cost", cost)):
            add(instance, what, instance.known[what], computed)
    for instance in (*textbook.LOT_PLANS, *textbook.SERVICE):
        decision, cost = by_name[instance.name.removeprefix("textbook_")].optimum
        add(instance, "cost", instance.known["cost"], cost)
        for period, value in enumerate(instance.known.get("orders", [])):
            if value > 0:
                add(instance, f"order_{period + 1}", value, decision[period])
    for instance in textbook.JOINT:
        decision, cost = by_name[instance.name.removeprefix("textbook_")].optimum
        add(instance, "cost", instance.known["cost"], cost)
        for item, value in enumerate(instance.known["multiples"]):
            add(instance, f"multiple_{item + 1}", value, decision[item])
    for what, computed in zip(("reorder_point", "order_up_to_level"), power_approximation(**textbook.POWER_APPROXIMATION.parameters), strict=True):
        add(textbook.POWER_APPROXIMATION, what, textbook.POWER_APPROXIMATION.known[what], computed)
    normal = NormalReorder(**textbook.NORMAL_REORDER.parameters)
    for name in ("expected_inventory", "backorder_quantity", "safety_stock", "loss_function"):
        found = getattr(normal, name)()
        for what, value, computed in zip("rQ", textbook.NORMAL_REORDER.known[name], (found.reorder_point, found.order_quantity), strict=True):
            add(textbook.NORMAL_REORDER, f"{name}_{what}", value, computed)
    add(textbook.NORMAL_REORDER, "expected_inventory_cost", textbook.NORMAL_REORDER.known["expected_inventory_cost"], normal.expected_inventory().cost)
    for instance in textbook.HORIZONS:
        found_plan = FiniteHorizon(**instance.parameters, **instance.known["convention"]).optimum()
        add(instance, "cost", instance.known["cost"], found_plan.cost)
        for what in ("reorder_points", "order_up_to_levels"):
            for period, value in enumerate(instance.known.get(what, [])):
                add(instance, f"{what}_{period + 1}", value, getattr(found_plan, what)[period])
    for instance in textbook.SERIAL_POISSON:
        add(instance, "cost", instance.known["cost"], serial_price(instance, **instance.known["convention"])[1])
    for instance in textbook.SERIAL_NORMAL:
        add(instance, "cost", instance.known["grid_cost"], serial_price(instance)[1], grid=True)
    return rows


def _outcome(table: pd.DataFrame, answers: pd.DataFrame, curves: Mapping[str, list[Tensor]], learned: Mapping[str, Any], wall: float, cpu: float) -> Outcome:
    digits, grid = answers[~answers.grid], answers[answers.grid]
    worst = table.loc[table.gap_pct.idxmax()]
    metrics = {f"gap_pct_{row.problem}": row.gap_pct for row in table.itertuples()}
    metrics |= {
        "worst_gap_pct": table.gap_pct.max(),
        "problems": len(table),
        "worst_digit_error_pct": digits.error_pct.max(),
        "printed_numbers": len(digits),
        "printed_numbers_missed": int((~digits.agrees).sum()),
        "worst_grid_error_pct": grid.error_pct.max(),
        "wall_s": wall,
        "cpu_s": cpu,
    }
    ordered = sorted(curves, key=lambda family: -len(curves[family]))
    return Outcome(
        metrics=metrics,
        title="Answers of a textbook",
        summary=(
            f"{len(table)} textbook problems solved by gradients and priced exactly: at most {worst.gap_pct:.3f} % above the optimum ({worst.problem}). "
            f"The referees that price them agree with {int(digits.agrees.sum())} of {len(digits)} printed numbers to the last digit."
        ),
        sections=[
            Section(
                "The question",
                "Lot sizes, newsvendors, base-stock levels, (s, S), (r, Q), lot plans, finite horizons, serial lines and guaranteed service: a textbook solves "
                "each by a method of its own. Here each is written as a program from parameters to expected cost, and the gradient finds the decision. Whole "
                "decisions are trained as the real ones they are rounded from, and yes-or-no decisions as probabilities; the referee prices what comes out.",
            ),
            Section(
                "Decisions by gradients",
                "cost: of the decision found, priced by the referee; for whole decisions the best whole neighbour of what was trained. Lot plans start from 8 "
                "random plans, guaranteed service from 64, the finite horizon with a fixed cost from 4 cycle lengths; all others from one. The curves of the "
                "finite horizon, whose training visits inventories that no plan would lead to, are drawn above their own last value.",
                tables=("problems",),
                figures=("training",),
            ),
            Section(
                "Referees against the book",
                "agrees: equal to the last printed digit. Two conventions of the printed answers are followed to compare them: the finite-horizon problems "
                "leave out demand beyond four standard deviations, and the Poisson serial lines count demand beyond the same probability at its quantile; "
                "without them the costs are up to .05 % higher. The normal serial lines (grid) are printed from a coarse grid, so only their size can agree.",
                tables=("printed",),
            ),
        ],
        tables={"problems": table, "printed": answers},
        figures={
            "training": figures.curves(
                {family: torch.stack([_even(c) for c in curves[family]]) for family in ordered},
                x_label="per cent of the training done", y_label="trained cost above the optimum, %",
            )
        },
        learned=learned,
    )  # fmt: skip


def _even(curve: Tensor) -> Tensor:
    """A curve at every per cent of its steps."""
    return curve[(torch.arange(100) * len(curve) // 100)].cpu()
