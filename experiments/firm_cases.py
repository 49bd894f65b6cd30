"""The firm-level calibration problems: two parameters a firm, sector series as data.

Every firm has a target stock n_i and a recovery rate lambda_i, drawn from LogNormal(log 6, .5) and LogNormal(log .08, .7); the shocks' sizes are known.
Observed are the outputs of sectors relative to their baseline with noise .002, of which the first 40 of 100 periods are fitted.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate import Counted, LogNormal, Observations, Prior, Simulator, hold_then_decay
from dpsc.errors import DataError
from dpsc.relax import Anneal, Exact, Logistic, StraightThrough
from dpsc.simulate import firms
from dpsc.types import Relaxation

STORED = Path(__file__).parent / "cases" / "calibration_cases.npz"
NOISE, PERIODS, FITTED, ONSET = 0.002, 100, 40, 5
HIT_SHARE, SMALLEST, LARGEST = 0.3, 0.3, 0.9


@dataclass(frozen=True)
class Case:
    """One data set.

    Attributes:
        name: for tables.
        network: of the firms.
        sector: `(M,)` sector of each firm, 0 ... K - 1.
        size: `(M,)` share of capacity that each firm loses, known.
        fresh: `(M,)` the same firms hit by another shock.
        truth: `(2 M,)` coordinates that made the data.
        series: `(100, K)` observed.
        fresh_series: `(100, K)` under the fresh shock, without noise.
    """

    name: str
    network: firms.Network
    sector: Tensor
    size: Tensor
    fresh: Tensor
    truth: Tensor
    series: Tensor
    fresh_series: Tensor

    @property
    def prior(self) -> Prior:
        """n, then lambda."""
        return prior(self.network.firms)

    @property
    def hit(self) -> Tensor:
        """`(M,)` bool: firms with a shock, whose lambda matters."""
        return self.size > 0

    @property
    def observations(self) -> Observations:
        """What is fitted."""
        return Observations(self.series[:FITTED], NOISE)

    def simulator(self, periods: int = FITTED, *, fresh: bool = False) -> Simulator:
        """Coordinates -> sector series, under the fitted shock or the fresh one."""
        return simulator(self.network, self.sector, self.fresh if fresh else self.size, periods)

    def losses(self, coordinates: Tensor) -> Tensor:
        """`(3, B)` mean squared errors x 1e4, read exactly: fitted periods, later periods, the fresh shock."""
        with torch.no_grad():
            later = self.simulator(PERIODS)(coordinates, relax=Exact()) - self.series[..., None]
            other = self.simulator(PERIODS, fresh=True)(coordinates, relax=Exact()) - self.fresh_series[..., None]
        parts = (later[:FITTED], later[FITTED:], other)
        return 1e4 * torch.stack([part.square().mean((0, 1)) for part in parts])

    @property
    def floor(self) -> float:
        """Loss of the truth in the fitted periods, x 1e4."""
        return float(self.losses(self.truth[:, None])[0])


def prior(count: int) -> Prior:
    """Of `count` firms."""
    return Prior({"inventory": (count, LogNormal(6.0, 0.5)), "rate": (count, LogNormal(0.08, 0.7))})


def simulator(network: firms.Network, sector: Tensor, size: Tensor, periods: int, *, onset: int = ONSET) -> Simulator:
    """`(2 M, B)` coordinates -> `(periods, K, B)` sector outputs relative to the baseline, under a shock of `size` `(M,)` or `(M, B)` in period `onset`."""
    law, sectors = prior(network.firms), int(sector.max()) + 1
    one_each = sectors == network.firms and bool((sector == torch.arange(sectors)).all())
    share = torch.zeros(sectors, network.firms, dtype=network.output.dtype)
    share[sector, torch.arange(network.firms)] = network.output
    share = share / share.sum(1, keepdim=True) / network.output
    wide = size[:, None] if size.dim() == 1 else size

    def simulate(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        values = law.values(coordinates)
        lost = firms.exponential(periods, onset=onset, size=wide, rate=values["rate"])
        parameters = firms.Parameters(inventory=values["inventory"], adjustment_time=10.0, capacity=1.2)
        output = firms.rollout(network, parameters, productivity=1 - lost, relax=relax).output
        return output / network.output[:, None] if one_each else torch.einsum("km,tmb->tkb", share, output)

    return simulate


def stored(count: int, sectors: int, seed: int, *, dtype: torch.dtype = torch.float32) -> Case:
    """One of the six data sets that are kept as arrays; the noise is part of the case.

    Raises: DataError if the file is damaged; InputError for a case that it does not hold.
    """
    key = f"M{count}_NS{sectors}_s{seed}_"
    try:
        with numpy.load(STORED, allow_pickle=False) as file:
            checks.one_of("case", key[:-1], {name.rsplit("_", 1)[0] for name in file.files if name.endswith("_u")})
            arrays = {name: torch.from_numpy(file[key + name]) for name in ("y", "y_fresh", "d", "d_fresh", "sector", "u")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, ValueError) and type(error) is not ValueError:
            raise
        raise DataError(f"{STORED} must hold the six calibration cases, got {type(error).__name__}: {error}") from error
    network = firms.synthetic(count, degree=10.0, seed=0).to(dtype)
    numbers = {name: value.to(dtype) for name, value in arrays.items() if name != "sector"}
    return Case(key[:-1], network, arrays["sector"].long(), numbers["d"], numbers["d_fresh"], numbers["u"].reshape(-1), numbers["y"], numbers["y_fresh"])


def drawn(count: int, sectors: int, seed: int, *, dtype: torch.dtype = torch.float32) -> Case:
    """A fresh data set of the same protocol: network 0, sectors 5, parameters and noise from `seed`.

    Args:
        count: firms.
        sectors: series; as many as firms observes each firm.
        seed: of the parameters.
        dtype: of everything.
    """
    network = firms.synthetic(count, degree=10.0, seed=0).to(dtype)
    inventory, rate, size = (value.to(dtype) for value in firms.draw(count, seed=seed))
    label = numpy.arange(count) if sectors == count else numpy.random.default_rng(5).integers(0, sectors, count)
    sector = torch.from_numpy(label).long()
    other = torch.from_numpy(numpy.random.default_rng(seed + 77).uniform(SMALLEST, LARGEST, count)).to(dtype)
    fresh = torch.where(size > 0, other, torch.zeros_like(other))
    truth = prior(count).coordinates({"inventory": inventory, "rate": rate})
    clean = simulator(network, sector, size, PERIODS)(truth, relax=Exact())[..., 0]
    error = torch.from_numpy(numpy.random.default_rng([seed, 1]).standard_normal(clean.shape)).to(dtype)
    after = simulator(network, sector, fresh, PERIODS)(truth, relax=Exact())[..., 0]
    return Case(f"M{count}_NS{sectors}_fresh{seed}", network, sector, size, fresh, truth[:, 0], clean + NOISE * error, after)


def annealed(sharpness: Sequence[float], until: float) -> object:
    """Fraction done -> straight-through soft minima whose sharpness grows geometrically and is reached at `until` of the fit."""
    schedule = Anneal(StraightThrough, Logistic, 1 / sharpness[0], 1 / sharpness[1])
    return lambda done: schedule(min(1.0, done / until))


__all__ = ["FITTED", "NOISE", "PERIODS", "Case", "Counted", "annealed", "drawn", "hold_then_decay", "prior", "simulator", "stored"]
