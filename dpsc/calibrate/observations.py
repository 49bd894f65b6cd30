"""Observed series and how far a simulation is from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError, ShapeError

View = Callable[[Tensor], Tensor]
"""Series `(T, K, ...)` -> what is compared, of the same shape, NaN where it does not exist."""


def level(series: Tensor) -> Tensor:
    """The series as they are."""
    return series


@dataclass(frozen=True)
class Growth:
    """log y(t) - log y(t - lag); the first `lag` periods do not exist. For series whose level is not comparable (an index, another base year)."""

    lag: int = 1

    def __post_init__(self) -> None:
        checks.at_least("lag", self.lag, 1)

    def __call__(self, series: Tensor) -> Tensor:
        """`(T, K, ...)` -> the same shape, NaN in the first `lag` periods."""
        logs = series.clamp_min(torch.finfo(series.dtype).tiny).log()
        missing = torch.full_like(logs[: self.lag], float("nan"))
        return torch.cat([missing, logs[self.lag :] - logs[: -self.lag]])[: series.shape[0]]


@dataclass(frozen=True)
class Observations:
    """K series over T periods, some of it perhaps missing.

    Args:
        values: `(T, K)` levels; NaN is missing.
        noise: standard deviation of the error of what is compared (in the units of the view): a number, `(K,)`, or `(T, K)`.
        names: of the series.
        view: `level`, `Growth(lag)`, or a function of your own.
        freedom: None for normal errors; degrees of freedom of Student's t for series with outliers.
    """

    values: Tensor
    noise: float | Tensor
    names: tuple[str, ...] | None = None
    view: View = level
    freedom: float | None = None

    def __post_init__(self) -> None:
        checks.floating("values", self.values)
        if self.values.dim() != 2 or not self.values.numel():
            raise ShapeError(f"values must have shape (T, K), neither of them 0, got {tuple(self.values.shape)}")
        if bool(torch.isinf(self.values).any()):
            raise InputError("values must be finite or NaN (missing), got an infinite one")
        if not bool(torch.isfinite(self.values).any()):
            raise InputError(f"values must hold at least one observation, got {self.values.numel()} missing ones")
        if isinstance(self.view, Growth) and bool((self.values <= 0).any()):
            t, k = (self.values <= 0).nonzero()[0].tolist()
            raise InputError(f"values must be > 0 where their growth is compared, got {float(self.values[t, k]):g} in period {t} of series {k}")
        spread = torch.as_tensor(self.noise)
        try:
            torch.broadcast_to(spread, self.values.shape)
        except RuntimeError:
            raise ShapeError(f"noise must be a number or have shape (K,) or (T, K) = {tuple(self.values.shape)}, got {tuple(spread.shape)}") from None
        if not bool((torch.isfinite(spread) & (spread > 0)).all()):
            raise InputError(f"noise must be finite and > 0 everywhere, got {float(spread.min())}")
        if self.names is not None and len(self.names) != self.values.shape[1]:
            raise ShapeError(f"names must name each of the {self.values.shape[1]} series, got {len(self.names)} names")
        if self.freedom is not None:
            checks.positive("freedom", self.freedom)

    @property
    def count(self) -> int:
        """Observations that are compared."""
        return int(self._seen(self.values).sum())

    def named(self, names: Sequence[str]) -> Observations:
        """The series in the order of `names`, which must be theirs: the border where sectors of data meet sectors of a model. Raises: InputError."""
        if self.names is None:
            raise InputError("the observations have no names; give names= when they are made")
        missing, unknown = [n for n in names if n not in self.names], [n for n in self.names if n not in names]
        if missing or unknown:
            found = [f"none of {n!r}{checks.near(n, unknown)}" for n in missing] + [f"{n!r}, which the model does not have" for n in unknown]
            raise InputError(f"the observed series must be the {len(names)} of the model, got {', '.join(found[: checks.LISTED])}")
        order = [self.names.index(name) for name in names]
        spread = torch.as_tensor(self.noise)
        return replace(
            self, values=self.values[:, order], names=tuple(names), noise=spread[..., order] if spread.dim() and spread.shape[-1] > 1 else self.noise
        )

    def periods(self, begin: int, end: int) -> Observations:
        """Only the periods from `begin` to before `end`; the others become missing, so that views of the past still see them."""
        keep = torch.zeros(len(self.values), 1, dtype=torch.bool, device=self.values.device)
        keep[begin:end] = True
        return replace(self, values=torch.where(keep, self.values, float("nan")))

    def compared(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared: view of the simulation minus view of the data `(T, K, B)`, 0 where missing, and the mask `(T, K)` of what is there.

        Raises: ShapeError.
        """
        data = self.view(self.values)
        seen = torch.isfinite(data)
        if series.dim() != 3 or series.shape[1] != data.shape[1]:
            raise ShapeError(f"simulated series must have shape (T, K, B) with K = {data.shape[1]} as observed, got {tuple(series.shape)}")
        last = int(seen.any(1).nonzero().max()) + 1 if bool(seen.any()) else 0
        if len(series) < last:
            raise ShapeError(f"simulated series must reach the last observation, period {last} of {len(data)}, got {len(series)} periods")
        steps = min(len(series), len(data))
        seen, data = seen[:steps], data[:steps]
        gap = self.view(series)[:steps] - torch.where(seen, data, torch.zeros_like(data))[..., None]
        return torch.where(seen[..., None], gap, torch.zeros_like(gap)), seen

    def residuals(self, series: Tensor) -> Tensor:
        """`(T, K, B)` errors in standard deviations; 0 where missing."""
        gap, _ = self.compared(series)
        return gap / self._spread(len(gap))[..., None]

    def misfit(self, series: Tensor) -> Tensor:
        """`(B,)` negative log-likelihood, without constants: sum r^2 / 2 for normal errors, sum (f + 1)/2 log(1 + r^2 / f) for Student's t."""
        return self.penalty(self.residuals(series))

    def penalty(self, residuals: Tensor) -> Tensor:
        """`(B,)` what errors `(T, K, B)` in standard deviations cost, summed."""
        squares = residuals.square()
        if self.freedom is None:
            return squares.sum((0, 1)) / 2
        return (self.freedom + 1) / 2 * torch.log1p(squares / self.freedom).sum((0, 1))

    def loss(self, series: Tensor) -> Tensor:
        """`(B,)` mean squared error over what is there, in the units of the view."""
        gap, seen = self.compared(series)
        return gap.square().sum((0, 1)) / seen.sum()

    def seen(self, steps: int) -> Tensor:
        """`(steps, K, 1)` bool: what is compared in the first periods."""
        return self._seen(self.values)[:steps, :, None]

    def unit_errors(self, copies: int, *, seed: int) -> Tensor:
        """`(T, K, copies)` standard normal errors for data that might as well have been observed; copy r does not depend on how many are asked for."""
        steps, series = self.values.shape
        index = torch.arange(steps)[:, None, None], torch.arange(series)[:, None], torch.arange(copies)
        return noise.normal(seed, "observation errors", *index).to(self.values)

    def _spread(self, steps: int) -> Tensor:
        return torch.broadcast_to(torch.as_tensor(self.noise, dtype=self.values.dtype, device=self.values.device), self.values.shape)[:steps]

    def _seen(self, values: Tensor) -> Tensor:
        return torch.isfinite(self.view(values))
