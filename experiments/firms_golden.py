"""The firm network against stored trajectories: the paper's step with its gradients, and ARIO-psi against BoARIO."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pandas as pd
import torch
from torch import Tensor

from dpsc.data import tables
from dpsc.errors import DataError, DataNotFoundError
from dpsc.report import Outcome, Section, figures
from dpsc.simulate import firms
from dpsc.simulate.firms import ario, native
from experiments.context import RunContext

ROOT = Path(__file__).resolve().parents[1]
BRANCH = 265  # the step of scenario B after which BoARIO branches on a rounding error


class Golden(NamedTuple):
    """A stored run of the paper's step: network, parameters, output `(T, M)`, weights `(T, M)`, and gradients of the weighted sum."""

    network: firms.Network
    inventory: Tensor
    rate: Tensor
    size: Tensor
    adjustment_time: float
    capacity: float
    output: Tensor
    weight: Tensor
    gradients: tuple[Tensor, Tensor, Tensor]


def run(*, context: RunContext, folder: str) -> Outcome:
    """Compare with every stored number.

    Args:
        context: of the run.
        folder: of the stored runs, below the top of the repository.
    """
    rows = paper(ROOT / folder / "paper.npz")
    frame = pd.DataFrame(rows)
    stored = archive(ROOT / folder / "boario.npz")
    flows = {name: boario(name, stored) for name in context.track(SCENARIOS, "BoARIO", len(SCENARIOS))}
    off = {name: boario_errors(name, flow, stored) for name, flow in flows.items()}
    tight = off["B_arbitrary_alt_tight"]

    def until_the_branch(part: str) -> float:
        return max(float(errors[part][: BRANCH + 1 if name.startswith("B") else None].max()) for name, errors in off.items())

    metrics = {
        "worst_trajectory_error": float(frame["trajectory_error"].max()),
        "worst_gradient_error": float(frame["gradient_error"].max()),
        "worst_boario_error": until_the_branch("output"),
        "boario_b_after_265": float(tight["output"][BRANCH + 1 :].max()),
        "worst_boario_unmet_error": max(float(errors["unmet"].max()) for errors in off.values()),
        "worst_boario_capacity_error": until_the_branch("capacity"),
        "boario_b_capacity_after_265": float(tight["capacity"][BRANCH + 1 :].max()),
        "native_kernels": float(native.available()),
    }
    return Outcome(
        metrics=metrics,
        title="The firm network against stored trajectories",
        summary=(
            f"The paper's step follows an independent implementation to {metrics['worst_trajectory_error']:.1g} and its gradients to "
            f"{metrics['worst_gradient_error']:.1g}; ARIO-psi follows BoARIO 0.7.2 to {metrics['worst_boario_error']:.1g}, and to "
            f"{metrics['boario_b_after_265']:.1g} where BoARIO branches on a rounding error."
        ),
        sections=[
            Section(
                "What is compared",
                "Three networks of 40 to 80 firms under a shock to production, 100 steps, float64, from an implementation in JAX that shares no code with "
                "this one: output of every firm and step, largest relative difference; gradients of a random weighted sum of outputs in stocks, recovery "
                "rates and shock sizes, difference relative to their norm. Every way to compute a run is compared: the C++ kernels where there is a "
                "compiler, the same in plain torch operations, and the step under autograd, with the stocks of all steps kept and with as few as possible.",
                tables=("paper",),
            ),
            Section(
                "ARIO-psi and BoARIO",
                "Pymrio's test table of 48 industries, 365 days, three scenarios that BoARIO 0.7.2 has run: a loss of capacity in three industries (A), a "
                "larger one with short stocks and orders that look for capacity (B), capital that is destroyed and rebuilt (C). In B, BoARIO lets "
                "overproduction fall only where scarcity is zero to the last bit; after step 265 a rounding error decides, and no other program can follow. "
                "Beside output, final demand that is not met is compared, in shares of that final demand. BoARIO books it where it is felt: what region c does "
                "not get of product i, from whichever region it was to come, stands under (c, i). Capacity, with overproduction, is compared as well.",
                figures=("boario", "difference"),
            ),
        ],
        tables={"paper": frame},
        figures={
            "boario": figures.curves(
                {name: flow.output[..., 0].sum(1) / flow.output[0].sum() for name, flow in flows.items()}, x_label="day", y_label="output, share of rest"
            ),
            "difference": figures.curves(
                {f"{name}: {part}": (errors[part] + 1e-17).log10() for name, errors in off.items() for part in ("output", "unmet")},
                x_label="day",
                y_label="log10 of the largest relative difference",
            ),
        },
    )


