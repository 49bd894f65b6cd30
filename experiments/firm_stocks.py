"""Where to hold more stock in a network of firms: gradients through the simulator against greedy, gradient-free search and rules of thumb."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import noise
from dpsc.report import Outcome, Section, economy, figures
from dpsc.report.search_curves import SearchTrace, search_curves
from dpsc.scenarios import firm_stocks as scenario
from dpsc.scenarios import systemic_risk
from dpsc.search.gradient_free import Method, minimise
from dpsc.simulate import firms
from experiments.context import RunContext


def run(
    *,
    context: RunContext,
    network: firms.Network,
    shocks: scenario.Shocks,
    risk: Callable[..., Tensor],
    stock_median: float,
    stock_spread: float,
    adjustment_time: float,
    capacity: float,
    budget_share: float,
    train: int,
    test: int,
    steps: int,
    learning_rate: float,
    sharpness: list[float],
    increments: int,
    method: Method,
    method_evaluations: int,
) -> Outcome:
    """Design stocks in five ways on the same shocks, and price them on others.

    Args:
        context: of the run.
        network: of firms.
        shocks: their distribution.
        risk: measure that is minimised and reported.
        stock_median: of the stocks that firms hold, in steps of their own use.
        stock_spread: standard deviation of their logarithm.
        adjustment_time: tau, steps.
        capacity: over output at rest.
        budget_share: budget over the value of all stocks.
        train: shocks that the designs see.
        test: fresh shocks that price them.
        steps: of the gradient method.
        learning_rate: of Adam.
        sharpness: of the straight-through minimum, first and last.
        increments: of greedy.
        method: gradient-free.
        method_evaluations: its budget; one design on all training shocks is one evaluation.
    """
    everyone = torch.arange(network.firms)
    inventory = (stock_median * torch.exp(stock_spread * noise.normal(context.seed, "stock", everyone))).clamp_min(1.0)
    design = scenario.Design(network, inventory, adjustment_time=adjustment_time, capacity=capacity, budget_share=budget_share, risk=risk)
    seen = shocks.draw(network.firms, shocks=train, seed=context.seed)
    fresh = shocks.draw(network.firms, shocks=test, seed=context.seed + 1)
    nothing = torch.zeros_like(inventory)
    designs: dict[str, tuple[Tensor, int, float]] = {
        "none": (nothing, 0, 0.0),
        "proportional": (budget_share * inventory, 0, 0.0),
        "equal": (design.extra(nothing), 0, 0.0),
    }
    traces: dict[str, SearchTrace] = {}
    for name in context.track(("gradient", "greedy", "gradient_free"), "designs", 3):
        begin = time.process_time()
        if name == "gradient":
            found, values, used = scenario.by_gradient(design, seen, steps=steps, learning_rate=learning_rate, sharpness=(sharpness[0], sharpness[1]))
        elif name == "greedy":
            with torch.no_grad():
                found, values, used = scenario.greedy(design, seen, increments=increments)
        else:
            with torch.no_grad():
                searched = minimise(
                    lambda theta: design.value(design.extra(theta), seen),
                    nothing,
                    method=method,
                    evaluations=method_evaluations,
                    seed=context.seed,
                    clock=time.process_time,
                )
            found, values, used = design.extra(searched.point), searched.trace.value, searched.evaluations
        spent = time.process_time() - begin
        designs[name] = (found, used, spent)
        if name == "gradient_free":
            traces[name] = SearchTrace(searched.trace.evaluations, searched.trace.seconds, values)
        else:
            at = torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values)
            traces[name] = SearchTrace((at * used).tolist(), (at * spent).tolist(), values)

    metrics: dict[str, float] = {}
    rows, losses = [], {}
    with torch.no_grad():
        for name, (extra, used, spent) in designs.items():
            loss = design.loss(extra[None], fresh)[0]
            losses[name] = loss
            value = float(risk(loss, dim=-1))
            metrics |= {f"risk_{name}": value}
            row: dict[str, Any] = {"design": name, "risk on fresh shocks, %": value, "mean loss, %": float(loss.mean())}
            row |= {"risk on training shocks, %": float(design.value(extra[None], seen)), "evaluations": used, "cpu_s": spent}
            row |= {"spent": float((extra * design.unit).sum()), "firms for half of it": _half(extra * design.unit)}
            rows.append(row)
            if used:
                metrics |= {f"evaluations_{name}": used, f"cpu_s_{name}": spent}
    for rival in ("equal", "greedy", "gradient_free"):
        metrics[f"below_{rival}_pct"] = 100 * (1 - metrics["risk_gradient"] / metrics[f"risk_{rival}"])
    best = designs["gradient"][0]
    parameters = firms.Parameters(inventory=inventory, adjustment_time=adjustment_time, capacity=capacity)
    begin = time.process_time()
    slope = systemic_risk.by_gradient(network, parameters, horizon=shocks.horizon, onset=shocks.onset)
    one_gradient = time.process_time() - begin
    with torch.no_grad():
        removed = systemic_risk.removal(network, parameters, horizon=shocks.horizon, onset=shocks.onset)
    metrics |= {
        "rank_correlation": systemic_risk.rank_correlation(slope, removed),
        "rank_correlation_size": systemic_risk.rank_correlation(network.output, removed),
        "rank_correlation_stock": systemic_risk.rank_correlation(removed, best * design.unit),
        "removal_over_gradient_cpu": (time.process_time() - begin - one_gradient) / one_gradient,
    }
    return Outcome(
        metrics=metrics,
        title="Stocks against shocks: which firms should hold more",
        summary=(
            f"With {100 * budget_share:.0f} % more money in stocks, the mean loss of output in the worst shocks falls from {metrics['risk_none']:.2f} % to "
            f"{metrics['risk_gradient']:.2f} % where gradients place it, {metrics['risk_greedy']:.2f} % where greedy does, "
            f"{metrics['risk_gradient_free']:.2f} % by gradient-free search, {metrics['risk_equal']:.2f} % where every firm gets the same number of steps. "
            f"All on {test} shocks that no design has seen."
        ),
        sections=[
            Section(
                "The question",
                f"{network.firms} firms and {network.edges} links. Shocks strike {100 * shocks.hit:.0f} % of the firms at random. What is bought with the "
                "budget is extra stock of inputs, priced at what the inputs cost; the design says which firms hold it. The loss is output over the horizon "
                "below the usual.",
            ),
            Section(
                "Designs",
                f"Every design spends the same money but the first. The histograms show the loss in each of the {test} fresh shocks, the line its mean; what "
                f"is compared is the tail, by {type(risk).__name__} of the losses. Below, how the risk on the {train} shocks of the search falls with the "
                "evaluations (all training shocks once are one, and their gradient another) and with processor seconds.",
                tables=("designs",),
                figures=("risk", "search"),
            ),
            Section("Where the stock goes", "Colour: steps of extra stock by the gradient design.", figures=("map",)),
            Section(
                "Which firms would be missed most",
                "What final demand loses when a firm stops for good, by removing the firms one by one, against one gradient at rest (straight-through, "
                f"sharpness 1): rank correlation {metrics['rank_correlation']:.3f}, that of size alone {metrics['rank_correlation_size']:.3f}. Holding stock "
                f"is another matter: the money that a firm gets has rank correlation {metrics['rank_correlation_stock']:.3f} with being missed.",
                figures=("ranks",),
            ),
        ],
        tables={"designs": pd.DataFrame(rows)},
        figures={
            "risk": figures.distribution({name: losses[name] for name in ("none", "equal", "greedy", "gradient")}, label="output lost in a fresh shock, %"),
            "ranks": figures.scatter_pairs(
                systemic_risk.percent_rank(slope), systemic_risk.percent_rank(removed), x_label="rank by gradient, %", y_label="rank by removal, %"
            ),
            "search": search_curves({"training shocks": traces}, label="risk on the training shocks, %"),
            "map": economy.network_map(
                network.supplier,
                network.buyer,
                network.coefficient * network.output[network.buyer],
                sector=network.sector,
                sector_names=[f"sector {k + 1}" for k in range(int(network.sector.max()) + 1)],
                size=network.output,
                value=best,
                value_label="extra stock, steps of own use",
            ),
        },
        learned={"design": {"extra": best, "inventory": inventory}},
    )


def _half(money: Tensor) -> int:
    """How few firms hold half of the money."""
    ordered = money.sort(descending=True).values.cumsum(0)
    return int((ordered < 0.5 * ordered[-1]).sum()) + 1 if float(ordered[-1]) > 0 else 0
