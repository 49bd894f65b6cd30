"""What the experiments with one warehouse and many stores share: a setting, two policies, their training, their comparison, the figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dpsc.data.stores import StoreNetwork
from dpsc.objective.intervals import Interval, mean_interval
from dpsc.objective.inventory import Costs, breakdown, path_cost
from dpsc.relax import Exact
from dpsc.report.inventory import cost_breakdown, cost_distribution, trajectories
from dpsc.simulate.events import order, receive, serve
from dpsc.simulate.network import Network
from dpsc.simulate.rollout import rollout
from dpsc.simulate.world import Flow, Noise, State, World, start
from dpsc.training import fit
from dpsc.types import Context, Policy, Relaxation

ECHELON, NEURAL = "echelon base-stock", "neural levels"
SHOWN = 52  # periods of a figure of trajectories


@dataclass(frozen=True)
class Setting:
    """A network as a world in the event order receive, order, serve (HDPO's), lost sales, divisible units, and what it costs."""

    network: StoreNetwork
    world: World
    costs: Costs

    @classmethod
    def of(cls, network: StoreNetwork) -> Setting:
        """A network's world and costs."""
        world = World(network=Network.distribution(network.stores), lead_time=network.lead_time, wait=0.0, events=(receive, order, serve), count_orders=False)
        return cls(network, world, Costs(holding=network.holding_cost, lost_sale=network.lost_sale))

    def to(self, dtype: torch.dtype) -> Setting:
        """The same in another precision."""
        of = self.network
        rates = {"holding_cost": of.holding_cost.to(dtype), "lost_sale": of.lost_sale.to(dtype)}
        return Setting.of(StoreNetwork(of.mean.to(dtype), of.deviation.to(dtype), of.correlation, of.lead_time, **rates))

    @property
    def supplier(self) -> Tensor:
        """The tree, for policies."""
        stores = self.network.stores
        return torch.tensor([stores] * stores + [-1])


class Futures(NamedTuple):
    """Demand `(T, ..., S, N)` of the stores, the first stock `(..., N + 1)` of all S paths, what the policy is told in each period `(T, ..., S, N + 1, F)`, and
    demand before the first period `(K, ..., S, N)`; leading dimensions are candidates or, for real data, products."""

    demand: Tensor
    stock: Tensor
    features: Tensor | None = None
    history: Tensor | None = None


def play(setting: Setting, policy: Callable[..., Tensor], futures: Futures, *, warm_up: int, observe: int = 0) -> Tensor:
    """`(..., S)` money a period after the warm-up, read exactly: the program has kinks and no jumps, so this is what is trained, too."""
    first = _first(setting, futures)
    result = rollout(
        setting.world,
        policy,
        Noise(_padded(futures.demand)),
        start=first,
        relax=Exact(),
        price=lambda flow, period: path_cost(flow, period, costs=setting.costs),
        warm_up=warm_up,
        observe=observe,
        history=None if futures.history is None else _padded(futures.history),
        features=futures.features,
    )
    assert result.total is not None
    return result.total / (futures.demand.shape[0] - warm_up)


class Watched(NamedTuple):
    """A rollout period by period: what moved, and per period what the policy saw and ordered, `(T, ..., S, N + 1)`."""

    flow: Flow
    on_hand: Tensor
    pipeline: Tensor
    ordered: Tensor

    def along_products(self) -> Watched:
        """`(T, P, 1, N)` -> `(T, P, N)`: products, each with one future, take the place of futures."""
        flow = Flow(*(None if x is None else x[:, :, 0] for x in self.flow[:-1]), pipeline=(self.flow.in_transit[:, :, 0],))  # type: ignore[arg-type]
        return Watched(flow, self.on_hand[:, :, 0], self.pipeline[..., 0, :], self.ordered[:, :, 0])


def watch(setting: Setting, policy: Policy, futures: Futures, *, observe: int = 0) -> Watched:
    """Play and keep everything."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def spy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        wanted = policy(state, context, relax=relax)
        seen.append((state.on_hand, torch.stack(state.pipeline[:-1] or state.pipeline), wanted))
        return wanted

    with torch.no_grad():
        history = None if futures.history is None else _padded(futures.history)
        first = _first(setting, futures)
        noise = Noise(_padded(futures.demand))
        flow = rollout(setting.world, spy, noise, start=first, relax=Exact(), observe=observe, history=history, features=futures.features).flow
    assert flow is not None
    return Watched(flow, *(torch.stack(parts) for parts in zip(*seen, strict=True)))


def _first(setting: Setting, futures: Futures) -> State:
    """The first state: stock on hand, nothing on the way."""
    return start(setting.world, futures.stock, paths=futures.demand.shape[-2])


def _padded(demand: Tensor) -> Tensor:
    """The warehouse has no customers."""
    return torch.cat([demand, torch.zeros_like(demand[..., :1])], -1)


class Trained(NamedTuple):
    """The loss of every step, and processor and wall seconds."""

    loss: Tensor
    cpu_s: float
    wall_s: float


def train(
    setting: Setting,
    policy: Policy,
    futures: Callable[[int], Futures],
    *,
    steps: int,
    warm_up: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    observe: int = 0,
    weight: Callable[[Tensor], Tensor] | None = None,
) -> Trained:
    """Pathwise gradients of the mean cost, a step on the futures of its number; ends with the mean of the parameters of the last quarter of the steps.

    Args:
        setting: to play in.
        policy: trained in place.
        futures: step -> futures.
        steps: how many.
        warm_up: periods that are not counted.
        optimizer: partial of torch.optim.
        observe: periods of demand that the policy sees.
        weight: cost `(S,)` -> the number to minimise; the mean where None.
    """
    begin, wall = time.process_time(), time.perf_counter()
    mean = [torch.zeros_like(p) for p in policy.parameters()]
    count = 0

    def loss(step: int, done: float) -> Tensor:
        nonlocal count
        if done >= 0.75:
            count += 1
            for total, parameter in zip(mean, policy.parameters(), strict=True):
                total += (parameter.detach() - total) / count
        cost = play(setting, policy, futures(step), warm_up=warm_up, observe=observe)
        return cost.mean() if weight is None else weight(cost)

    history = fit(loss, optimizer=optimizer(policy.parameters()), batches=lambda epoch: [epoch], epochs=steps, rate=lambda done: min(1.0, 2 * (1 - done)))
    with torch.no_grad():
        for parameter, value in zip(policy.parameters(), mean, strict=True):
            if count:
                parameter.copy_(value)
    return Trained(history.loss.cpu(), time.process_time() - begin, time.perf_counter() - wall)


class Compared(NamedTuple):
    """Cost of both policies on the same futures `(S,)`, and the interval of their relative difference, per cent of the echelon policy's mean cost."""

    echelon: Tensor
    neural: Tensor
    difference_pct: Interval


def compare(echelon: Tensor, neural: Tensor) -> Compared:
    """Common random numbers: the difference path by path, with Student's 95 % interval, relative to the mean cost of the echelon policy."""
    return Compared(echelon, neural, mean_interval(100 * (neural - echelon) / echelon.mean()))


def pictures(
    setting: Setting, watched: Mapping[str, Watched], costs: Mapping[str, Tensor], *, warm_up: int, period: str, prefix: str, each: str = "futures"
) -> dict[str, Figure]:
    """Trajectories, cost breakdown and cost distribution of both policies."""
    stores = setting.network.stores
    lines: dict[str, dict[str, Tensor]] = {"stock of all stores, units": {}, "stock of the warehouse, units": {}}
    lines |= {"order of the warehouse, units": {}, "sales of all stores, units": {}}
    parts: dict[str, dict[str, float]] = {}
    for name, seen in watched.items():
        flow = seen.flow
        values = (flow.on_hand[..., :stores].sum(-1), flow.on_hand[..., stores], flow.shipped[..., stores], flow.sales.sum(-1))
        for line, value in zip(lines.values(), values, strict=True):
            line[name] = value[warm_up : warm_up + SHOWN]
        kept = Flow(*(None if x is None else x[warm_up:] for x in flow[:-1]), pipeline=(flow.in_transit[warm_up:],))  # type: ignore[arg-type]
        periods = len(kept.on_hand)
        spent = breakdown(kept, costs=setting.costs)
        hub = float((kept.on_hand[..., stores] * setting.network.holding_cost[stores]).sum(0).mean()) / periods
        parts[name] = {
            "holding, stores": float(spent["holding"].mean()) / periods - hub,
            "holding, warehouse": hub,
            "lost sales": float(spent["lost_sale"].mean()) / periods,
        }
    return {
        f"{prefix}_trajectories": trajectories(lines, x_label=period, first=warm_up, each=each),
        f"{prefix}_breakdown": cost_breakdown(parts, label=f"money a {period}"),
        f"{prefix}_distribution": cost_distribution(costs, label=f"mean cost, money a {period}", each=each),
    }
