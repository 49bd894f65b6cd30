"""Minimum order quantities, five ways: every route that makes an integer with a threshold trainable, on one problem whose optimum is known.

Each item is ordered not at all or at least its minimum; demand is random, an order has a fixed cost. Items do not interact, so enumeration gives the
optimum, and the routes can be judged: they are meant for programs in which enumeration is out of reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from dpsc import checks, noise
from dpsc.instances.orders import LARGEST, Orders, orders
from dpsc.objective import interpolated, newsvendor_table
from dpsc.relax import Anneal, Difference, Exact, Logistic, Poisson, Smoothed, at_least, estimate, order_gate, step
from dpsc.report import Outcome, Section, figures
from dpsc.training import fit
from experiments.context import RunContext

ROUTES = {
    "interpolate": "interpolate, then round",
    "surrogate": "annealed surrogate",
    "poisson": "Poisson deviates",
    "softmax": "softmax network",
    "gate": "order gate",
}
WHEN = {
    "interpolate": "no thresholds: only the rounding of smooth costs",
    "surrogate": "many coupled thresholds and no better idea; several starts and schedules, then an exact check",
    "poisson": "programs that only accept whole numbers, where the order is really random, or for a first direction",
    "softmax": "few options an item, a rule that must carry over to new items",
    "gate": "whenever the structure is known: whether, then how much",
}


class Problem:
    """Expected cost of every whole order of every item, with and without what is not allowed.

    Attributes:
        items: their parameters.
        newsvendor: `(N, 201)` cost of stock left and demand lost.
        total: the same with the fixed cost of an order.
        allowed: `(N, 201)` bool.
        optimum: sum of the smallest allowed costs.
    """

    def __init__(self, items: Orders) -> None:
        self.items = items
        quantity = torch.arange(LARGEST + 1, dtype=torch.float64, device=items.mean_demand.device)
        self.newsvendor = newsvendor_table(items.mean_demand, items.holding_cost, items.stockout_cost, largest=LARGEST)
        self.total = self.newsvendor + items.order_cost[:, None] * (quantity > 0)
        self.allowed = (quantity == 0) | (quantity >= items.minimum_order[:, None])
        self.best = torch.where(self.allowed, self.total, torch.inf).min(1)
        self.optimum = float(self.best.values.sum())

    def price(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """`(N,)` exact cost of whole orders, and whether each is allowed."""
        index = order.long()[:, None]
        whole = (order == order.round()) & (order >= 0) & (order <= LARGEST)
        return self.total.gather(1, index.clamp(0, LARGEST))[:, 0], self.allowed.gather(1, index.clamp(0, LARGEST))[:, 0] & whole

    def lift(self, order: Tensor) -> Tensor:
        """The nearest allowed whole order, read exactly."""
        return at_least(order.detach().round().clamp(0, LARGEST), self.items.minimum_order, relax=Exact())


def run(
    *,
    context: RunContext,
    items: Mapping[str, int],
    steps: Mapping[str, int],
    optimizer: Callable[..., torch.optim.Optimizer],
    network: Callable[[int, int], nn.Module],
    network_optimizer: Callable[..., torch.optim.Optimizer],
    temperature: Mapping[str, float],
) -> Outcome:
    """Solve the problem by every route and compare.

    Args:
        context: of the run.
        items: `count` and `seed` of the generator.
        steps: route -> how many.
        optimizer: of orders, a partial of torch.optim.
        network: `(features, options) -> module` of the softmax route.
        network_optimizer: of its weights.
        temperature: `start`, `end` and `scale` (units) of the annealed surrogate.
    """
    checks.exact_names("steps", steps, ROUTES)
    problem = Problem(Orders(*(x.to(context.device) for x in orders(items["count"], seed=items["seed"]))))
    anneal = Anneal(Smoothed, Logistic, temperature["start"], temperature["end"])
    routes: dict[str, Callable[[], Tensor]] = {
        "interpolate": lambda: interpolate(problem, optimizer, steps["interpolate"]),
        "surrogate": lambda: surrogate(problem, optimizer, steps["surrogate"], anneal, temperature["scale"]),
        "poisson": lambda: poisson(problem, optimizer, steps["poisson"], context.seed),
        "softmax": lambda: softmax(problem, network_optimizer, steps["softmax"], network),
        "gate": lambda: gate(problem, optimizer, steps["gate"]),
    }
    gate(problem, optimizer, 2)  # the first call of anything pays for its own start
    found, seconds = {}, {}
    for name in context.track(routes, "routes", len(routes)):
        start = time.perf_counter()
        found[name] = routes[name]()
        seconds[name] = time.perf_counter() - start
    spread = []
    for scale in (5.0, 20.0, 80.0):
        for decay in (False, True):
            order = surrogate(problem, optimizer, steps["surrogate"], anneal, scale, decay=decay)
            spread.append({"scale_units": scale, "rate": "decaying" if decay else "constant", "gap_pct": _gap(problem, order)})
    return _outcome(problem, found, seconds, pd.DataFrame(spread), temperature["scale"])


# ------------------------------------------------------------------------------------------------------------------ the routes


def interpolate(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int) -> Tensor:
    """Real orders on the interpolated cost; minimum and fixed cost enter only when the result is rounded."""
    log_order = _start(problem)
    _descend(lambda _: interpolated(problem.newsvendor, log_order.exp()).sum(), [log_order], optimizer, steps)
    return problem.lift(log_order.exp())


def surrogate(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int, anneal: Anneal, scale: float, *, decay: bool = False) -> Tensor:
    """The threshold becomes a sigmoid that hardens: both the minimum order and the fixed cost are blurred."""
    log_order, smallest = _start(problem), problem.items.minimum_order

    def loss(done: float) -> Tensor:
        order = log_order.exp()
        opened = step(order - smallest / 2, relax=anneal(done), scale=scale)
        return (interpolated(problem.newsvendor, opened * torch.maximum(order, smallest)) + problem.items.order_cost * opened).sum()

    _descend(loss, [log_order], optimizer, steps, decay=decay)
    return problem.lift(log_order.exp())


def poisson(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int, seed: int) -> Tensor:
    """The order is a Poisson count whose rate is trained through the exact program, by the difference identity."""
    log_rate = _start(problem)
    item = torch.arange(len(log_rate), device=log_rate.device)[None]

    def program(count: Tensor) -> Tensor:
        order = at_least(count.clamp(0, LARGEST), problem.items.minimum_order, relax=Exact())
        return problem.total.expand(*count.shape, LARGEST + 1).gather(-1, order.long()[..., None])[..., 0]

    def loss(done: float) -> Tensor:
        drawn = noise.uniform(seed, "moq poisson", item, torch.full_like(item, round(done * steps)))
        return estimate(program, Poisson(log_rate.exp()), drawn, Difference()).sum()

    _descend(loss, [log_rate], optimizer, steps, decay=True)
    return problem.lift(log_rate.exp())


def softmax(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int, network: Callable[[int, int], nn.Module]) -> Tensor:
    """A shallow network, shared by the items, ends in a softmax over the allowed orders; its expected cost is exact."""
    x = torch.stack([torch.log(v) for v in problem.items[:5]], -1)
    x = (x - x.mean(0)) / x.std(0)
    model = network(x.shape[1], LARGEST + 1).to(x)
    scale = problem.total.mean()
    closed = ~problem.allowed

    def loss(_: float) -> Tensor:
        weight = torch.softmax(model(x).masked_fill(closed, -torch.inf), -1)
        return (weight * problem.total).sum(-1).mean() / scale

    _descend(loss, list(model.parameters()), optimizer, steps, decay=True)
    with torch.no_grad():
        return model(x).masked_fill(closed, -torch.inf).argmax(-1).to(x.dtype)


def gate(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int) -> Tensor:
    """Whether to order is a gate with a probability of its own, and the expectation over it is exact; how much to order starts above the minimum."""
    log_order = torch.maximum(problem.items.mean_demand, problem.items.minimum_order).add(1).log().requires_grad_()
    logit = torch.zeros_like(log_order).requires_grad_()
    nothing, smallest, fixed = problem.newsvendor[:, 0], problem.items.minimum_order, problem.items.order_cost

    def loss(_: float) -> Tensor:
        opened = torch.sigmoid(logit)
        return (opened * (interpolated(problem.newsvendor, torch.maximum(log_order.exp(), smallest)) + fixed) + (1 - opened) * nothing).sum()

    _descend(loss, [log_order, logit], optimizer, steps, decay=True)
    order = torch.maximum(log_order.detach().exp().round().clamp(0, LARGEST), smallest)
    return torch.where(logit.detach() > 0, order, torch.zeros_like(order))


def _start(problem: Problem) -> Tensor:
    return (problem.items.mean_demand + 1).log().requires_grad_()


def _descend(
    loss: Callable[[float], Tensor], parameters: list[Tensor], optimizer: Callable[..., torch.optim.Optimizer], steps: int, *, decay: bool = False
) -> None:
    fit(
        lambda _, done: loss(done),
        optimizer=optimizer(parameters),
        batches=lambda _: [None],
        epochs=steps,
        rate=(lambda done: 1 - done) if decay else None,
    )


# ------------------------------------------------------------------------------------------------------------------ the report


def _gap(problem: Problem, order: Tensor) -> float:
    return 100 * (float(problem.price(order)[0].sum()) / problem.optimum - 1)


def _outcome(problem: Problem, found: Mapping[str, Tensor], seconds: Mapping[str, float], spread: pd.DataFrame, scale: float) -> Outcome:
    metrics: dict[str, float] = {"optimum": problem.optimum}
    rows: list[dict[str, Any]] = []
    lost: dict[str, Tensor] = {}
    infeasible = 0
    for name, label in ROUTES.items():
        cost, allowed = problem.price(found[name])
        gap, bad = _gap(problem, found[name]), int((~allowed).sum())
        infeasible += bad
        metrics |= {f"gap_pct_{name}": gap, f"wall_s_{name}": seconds[name]}
        lost[label] = (cost - problem.best.values).cpu()
        rows.append({"route": label, "gap_pct": gap, "wall_s": seconds[name], "infeasible": bad, "same_order_pct": 100 * float(
            (found[name] == problem.best.indices).double().mean()), "use_it_for": WHEN[name]})  # fmt: skip
    best = min(ROUTES, key=lambda name: metrics[f"gap_pct_{name}"])
    metrics |= {"best_gap_pct": metrics[f"gap_pct_{best}"], "best_wall_s": seconds[best], "infeasible_rows": infeasible}
    metrics |= {"surrogate_gap_pct_smallest": float(spread.gap_pct.min()), "surrogate_gap_pct_largest": float(spread.gap_pct.max())}
    return Outcome(
        metrics=metrics,
        title="Minimum order quantities, five ways",
        summary=(
            f"The exact optimum of {len(problem.items.minimum_order)} items is {problem.optimum:,.1f}. The {ROUTES[best]} comes within "
            f"{metrics['best_gap_pct']:.3f} % in {seconds[best]:.2f} s; rounding an interpolated plan loses {metrics['gap_pct_interpolate']:.1f} %, "
            f"and an annealed surrogate {metrics['gap_pct_surrogate']:.1f} %, or anything from {spread.gap_pct.min():.1f} to "
            f"{spread.gap_pct.max():.1f} % with another schedule."
        ),
        sections=[
            Section(
                "The question",
                "Every item is ordered not at all or at least its minimum quantity, in whole units up to 200. Demand is Poisson; units left over and units "
                "short cost money, and so does placing an order. What is missed here is the step: an order of half the minimum costs as much as it gains.\n\n"
                "The items do not interact, so the best order of each is found by trying all of them. That makes the problem a test of the routes, "
                "not a problem that needs them.",
            ),
            Section("Result", "Cost above the optimum of whole, allowed orders, priced exactly.", tables=("routes",), figures=("lost",)),
            Section(
                "Which route when",
                "Interpolation is right as long as costs are smooth between integers, and wrong at every threshold. A surrogate blurs the cost itself: half an "
                "order pays half of the fixed cost, so that orders exist in training which nobody can place, and whether an item leaves that state before "
                "the temperature falls depends on the schedule (second table). Poisson orders see the exact program, but their spread cannot shrink below "
                "the root of their mean, so they are trained for a world with random orders. A softmax over orders is exact in expectation; a network that "
                "shares it over items is as good as its features. The gate takes the structure as it is: a probability of ordering, a quantity given an "
                "order, and the exact expectation over the two branches. No cost is smoothed, so the optimum of the relaxed problem is the optimum.\n\n"
                "The figure shows one item. The true cost jumps where ordering begins. Its smoothed versions have their lowest point where there is no order "
                "to be had; the expected cost of the gate is a straight line between the two branches and has its lowest point at one of them.",
                figures=("why", "branches"),
            ),
            Section("How much the schedule decides", "The surrogate with other temperatures (scale, in units) and learning rates.", tables=("schedules",)),
        ],
        tables={"routes": pd.DataFrame(rows), "schedules": spread},
        figures={"lost": figures.distribution(lost, label="money lost an item against its best order"), **_pictures(problem, scale)},
        learned={name: {"order": order.cpu()} for name, order in found.items()},
    )


def _pictures(problem: Problem, scale: float) -> dict[str, Any]:
    """The cost of one item for which not ordering is nearly as good as ordering, true and blurred."""
    items = problem.items
    nothing = problem.newsvendor[:, 0]
    ordered = torch.where(problem.allowed[:, 1:], problem.total[:, 1:], torch.inf).min(1).values
    near = ((ordered - nothing).abs() / problem.best.values + (items.minimum_order < 30)).argmin()
    table, smallest, fixed = problem.newsvendor[near], items.minimum_order[near], items.order_cost[near]
    order = torch.arange(1, 121, dtype=torch.float64, device=table.device)

    def blurred(temperature: float) -> Tensor:
        opened = step(order - smallest / 2, relax=Smoothed(Logistic(temperature)), scale=scale)
        return interpolated(table.expand(len(order), -1), opened * torch.maximum(order, smallest)) + fixed * opened

    whole = at_least(order, smallest, relax=Exact())
    true = table[whole.long()] + fixed * order_gate(whole, relax=Exact())
    share = torch.linspace(0, 1, 101, dtype=torch.float64, device=table.device)
    return {
        "why": figures.curves(
            {"true": true, **{f"sigmoid, temperature {t:g}": blurred(t) for t in (1.0, 0.3, 0.1)}},
            x_label=f"wanted order, units (minimum {int(smallest)})",
            y_label="expected cost of one item, money",
        ),
        "branches": figures.curves(
            {"expected cost of the gate": share * ordered[near] + (1 - share) * nothing[near]},
            x_label="probability of ordering, %",
            y_label="expected cost of one item, money",
        ),
    }
