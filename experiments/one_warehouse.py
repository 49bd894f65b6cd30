"""One warehouse, many stores, lost sales: a network that is symmetric in stores against a tuned echelon base-stock policy, and the gap to a lower bound."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import demand
from dpsc.data.stores import StoreNetwork, one_warehouse
from dpsc.decision.policies import EchelonBaseStock, NeuralLevels
from dpsc.decision.rationing import Ration, balanced, proportional
from dpsc.errors import InputError
from dpsc.objective.intervals import Interval, mean_interval
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, figures
from dpsc.report.inventory import policy_surface
from dpsc.search.foresight import ForesightBound, Reference, surprises
from dpsc.simulate.world import start
from dpsc.training import fit
from dpsc.types import Context, Policy
from experiments.context import RunContext
from experiments.warehouse import ECHELON, NEURAL, Futures, Setting, Trained, Watched, compare, pictures, play, train, watch

RATIONS: dict[str, Ration] = {"balanced": balanced, "proportional": proportional}
TRACE = 256  # futures of the figures and of the bound
POINTS = (0.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # deviations from the mean at which foresight may be charged; the first one stands for zero demand


def run(
    *,
    context: RunContext,
    stores: list[int],
    paths: int,
    periods: int,
    warm_up: int,
    echelon_steps: int,
    neural_steps: int,
    echelon_optimizer: Callable[..., torch.optim.Optimizer],
    neural_optimizer: Callable[..., torch.optim.Optimizer],
    hidden: int,
    report_paths: int,
    report_periods: int,
    report_warm_up: int,
    bound_steps: list[int],
    bound_paths: int,
    bound_optimizer: Callable[..., torch.optim.Optimizer],
    draw: int = 2306,
) -> Outcome:
    """Train both policies, compare them on fresh futures, bound the optimum.

    Args:
        context: of the run.
        stores: sizes of the networks.
        paths: futures a gradient step, fresh every step.
        periods: of a training future.
        warm_up: first periods of it, not counted.
        echelon_steps: gradient steps of each echelon policy, one for every ration.
        neural_steps: gradient steps of the network, from the levels of the best echelon policy.
        echelon_optimizer: partial of torch.optim.
        neural_optimizer: partial of torch.optim.
        hidden: width of the network.
        report_paths: futures of the comparison.
        report_periods: of such a future.
        report_warm_up: first periods of it, not counted.
        bound_steps: gradient steps on the charges of the bound, for each size.
        bound_paths: futures of such a step.
        bound_optimizer: partial of torch.optim.
        draw: seed of the networks' numbers.
    """
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    checks_: list[dict[str, Any]] = []
    shown: dict[str, Any] = {}
    differences: dict[str, tuple[float, float, float]] = {}
    learned: dict[str, dict[str, Tensor]] = {}
    if len(bound_steps) != len(stores):
        raise InputError(f"bound_steps must have an entry for each of the {len(stores)} sizes of stores, got {bound_steps}")
    for n, charging in zip(context.track(stores, "networks", len(stores)), bound_steps, strict=True):
        setting = Setting.of(one_warehouse(n, seed=draw))
        single = setting.to(torch.float32)
        begin = time.process_time()

        def futures(step: int, use: str = "optimise", size: int = paths, length: int = periods, of: Setting = single) -> Futures:
            return _futures(of.network, context.seed, use, step, size, length)

        tuned: dict[str, tuple[Policy, Trained, float]] = {}
        for name, ration in RATIONS.items():
            policy = _echelon(single.network, single.supplier, ration)
            trained = train(single, policy, futures, steps=echelon_steps, warm_up=warm_up, optimizer=echelon_optimizer)
            with torch.no_grad():
                chosen_by = float(play(single, policy, futures(0, "select", length=report_periods), warm_up=report_warm_up).mean())
            tuned[name] = (policy, trained, chosen_by)
        best = min(tuned, key=lambda name: tuned[name][2])
        echelon = tuned[best][0]
        network = _network(single.network, single.supplier, echelon, RATIONS[best], hidden, context.seed)
        learning = train(single, network, futures, steps=neural_steps, warm_up=warm_up, optimizer=neural_optimizer)
        trained_s = time.process_time() - begin

        echelon, network = echelon.double(), network.double()
        report = _futures(setting.network, context.seed, "report", 0, report_paths, report_periods)
        with torch.no_grad():
            costs = {name: play(setting, policy, report, warm_up=report_warm_up) for name, policy in ((ECHELON, echelon), (NEURAL, network))}
        found = compare(costs[ECHELON], costs[NEURAL])
        gain, level = _local_gain(setting, echelon, _futures(setting.network, context.seed, "select", 1, TRACE // 2, report_periods), report_warm_up)
        bound_begin = time.process_time()
        bound, curve = _bound(single, network, context.seed, report_warm_up, charging, bound_paths, bound_optimizer)
        cpu_s = time.process_time() - begin
        mean = {name: mean_interval(cost) for name, cost in costs.items()}
        low, high = float(found.difference_pct.low), float(found.difference_pct.high)
        metrics |= {
            f"not_worse_{n}": high,
            f"difference_pct_{n}": float(found.difference_pct.estimate),
            f"difference_pct_{n}_low": low,
            f"cost_echelon_{n}": float(mean[ECHELON].estimate),
            f"cost_neural_{n}": float(mean[NEURAL].estimate),
            f"bound_{n}": float(bound.estimate),
            f"gap_to_bound_pct_{n}": 100 * (float(mean[NEURAL].estimate) / float(bound.estimate) - 1),
            f"gap_to_bound_pct_{n}_high": 100 * (float(mean[NEURAL].high) / float(bound.low) - 1),
            f"echelon_gap_to_bound_pct_{n}": 100 * (float(mean[ECHELON].estimate) / float(bound.estimate) - 1),
            f"echelon_local_gain_pct_{n}": gain,
            f"cpu_s_{n}": cpu_s,
            f"training_cpu_s_{n}": trained_s,
        }
        rows.append(
            {
                "stores": n,
                "echelon_cost": float(mean[ECHELON].estimate),
                "neural_cost": float(mean[NEURAL].estimate),
                "cost_half_width": float(mean[NEURAL].half_width),
                "difference_pct": float(found.difference_pct.estimate),
                "low": low,
                "high": high,
                "bound": float(bound.estimate),
                "bound_half_width": float(bound.half_width),
                "gap_to_bound_pct": metrics[f"gap_to_bound_pct_{n}"],
                "ration": best,
                "training_cpu_s": trained_s,
                "bound_cpu_s": cpu_s + begin - bound_begin,
            }
        )
        checks_.append({"stores": n, "best_single_change": level, "gain_pct": gain, **{f"cost_{name}": value[2] for name, value in tuned.items()}})
        differences[f"{n} stores"] = (float(found.difference_pct.estimate), low, high)
        watched = {ECHELON: watch(setting, echelon, _some(report, TRACE)), NEURAL: watch(setting, network, _some(report, TRACE))}
        shown |= pictures(setting, watched, costs, warm_up=report_warm_up, period="period", prefix=f"stores_{n}")
        shown[f"stores_{n}_training"] = figures.curves(
            {ECHELON: tuned[best][1].loss, NEURAL: learning.loss}, x_label="step", y_label="simulated cost a period, money"
        )
        shown[f"stores_{n}_bound"] = figures.curves({"lower bound": curve}, x_label="step", y_label="bound, money a period")
        shown[f"stores_{n}_surface"] = _surface(setting, {ECHELON: echelon, NEURAL: network})
        learned |= {f"echelon_{n}": echelon.state_dict(), f"neural_{n}": network.state_dict(), f"network_{n}": _numbers(setting.network)}
    worst = max(metrics[f"not_worse_{n}"] for n in stores)
    saved = [-estimate for estimate, _, _ in differences.values()]
    return Outcome(
        metrics=metrics,
        title="One warehouse, many stores, lost sales",
        summary=(
            f"A small network that is symmetric in stores costs {min(saved):.1f} to {max(saved):.1f} % less than a tuned echelon base-stock policy on futures "
            f"that neither has seen (the worst upper end of a 95 % interval of the difference is {worst:+.2f} %), and is at most "
            f"{max(metrics[f'gap_to_bound_pct_{n}'] for n in stores):.0f} % above a lower bound of every policy."
        ),
        sections=[
            Section(
                "The question",
                "Stores sell one product, demand is random and correlated, what is not on the shelf is lost. A warehouse supplies them after two or three "
                "periods, and is itself supplied after three. Who should hold how much, and who gets what when the warehouse runs short? HDPO's setting with "
                "numbers drawn anew; orders are continuous, as there. In a period, what is due arrives, orders are placed and shipped, demand comes, costs are "
                "booked.",
            ),
            Section(
                "Result",
                "Both policies are trained on the mean cost by pathwise gradients, on fresh futures at every step, and compared on the same report futures. "
                "difference_pct is the network's cost less the echelon policy's, path by path, in per cent of the latter's mean, with Student's 95 % interval "
                "from low to high; not worse means high <= 0. The echelon policy has a level for every store and the warehouse, in two versions: a shortage is "
                "shared in proportion to the wants, or by a quadratic program with trained weights; the better one on the select futures is used.\n\n"
                "The bound holds for every policy that cannot see the future: with foresight, at a charge that is zero on average for whoever has none, the "
                "problem falls apart into units. How much of the gap is the policy's and how much the bound's is not known.",
                tables=("networks",),
                figures=("differences",),
            ),
            Section(
                "Is the echelon policy tuned?",
                "Every single level of the echelon policy is moved by 2 % up and down, on select futures: gain_pct is what the best of these moves would save.",
                tables=("tuning",),
            ),
            *(
                Section(
                    f"{n} stores",
                    "Trajectories and what the cost is made of (the first 256 report futures), how it spreads (all), and what store 1 is sent as stocks vary.",
                    figures=tuple(f"stores_{n}_{name}" for name in ("trajectories", "breakdown", "distribution", "surface", "training", "bound")),
                )
                for n in stores
            ),
        ],
        tables={"networks": pd.DataFrame(rows), "tuning": pd.DataFrame(checks_)},
        figures={"differences": figures.intervals(differences, label="network less echelon base-stock, % of its cost, 95 % interval"), **shown},
        learned=learned,
    )


def _futures(of: StoreNetwork, seed: int, use: str, step: int, paths: int, periods: int) -> Futures:
    """Correlated normal demand, cut at zero; everyone starts with two periods of demand."""
    at = demand.Futures(seed, use=use, items=of.stores, paths=paths, periods=periods, dtype=of.mean.dtype).batch(step)
    drawn = demand.clipped_normal(of.mean, of.deviation, at=at, correlation=of.correlation)
    return Futures(drawn, 2 * torch.cat([of.mean, of.mean.sum()[None]]))


def _some(futures: Futures, paths: int) -> Futures:
    return futures._replace(demand=futures.demand[:, :paths])


def _scale(of: StoreNetwork) -> Tensor:
    return torch.cat([of.mean, of.mean.sum()[None]])


def _echelon(of: StoreNetwork, supplier: Tensor, ration: Ration) -> EchelonBaseStock:
    """Levels that cover the lead time and a period more, with a safety stock of one deviation of that demand."""
    cover = of.lead_time[:-1] + 1
    store = of.mean * cover + of.deviation * cover.sqrt()
    pooled = ((1 - of.correlation) * (of.deviation**2).sum() + of.correlation * of.deviation.sum() ** 2).sqrt()
    total = (of.mean * (cover + of.lead_time[-1])).sum() + pooled * math.sqrt(float(of.lead_time[-1]) + 3)
    weight = torch.cat([of.deviation, of.deviation.mean()[None]]) if ration is balanced else None
    return EchelonBaseStock(torch.cat([store, total[None]]), supplier, weight=weight, ration=ration, scale=_scale(of), whole=False)


def _network(of: StoreNetwork, supplier: Tensor, begin: EchelonBaseStock, ration: Ration, hidden: int, seed: int) -> NeuralLevels:
    """From the levels of an echelon policy."""
    fixed = torch.stack([of.lead_time[:-1] - 2.5, (of.holding_cost[:-1] - 1) * 2, (of.lost_sale[:-1] - 9) / 2, (of.deviation / of.mean - 0.375) * 5], -1)
    with torch.no_grad():
        level = begin.level(relax=Exact())[0]
        weight = None if begin.weight is None else begin.weight(relax=Exact())[0]
    return NeuralLevels(
        level,
        supplier,
        slots=int(of.lead_time.max()) - 1,
        scale=_scale(of),
        features=torch.cat([fixed, torch.zeros_like(fixed[:1])]).to(level.dtype),
        hidden=hidden,
        weight=weight,
        ration=ration,
        whole=False,
        generator=torch.Generator().manual_seed(seed),
    )


def _local_gain(setting: Setting, policy: EchelonBaseStock, futures: Futures, warm_up: int, move: float = 0.02) -> tuple[float, str]:
    """What the best change of one level by 2 % saves, per cent, and which one it is; all candidates meet the same futures."""
    with torch.no_grad():
        level = policy.level(relax=Exact())[0]
        points = len(level)
        factors = torch.cat([torch.ones(1, points), 1 + move * torch.eye(points), 1 - move * torch.eye(points)]).to(level)
        weight = None if policy.weight is None else policy.weight(relax=Exact())[0].expand(len(factors), -1)
        costs = []
        for some, shares in zip((level * factors).split(16), factors.split(16), strict=True):
            of = None if weight is None else weight[: len(shares)]
            moved = EchelonBaseStock(some, setting.supplier, weight=of, ration=policy.ration, scale=policy.level.scale, whole=False)
            costs.append(play(setting, moved, futures, warm_up=warm_up).mean(-1))
        cost = torch.cat(costs)
    best = int(cost.argmin())
    name = (
        "none"
        if best == 0
        else f"{'warehouse' if (best - 1) % points == points - 1 else f'store {(best - 1) % points + 1}'} {'up' if best <= points else 'down'}"
    )
    return 100 * float(1 - cost[best] / cost[0]), name


def _bound(
    setting: Setting, policy: Policy, seed: int, warm_up: int, steps: int, paths: int, optimizer: Callable[..., torch.optim.Optimizer]
) -> tuple[Interval, Tensor]:
    """The bound on fresh futures, and its value while the charges were trained. The policy is the reference."""
    of = setting.network
    look_ahead, length = 25, warm_up + 65
    double = setting.to(torch.float64)

    def reference(step: int, use: str, size: int) -> Reference:
        futures = _futures(double.network, seed, use, step, size, length)
        return _reference(double.network, futures.demand, watch(double, policy, futures), setting.network.mean.dtype)

    first = reference(0, "select", 2)
    bound = ForesightBound(
        lead_time=of.lead_time[:-1],
        holding_cost=of.holding_cost[:-1],
        lost_sale=of.lost_sale[:-1],
        features=(first.state.shape[-1], first.context.shape[-1], first.surprise.shape[-1]),
        warehouse_lead_time=int(of.lead_time[-1]),
        warehouse_holding_cost=float(of.holding_cost[-1]),
        generator=torch.Generator().manual_seed(seed),
    )
    numbers = {"burn_in": warm_up, "look_ahead": look_ahead}
    history = fit(
        lambda step, _: -bound(reference(step, "optimise", paths), **numbers).mean(),
        optimizer=optimizer(bound.parameters()),
        batches=lambda epoch: [epoch],
        epochs=steps,
        rate=lambda done: min(1.0, 2 * (1 - done)),
    )
    with torch.no_grad():
        fresh = torch.cat([bound(reference(k, "report", 32), **numbers) for k in range(TRACE // 32)])
    return mean_interval(fresh), -history.loss


def _reference(of: StoreNetwork, demand: Tensor, seen: Watched, dtype: torch.dtype) -> Reference:
    """What the charges may look at: stocks, pipelines and orders in multiples of mean demand, the stores' fixed numbers, and the same pooled."""
    stores, scale = of.stores, _scale(of)
    local = torch.cat([seen.on_hand[..., None], seen.pipeline.movedim(1, -1), seen.ordered[..., None]], -1) / scale[:, None]
    fixed = torch.stack([of.lead_time[:-1] - 2.5, of.holding_cost[:-1] - 1, (of.lost_sale[:-1] - 9) / 2, (of.deviation / of.mean - 0.375) * 4], -1)
    own = local[..., :stores, :]
    state = torch.cat([own - 1, fixed.expand(*own.shape[:-1], 4)], -1)
    context = torch.cat([local[..., stores, :], own.mean(-2) - 1], -1)
    on_hand = seen.on_hand[..., :stores]
    normal = torch.distributions.Normal(torch.zeros((), dtype=demand.dtype), 1.0)

    def tail(c: Tensor) -> Tensor:
        return normal.cdf((of.mean - c) / of.deviation)

    def excess(c: Tensor) -> Tensor:
        z = (c - of.mean) / of.deviation
        return of.deviation * normal.log_prob(z).exp() + (of.mean - c) * normal.cdf(-z)

    offsets = torch.tensor(POINTS[1:], dtype=demand.dtype)[:, None]
    points = torch.cat([torch.zeros_like(of.mean)[None], (of.mean + offsets * of.deviation).clamp_min(0)])
    news = surprises(demand, on_hand, points=points, excess=excess, tail=tail, scale=of.deviation)
    after = seen.on_hand[..., stores] - seen.flow.shipped[..., :stores].sum(-1)
    found = Reference(demand, news, on_hand, state, context, seen.flow.shipped[..., :stores], seen.flow.shipped[..., stores])
    return Reference(*(part.to(dtype) for part in found[:-1]), empty=after <= 1e-6 * scale[-1])  # type: ignore[union-attr]


