"""The tables of the case `firms`: sizes of networks against JAX, input-output tables against BoARIO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .measure import Entrant
from .problems import Arrays

if TYPE_CHECKING:
    from .cases import Bench, Table

SINGLE = {100: 0.5, 1_000: 1.0, 10_000: 1.0}
LARGE = {100_000: 1.0}
BATCH, DAYS = 64, 20


def network(firms: int) -> Arrays:
    """The reference network and draws, and a path of the aggregate to fit."""
    from dpsc.simulate import firms as room

    made, (n, rate, size) = room.synthetic(firms), room.draw(firms)
    return {
        "supplier": made.supplier.numpy(),
        "buyer": made.buyer.numpy(),
        **{name: getattr(made, name).numpy() for name in ("coefficient", "final_demand", "output")},
        "inventory": n.numpy(),
        "rate": rate.numpy(),
        "size": size.numpy(),
        "target": np.full(100, 0.9),
    }


def wiod() -> Arrays | None:
    """WIOD 2008 with non-negative final demand, the first country hit; None without the data."""
    from dpsc.data import folder
    from dpsc.errors import DataNotFoundError

    try:
        path = folder.find("wiod_2008", "wiot_2008.npz")
    except DataNotFoundError:
        return None
    with np.load(path, allow_pickle=False) as file:
        flow, final = file["Z"].astype(float), np.maximum(file["final"].astype(float).sum(1), 0)
    impact = np.where(np.arange(len(final)) < 35, 0.3, 0.0) * (flow.sum(1) + final > 0)
    return {
        "flow": flow,
        "final_demand": final,
        "output": flow.sum(1) + final,
        "impact": impact,
        "psi": np.array(0.8),
        "time": np.array(60),
        "days": np.array(90),
    }


def one_region(count: int = 1000) -> Arrays:
    """One region of so many sectors, three cells in ten filled."""
    rng = np.random.default_rng(0)
    flow = rng.lognormal(0, 1, (count, count)) * (rng.random((count, count)) < 0.3)
    final = rng.lognormal(0, 1, count)
    final *= 1.2 * flow.sum() / final.sum()
    flow = 1e3 * flow * np.minimum(1.0, 0.6 * (flow.sum(1) + final) / np.maximum(flow.sum(0), 1e-12))
    final = 1e3 * final
    impact = np.where(np.arange(count) < count // 20, 0.3, 0.0)
    return {
        "flow": flow,
        "final_demand": final,
        "output": flow.sum(1) + final,
        "impact": impact,
        "psi": np.array(1.0),
        "time": np.array(10),
        "days": np.array(10),
    }


def firms(bench: Bench) -> list[Table]:
    """Networks of 100 to 10,000 firms (100,000 with --slow), a batch of 64, and two input-output tables."""
    from .cases import Goal, Table

    tables = []
    for size, ratio in (SINGLE | LARGE if bench.slow else SINGLE).items():
        arrays = network(size)
        for batch in (1, BATCH) if size == 1_000 else (1,):
            for gradient in (False, True):
                title = f"{size:,} firms, {len(arrays['supplier']):,} edges, 100 steps, float32, {'gradient' if gradient else 'forward'}"
                title += f", batch of {batch}: ms a simulation" if batch > 1 else ": ms"
                named = {"batch": batch, "gradient": gradient}
                ours = [Entrant("dpsc", "benchmarks.firms", "ours", named, ("torch",))]
                rivals = [Entrant("JAX, sparse", "benchmarks.firms", "jax", named, ("jax",))]
                goals = [Goal("ratio", ratio)] + ([Goal("ms", batch * (13.0 if gradient else 3.0))] if batch > 1 else [])
                tables.append(Table("firms", title, "dpsc", bench.compare(title, ours, rivals, arrays), goals, per=batch))
    for name, found, products, ratio in (("WIOD 2008, 41 regions x 35", wiod(), 35, 10.0), ("1 region x 1,000", one_region(), 1000, 20.0)):
        if found is None:
            bench.say(f"{name}: left out, the data are not there (scripts/fetch_data.py wiod_2008)")
            continue
        title, named = f"ARIO-psi, {name}, {DAYS} steps, float64: ms a step", {"products": products, "steps": DAYS}
        ours = [Entrant("dpsc", "benchmarks.firms", "ario", named, ("torch",))]
        rivals = [Entrant("BoARIO", "benchmarks.firms", "boario", named, ("boario",))]
        tables.append(Table("firms", title, "dpsc", bench.compare(title, ours, rivals, found), [Goal("ratio", ratio)], per=DAYS))
    return tables
