"""One warehouse and 21 stores on real weekly sales: a network that sees the past weeks against tuned echelon base-stock policies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import noise
from dpsc.data import favorita
from dpsc.data.stores import StoreNetwork, one_warehouse
from dpsc.decision.policies import EchelonBaseStock, NeuralLevels
from dpsc.objective.intervals import mean_interval
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, figures
from dpsc.types import Policy
from experiments.context import RunContext
from experiments.warehouse import ECHELON, NEURAL, Futures, Setting, Trained, compare, pictures, play, train, watch

OBSERVED = 16  # past weeks that a policy sees
TRAIN, DEV, TEST = (0, 112), (88, 142), (118, 171)  # weeks of HDPO's three sets; the first 24 weeks of dev and test only warm up
WARM_UP = 24
CONSTANT, RELATIVE = "constant levels", "levels relative to the forecast"


def run(
    *,
    context: RunContext,
    window: int,
    window_warm_up: int,
    constant_steps: int,
    relative_steps: int,
    neural_steps: int,
    echelon_optimizer: Callable[..., torch.optim.Optimizer],
    neural_optimizer: Callable[..., torch.optim.Optimizer],
    hidden: int,
    rounds: int,
    products: int = favorita.PRODUCTS,
    draw: int = 2306,
) -> Outcome:
    """Tune the echelon policies and the network on the training weeks, choose on the dev weeks, compare on the test weeks.

    Args:
        context: of the run.
        window: weeks of a training future, cut from the training weeks at a new place in every step.
        window_warm_up: first weeks of it, not counted.
        constant_steps: gradient steps on a level for every product and store.
        relative_steps: gradient steps on levels that are multiples of a forecast.
        neural_steps: gradient steps of the network, in `rounds` parts; after each the dev weeks decide whether it is kept.
        echelon_optimizer: partial of torch.optim.
        neural_optimizer: partial of torch.optim.
        hidden: width of the network.
        rounds: of the network's training.
        products: how many, from the first on.
        draw: seed of costs and lead times.
    """
    begin = time.process_time()
    sales = favorita.load(context.data_root)
    demand = sales.demand(negative="zero")[:products].permute(2, 0, 1)[:, :, None]  # (W, P, 1, N): a product is a candidate with one future
    scale = demand[TRAIN[0] : TRAIN[1]].mean((0, 3), keepdim=True).clamp_min(1e-9)  # a product's mean sales a store and week in training
    demand = demand / scale
    setting = Setting.of(one_warehouse(favorita.STORES, seed=draw))
    single = setting.to(torch.float32)
    history = demand.float()

    def futures(step: int) -> Futures:
        room = TRAIN[1] - window - (TRAIN[0] + OBSERVED)
        first = TRAIN[0] + OBSERVED + int(float(noise.uniform(context.seed, "favorita window", torch.tensor(step))) * (room + 1))
        return weeks(history, first, first + window)

    dev, test = weeks(history, DEV[0], DEV[1]), weeks(demand, TEST[0], TEST[1])
    tuned: dict[str, tuple[Policy, Trained, float]] = {}
    for name, steps in ((CONSTANT, constant_steps), (RELATIVE, relative_steps)):
        policy = _constant(single, history) if name == CONSTANT else _relative(single)
        trained = train(single, policy, futures, steps=steps, warm_up=window_warm_up, optimizer=echelon_optimizer)
        tuned[name] = (policy, trained, _mean(single, policy, dev))
    best = min(tuned, key=lambda name: tuned[name][2])
    echelon = tuned[best][0]

    start_from = tuned[RELATIVE][0]
    assert isinstance(start_from, EchelonBaseStock)
    network = _network(single, start_from, hidden, context.seed)
    kept, on_dev = {k: v.clone() for k, v in network.state_dict().items()}, [_mean(single, network, dev, OBSERVED)]
    losses = []
    for part in context.track(range(rounds), "rounds", rounds):
        offset, steps = 10_000 + part * neural_steps, math.ceil(neural_steps / rounds)
        trained = train(single, network, lambda k, o=offset: futures(o + k), steps=steps, warm_up=window_warm_up, optimizer=neural_optimizer, observe=OBSERVED)
        losses.append(trained.loss)
        now = _mean(single, network, dev, OBSERVED)
        if now < min(on_dev):
            kept = {k: v.clone() for k, v in network.state_dict().items()}
        on_dev.append(now)
    network.load_state_dict(kept)

    echelon, network = echelon.double(), network.double()
    with torch.no_grad():
        cost = {
            ECHELON: play(setting, echelon, test, warm_up=WARM_UP)[:, 0],
            NEURAL: play(setting, network, test, warm_up=WARM_UP, observe=OBSERVED)[:, 0],
        }
        others = {name: play(setting, tuned[name][0].double(), test, warm_up=WARM_UP)[:, 0] for name in tuned}
    found = compare(cost[ECHELON], cost[NEURAL])
    margin = (test.demand[WARM_UP:] * setting.network.lost_sale[:-1]).sum(-1).mean(0)[:, 0]  # earned by whoever has every unit just in time
    volume = (scale * demand.new_ones(())).flatten()
    short = {name: 100 * float(value.mean() / margin.mean()) for name, value in cost.items()}
    low, high = float(found.difference_pct.low), float(found.difference_pct.high)
    mean = {name: mean_interval(value) for name, value in cost.items()}
    cpu_s = time.process_time() - begin
    metrics = {
        "not_worse": high,
        "difference_pct": float(found.difference_pct.estimate),
        "difference_pct_low": low,
        "difference_pct_by_volume": 100 * float((volume * (cost[NEURAL] - cost[ECHELON])).sum() / (volume * cost[ECHELON]).sum()),
        "better_products_pct": 100 * float((cost[NEURAL] < cost[ECHELON]).double().mean()),
        "cost_echelon": float(mean[ECHELON].estimate),
        "cost_neural": float(mean[NEURAL].estimate),
        **{f"cost_echelon_{'constant' if name == CONSTANT else 'relative'}": float(value.mean()) for name, value in others.items()},
        "gap_to_bound_pct": short[NEURAL],
        "echelon_gap_to_bound_pct": short[ECHELON],
        "negative_cells": float(len(sales.negative)),
        "cpu_s": cpu_s,
    }
    rows = [
        {"policy": name, "cost": float(value.mean()), "dev_cost": tuned[name][2], "short_of_just_in_time_pct": 100 * float(value.mean() / margin.mean())}
        for name, value in others.items()
    ]
    rows.append({"policy": NEURAL, "cost": metrics["cost_neural"], "dev_cost": min(on_dev), "short_of_just_in_time_pct": short[NEURAL]})
    negative = pd.DataFrame(
        [{"product": p, "store": s, "week": w, "units": float(sales.units[p, s, w])} for p, s, w in sales.negative.tolist()],
        columns=["product", "store", "week", "units"],
    )
    watched = {ECHELON: watch(setting, echelon, test), NEURAL: watch(setting, network, test, observe=OBSERVED)}
    shown: dict[str, Any] = pictures(
        setting, {name: seen.along_products() for name, seen in watched.items()}, cost, warm_up=WARM_UP, period="week", prefix="test", each="products"
    )
    shown["difference"] = figures.intervals(
        {"all products": (metrics["difference_pct"], low, high)}, label="network less echelon base-stock, % of its cost, 95 %"
    )
    shown["products"] = figures.scatter_pairs(cost[ECHELON], cost[NEURAL], x_label=f"{ECHELON}, cost", y_label=f"{NEURAL}, cost")
    shown["training"] = figures.curves(
        {**{name: value[1].loss for name, value in tuned.items()}, NEURAL: torch.cat(losses)}, x_label="step", y_label="cost on training weeks, money a week"
    )
    shown["rounds"] = figures.curves(
        {"network, cost on dev weeks": torch.tensor(on_dev)}, x_label="round of training, from the start on", y_label="money a week"
    )
    return Outcome(
        metrics=metrics,
        title="21 stores and their warehouse on real weekly sales",
        summary=(
            f"On {test.demand.shape[0] - WARM_UP} test weeks of {len(scale[0])} products, a network that sees the past {OBSERVED} weeks costs "
            f"{-metrics['difference_pct']:.1f} % less than the better of two tuned echelon base-stock policies (95 % interval over products of the difference "
            f"{low:+.1f} to {high:+.1f} %), and earns {short[NEURAL]:.1f} % less than somebody who has every unit just in time ({short[ECHELON]:.1f} % for the "
            "echelon policy)."
        ),
        sections=[
            Section(
                "The question",
                "The network of the experiment one_warehouse with 21 stores (lead times, holding costs and margins drawn as there), but demand is what "
                "a grocery chain sold, week by week, 288 products. Each is in multiples of its own mean sales a store in the training weeks, so all count "
                "alike. "
                "What was sold is taken for what was asked for; what empty shelves lost is not in the data."
                f"\n\n{len(sales.negative)} cells of the file are negative (more came back than was sold); they are taken as weeks without demand.",
                tables=("negative_cells",),
            ),
            Section(
                "Result",
                f"Training sees weeks {TRAIN[0]} to {TRAIN[1] - 1}, choices are made on weeks {DEV[0] + WARM_UP} to {DEV[1] - 1}, and the numbers here are of "
                f"weeks {TEST[0] + WARM_UP} to {TEST[1] - 1}; the {WARM_UP} weeks before each of the last two only warm the stocks up. The two echelon "
                "policies "
                "are a level for every product and store, and levels that are multiples, one a store, of the mean of the past weeks; the one that costs "
                "less on the dev weeks is the rival. Products share the calendar, so the interval over products says nothing about other years.\n\n"
                "The bound: with every unit just in time there is no stock and no lost sale, and the margin of all demand is earned. "
                "short_of_just_in_time_pct is the cost (holding and margins lost) in per cent of that margin.",
                tables=("policies",),
                figures=("difference", "products", "test_breakdown", "test_distribution"),
            ),
            Section("The test weeks", "Medians and bands over products.", figures=("test_trajectories",)),
            Section("Training", "Losses on windows of the training weeks, and the cost on the dev weeks after every round.", figures=("training", "rounds")),
        ],
        tables={"policies": pd.DataFrame(rows), "negative_cells": negative},
        figures=shown,
        learned={"echelon": echelon.state_dict(), "neural": network.state_dict()},
    )


def weeks(demand: Tensor, first: int, last: int) -> Futures:
    """A stretch of weeks: what the policy is told in each is the mean of the past weeks, store by store and summed for the warehouse.

    Args:
        demand: `(W, P, 1, N)`, product units.
        first: week of the first period, at least `OBSERVED`.
        last: the week after the last period.
    """
    past = demand[first - OBSERVED : last - 1].unfold(0, OBSERVED, 1).mean(-1)  # in period t: weeks t - 16 ... t - 1
    forecast = torch.cat([past, past.sum(-1, keepdim=True)], -1)
    return Futures(demand[first:last], 2 * forecast[0, :, 0], forecast[..., None], demand[first - OBSERVED : first])


def _mean(setting: Setting, policy: Policy, futures: Futures, observe: int = 0) -> float:
    with torch.no_grad():
        return float(play(setting, policy, futures, warm_up=WARM_UP, observe=observe).mean())


def _cover(of: StoreNetwork) -> Tensor:
    """Weeks of demand that a level covers: the lead time and one more, and half a week's safety; for the warehouse, its own lead time on top of a store's."""
    store = of.lead_time[:-1] + 1.5
    return torch.cat([store, (store + of.lead_time[-1]).mean()[None]]).to(of.mean)


def _constant(setting: Setting, demand: Tensor) -> EchelonBaseStock:
    """A level for every product and point."""
    mean = demand[TRAIN[0] : TRAIN[1], :, 0].mean(0).clamp_min(0.01)  # (P, N)
    scale = torch.cat([mean, mean.sum(-1, keepdim=True)], -1)
    return EchelonBaseStock(scale * _cover(setting.network), setting.supplier, weight=scale.clone(), scale=scale, whole=False)


def _relative(setting: Setting) -> EchelonBaseStock:
    """A multiple of the forecast for every point, all products alike."""
    cover = _cover(setting.network)
    return EchelonBaseStock(cover, setting.supplier, weight=torch.ones_like(cover), whole=False, relative=True)


def _network(setting: Setting, begin: EchelonBaseStock, hidden: int, seed: int) -> NeuralLevels:
    """From the levels of the relative policy."""
    of = setting.network
    fixed = torch.stack([of.lead_time[:-1] - 2.5, (of.holding_cost[:-1] - 1) * 2, (of.lost_sale[:-1] - 9) / 2], -1)
    with torch.no_grad():
        level = begin.level(relax=Exact())[0]
        weight = None if begin.weight is None else begin.weight(relax=Exact())[0]
    return NeuralLevels(
        level,
        setting.supplier,
        slots=int(of.lead_time.max()) - 1,
        scale=torch.ones_like(level),
        features=torch.cat([fixed, torch.zeros_like(fixed[:1])]).to(level.dtype),
        look_back=OBSERVED,
        hidden=hidden,
        weight=weight,
        whole=False,
        relative=True,
        generator=torch.Generator().manual_seed(seed),
    )