def _surface(setting: Setting, policies: dict[str, Policy]) -> Any:
    """What store 1 is sent as its own stock and the warehouse's vary; every other stock, and what is due, at one period of demand."""
    of, steps = setting.network, 41
    mean = _scale(of)
    own, hub = torch.linspace(0, 4 * float(mean[0]), steps).to(mean), torch.linspace(0, 1.5 * float(mean[-1]), steps).to(mean)
    state = start(setting.world, mean, paths=steps * steps)
    stock = state.on_hand.clone()
    stock[:, 0], stock[:, -1] = own.repeat(steps), hub.repeat_interleave(steps)
    due = tuple(mean.expand_as(stock) * (setting.network.lead_time > slot + 1) for slot in range(len(state.pipeline)))
    state = state._replace(on_hand=stock, pipeline=due)
    with torch.no_grad():
        orders = {name: policy(state, Context(), relax=Exact())[:, 0].reshape(steps, steps) for name, policy in policies.items()}
    return policy_surface(orders, x=own, y=hub, x_label="stock of store 1, units", y_label="stock of the warehouse, units", label="sent to store 1, units")


def _numbers(of: StoreNetwork) -> dict[str, Tensor]:
    return {"mean": of.mean, "deviation": of.deviation, "lead_time": of.lead_time, "holding_cost": of.holding_cost, "lost_sale": of.lost_sale}
