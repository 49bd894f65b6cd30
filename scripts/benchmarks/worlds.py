"""dpsc's simulators in the benchmarks, and OR-Gym's: contenders that run in a worker process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .layers import Arrays, Contender

ROOT = Path(__file__).resolve().parents[2]
START = (1.0, 3.0, 2.0, 3.0)
# OR-Gym's four-stage setting (InvManagement-v1): three stages with stock and a source without limits; demand Poisson 20.
STAGES = {
    "on_hand": [100.0, 100.0, 200.0],
    "capacity": [100.0, 90.0, 80.0],
    "lead_time": [3, 5, 10],
    "levels": [130.0, 260.0, 500.0],
    "mean": 20.0,
    "periods": 30,
}


def _dpsc() -> Any:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    import torch

    return torch


def replenishment(_: Arrays, articles: int, futures: int, weeks: int, compiled: bool, backward: bool) -> Contender:
    """The extended (R, s, Q) world in float32: read exactly, or straight-through with the gradient of the mean cost."""
    torch = _dpsc()
    from dpsc.instances import replenishment as instance
    from dpsc.relax import Exact, Logistic, StraightThrough
    from dpsc.simulate.replenishment import PARAMETERS, Replenishment

    of = instance.articles(articles)
    drawn = instance.Paths(*(x[:weeks].float().contiguous() for x in instance.paths(of, futures)))
    world = Replenishment(drawn, articles=instance.Articles(*(x.float() for x in of)), compiled=compiled, longest=(4, 3))
    theta = {name: torch.full((articles,), value, requires_grad=backward) for name, value in zip(PARAMETERS, START, strict=True)}
    ones = torch.full((futures, articles), 1 / futures)

    def forward() -> Any:
        with torch.no_grad():
            return world.cost(theta, relax=Exact())

    def forward_and_backward() -> Any:
        for value in theta.values():
            value.grad = None
        cost = world.cost(theta, relax=StraightThrough(Logistic(0.25)))
        cost.backward(ones)
        return cost.detach()

    def answer(cost: Any) -> dict[str, Any]:
        said = {"value": cost[:: max(1, futures // 8), :: max(1, articles // 50)].double().numpy()}
        return said | ({"gradient": torch.stack([v.grad for v in theta.values()]).double().numpy()} if backward else {})

    call = forward_and_backward if backward else forward
    call()  # compiles, which is no part of a call
    return call, answer


def many_articles(_: Arrays, count: int, shard: int, other_shard: int, checked: int) -> Contender:
    """Train four parameters of every article, 32 futures, 20 steps, sampling included; then the first articles once more in shards of another size."""
    torch = _dpsc()
    import resource
    from functools import partial

    from dpsc.objective import Quantile
    from dpsc.relax import Anneal, Logistic, Smoothed, StraightThrough
    from dpsc.scenarios import many_articles as scenario

    def train(articles: int, size: int) -> Any:
        return scenario.optimise(
            articles,
            first=dict(zip(scenario.PARAMETERS, START, strict=True)),
            futures=scenario.TabulatedFutures(0, compiled=True),
            paths=32,
            steps=20,
            shard=size,
            reading=Anneal(StraightThrough, Logistic, 0.5, 0.25),
            measure=Quantile(0.75),
            measured=Smoothed(Logistic(0.05)),
            optimizer=partial(torch.optim.Adam, lr=0.1),
        )

    def call() -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        found = train(count, shard)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        again = train(checked, other_shard)
        same = torch.stack([again.parameters[name] == found.parameters[name][:checked] for name in found.parameters]).all(0)
        return {
            "wall_s": wall,
            "cpu_s": cpu,
            "peak_gib": peak,
            "differ": int((~same).sum()),
            "start": float(found.start.double().sum()),
            "end": float(found.end.double().sum()),
        }

    return call, lambda found: found


def four_stages(arrays: Arrays, compiled: bool, paths: int) -> Contender:
    """dpsc on OR-Gym's setting: echelon base-stock levels, capacities, lost sales; every path of the arrays."""
    torch = _dpsc()
    from dpsc.relax import Exact
    from dpsc.simulate.events import order, receive, serve
    from dpsc.simulate.network import Network
    from dpsc.simulate.world import Noise, World, advance, start

    world = World(
        network=Network.serial(3),
        lead_time=torch.tensor(STAGES["lead_time"]),
        capacity=torch.tensor(STAGES["capacity"]),
        events=(order, receive, serve),
        count_orders=False,
    )
    single = torch.from_numpy(arrays["demand"][:paths]).float().T  # (T, S)
    demand = torch.stack([single, torch.zeros_like(single), torch.zeros_like(single)], -1).contiguous()
    levels = torch.tensor(STAGES["levels"])
    begin = start(world, torch.tensor(STAGES["on_hand"]), paths=paths)

    def play(demand: Any, state: Any) -> Any:
        sold = torch.zeros_like(demand[0, :, 0])
        for period in range(STAGES["periods"]):  # type: ignore[call-overload]
            want = (levels - state.echelon_position()).clamp_min(0)
            state, flow = advance(state, want, Noise(demand[period]), world=world, relax=Exact(), period=period)
            sold = sold + flow.sales[:, 0]
        return sold, state.on_hand

    with torch.no_grad():
        play(demand, begin)  # what the network remembers about itself is worked out here, outside of the compiled program
    program: Callable[..., Any] = torch.compile(play, fullgraph=True, dynamic=False) if compiled else play

    def call() -> Any:
        with torch.no_grad():
            return program(demand, begin)

    call()  # compiles, which is no part of a call
    return call, lambda found: {"value": torch.cat([found[0][:16, None], found[1][:16]], -1).double().numpy()}


def or_gym(arrays: Arrays, paths: int) -> Contender:
    """OR-Gym's own environment and its own base-stock policy, path by path."""
    import numpy as np

    if not hasattr(np, "Inf"):
        raise ImportError("or-gym needs numpy below 2")
    from or_gym.envs.supply_chain.inventory_management import InvManagementLostSalesEnv

    levels, periods = np.array(STAGES["levels"]), STAGES["periods"]

    def call() -> Any:
        found = []
        for demand in arrays["demand"][:paths]:
            env = InvManagementLostSalesEnv(backlog=False, dist=5, user_D=demand, periods=periods)
            for _ in range(periods):  # type: ignore[call-overload]
                env._update_base_stock_policy_state()
                env.step(np.maximum(levels - env.state, 0))
            found.append([env.S[:, 0].sum(), *env.I[-1]])
        return np.array(found)

    return call, lambda found: {"value": found[:16]}