def archive(path: Path) -> Mapping[str, numpy.ndarray]:
    """Stored arrays. Raises: DataNotFoundError."""
    if not path.is_file():
        raise DataNotFoundError(f"the stored runs must lie in {path}, which is part of the repository, got no such file")
    with numpy.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def goldens(path: Path) -> dict[str, Golden]:
    """The stored runs of the paper's step."""
    stored = archive(path)

    def of(name: str) -> Golden:
        def get(key: str) -> Tensor:
            return torch.from_numpy(stored[f"{name}_{key}"])

        network = firms.Network.of(get("src"), get("dst"), get("a"), get("c"), output=get("x0"))
        gradients = (get("gn"), get("glam"), get("gd"))
        return Golden(network, get("n"), get("lam"), get("d"), float(get("tau")), float(get("cap")), get("x"), get("w"), gradients)

    return {name: of(name) for name in sorted({key.split("_")[0] for key in stored})}


def paper(path: Path) -> list[dict[str, Any]]:
    """Errors of every stored run and way to compute it."""
    stepwise = firms.Rules(production=functools.partial(firms.leontief))
    ways: dict[str, dict[str, Any]] = {"plain": {"kernels": firms.PLAIN}, "step by step": {"rules": stepwise}}
    if native.available():
        ways["C++"] = {"kernels": firms.NATIVE}
    rows = []
    for name, golden in goldens(path).items():
        for way, how in ways.items():
            for kept, memory in (("all", 1e12), ("fewest", 0.0)):
                leaves = [v.clone().requires_grad_() for v in (golden.inventory, golden.rate, golden.size)]
                z = 1 - firms.exponential(len(golden.output), onset=5, size=leaves[2], rate=leaves[1])
                parameters = firms.Parameters(leaves[0], golden.adjustment_time, golden.capacity)
                output = firms.rollout(golden.network, parameters, productivity=z, memory=memory, **how).output[..., 0]
                found = torch.autograd.grad((golden.weight * output).sum(), leaves)
                gradient = [
                    float((mine - theirs).norm() / (theirs.norm() if float(theirs.norm()) else 1.0))
                    for mine, theirs in zip(found, golden.gradients, strict=True)
                ]
                rows.append(
                    {
                        "run": name,
                        "firms": golden.network.firms,
                        "computed": way,
                        "stocks_kept": kept,
                        "trajectory_error": float((output.detach() / golden.output - 1).abs().max()),
                        "gradient_error": max(gradient),
                    }
                )
    return rows


# ------------------------------------------------------------------------------------------------------------- BoARIO

SCENARIOS = ("A_arbitrary_noalt", "B_arbitrary_alt_tight", "C_rebuild")


def economy() -> tuple[ario.Economy, list[str]]:
    """Pymrio's test table, regions and sectors in alphabetical order as BoARIO has them."""
    table = tables.read_pymrio(None, "test")
    order = sorted(range(len(table.sectors)), key=table.sectors.__getitem__)
    at = torch.tensor(order)
    made = ario.Economy.of(table.flow[at][:, at], table.final_demand[at].sum(1), table.output[at], products=8)
    return made, [table.sectors[k] for k in order]


def boario(scenario: str, stored: Mapping[str, numpy.ndarray], *, fused: bool | None = None) -> ario.Flow:
    """A scenario of BoARIO's, `(T, N, 1)` each."""
    made, names = economy()
    if names != [str(name).replace("|", "-") for name in stored["industries"]]:
        raise DataError("the industries of pymrio's test table must be those of the stored BoARIO runs, in alphabetical order")
    horizon = len(stored[f"{scenario}_prod"])

    def hit(where: slice, value: float) -> Tensor:
        impact = torch.zeros(made.industries, dtype=torch.float64)
        impact[where] = value
        return impact

    if scenario == "A_arbitrary_noalt":
        parameters = ario.Parameters(0.8, 60, 90, overproduction=ario.sticky)
        loss = ario.capacity_loss(horizon, hit(slice(0, 3), 0.3), occurrence=5, duration=20, time=60)
        return ario.rollout(made, parameters, horizon=horizon, loss=loss, fused=fused)
    if scenario == "B_arbitrary_alt_tight":
        parameters = ario.Parameters(0.9, 10, 10, alternative=True, overproduction=ario.sticky)
        loss = ario.capacity_loss(horizon, hit(slice(8, 12), 0.6), occurrence=3, duration=10, time=30)
        return ario.rollout(made, parameters, horizon=horizon, loss=loss, fused=fused)
    sectors = torch.zeros(made.products, dtype=torch.float64)
    sectors[1], sectors[2] = 0.6, 0.4
    parameters = ario.Parameters(0.8, 60, 90, alternative=True, overproduction=ario.sticky)
    event = ario.Rebuild(hit(slice(0, 3), 2e5), sectors, occurrence=5, duration=20, time=60)
    return ario.rollout(made, parameters, horizon=horizon, rebuild=[event], fused=fused)


def boario_errors(scenario: str, flow: ario.Flow, stored: Mapping[str, numpy.ndarray]) -> dict[str, Tensor]:
    """`(T,)` largest difference of a step: output relative to itself, capacity to that at rest, unmet final demand to what was asked for."""

    def theirs(part: str) -> Tensor:
        return torch.from_numpy(stored[f"{scenario}_{part}"])

    felt, asked = unmet_where_felt(flow)
    capacity = theirs("cap")
    return {
        "output": relative(flow.output[..., 0], theirs("prod")).amax(1),
        "unmet": ((felt - theirs("fd_unmet")).abs() / asked).amax(1),
        "capacity": ((flow.capacity[..., 0] - capacity).abs() / capacity[0]).amax(1),
    }


def unmet_where_felt(flow: ario.Flow) -> tuple[Tensor, Tensor]:
    """Final demand that is not met `(T, N)` and asked for `(N,)`, by consuming region and product: a supplier leaves all its customers the same share short."""
    import pymrio  # `economy` has named the extra by now

    made, names = economy()
    wanted = pymrio.load_test().Y.T.groupby(level=0).sum().T.sort_index()
    if ["-".join(name) for name in wanted.index] != names:
        raise DataError("final demand of pymrio's test table must be that of its industries")
    by_region = torch.from_numpy(wanted.to_numpy(dtype=float, copy=True)) / 365  # (N, R), supplier by consuming region
    short = (flow.unmet / made.final_demand)[..., 0]

    def by_product(value: Tensor) -> Tensor:
        """`(..., N, R)` -> `(..., R I)`, added over regions of origin."""
        over_origins = value.unflatten(-2, (-1, made.products)).sum(-3)
        return over_origins.transpose(-1, -2).flatten(-2)

    return by_product(short[..., None] * by_region), by_product(by_region)


def relative(mine: Tensor, theirs: Tensor) -> Tensor:
    """`(T, N)` relative differences; an output that has all but vanished counts as 1e-9 of its first value."""
    return (mine - theirs).abs() / torch.maximum(theirs, 1e-9 * theirs[0])
