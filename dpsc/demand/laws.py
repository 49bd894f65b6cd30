"""Laws of demand and of delays: parameters and addresses in, trajectories `(T, S, N)` out, by inverse transform of addressed uniform numbers.

Means and other parameters are `(N,)` (the same in all periods) or `(T, N)`. Nothing here has a gradient: demand is noise. A law whose parameters are trained is
drawn with `dpsc.relax.count` from `Futures.uniform`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dpsc import checks
from dpsc.demand.counting import inverse
from dpsc.demand.futures import Futures
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Categorical, Law, NegativeBinomial, Poisson


def _parameter(name: str, value: Tensor | float, at: Futures, *, low: float = 0.0, strict: bool = False) -> Tensor:
    """A parameter, checked: `(N,)` or `(T, N)`."""
    value = torch.as_tensor(value, dtype=torch.float64, device=at.items.device).detach()
    periods, _, items = at.shape
    if value.dim() > 2 or (value.dim() and value.shape[-1] not in (1, items)) or (value.dim() == 2 and value.shape[0] not in (1, periods)):
        raise ShapeError(f"{name} must have shape (N,) = ({items},) or (T, N) = ({periods}, {items}), got {tuple(value.shape)}")
    checks.finite(name, value)
    if value.numel() and not bool((value > low if strict else value >= low).all()):
        raise InputError(f"{name} must be {'>' if strict else '>='} {low:g}, got {value.min().item():g}")
    return value


def _cells(value: Tensor) -> Tensor:
    """`(N,)` -> `(1, 1, N)`, `(T, N)` -> `(T, 1, N)`."""
    return value[:, None, :] if value.dim() == 2 else value


def drawn(law: Law, at: Futures, *, purpose: str = "demand") -> Tensor:
    """Any counting law, by its table.

    Args:
        law: of shape `(N,)` or `(T, N)`.
        at: addresses.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` whole numbers.
    """
    periods, _, items = at.shape
    if tuple(law.shape) not in ((items,), (periods, items)):
        raise ShapeError(f"the law must have shape (N,) = ({items},) or (T, N) = ({periods}, {items}), got {tuple(law.shape)}")
    u = at.uniform(purpose)
    return law.quantile(u.movedim(1, 0)).movedim(0, 1).to(at.dtype) if len(law.shape) == 2 else law.quantile(u).to(at.dtype)


def poisson(mean: Tensor | float, *, at: Futures, purpose: str = "demand") -> Tensor:
    """Poisson demand.

    Args:
        mean: >= 0, units a period.
        at: addresses.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` whole units.
    """
    mean = _parameter("mean", mean, at)
    return drawn(Poisson(mean.expand(mean.shape if mean.dim() == 2 else (at.shape[2],))), at, purpose=purpose)


def negative_binomial(mean: Tensor | float, size: Tensor | float, *, at: Futures, purpose: str = "demand") -> Tensor:
    """Negative binomial demand, a Poisson whose rate is gamma-distributed in every period anew; variance mu + mu^2 / r.

    Args:
        mean: mu >= 0, units a period.
        size: r > 0; the smaller, the wilder; 1 is geometric.
        at: addresses.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` whole units.
    """
    mean, size = _parameter("mean", mean, at), _parameter("size", size, at, strict=True)
    shape = torch.broadcast_shapes(mean.shape, size.shape, (at.shape[2],))
    return drawn(NegativeBinomial(mean.expand(shape), size.expand(shape)), at, purpose=purpose)


def gamma_poisson(
    mean: Tensor | float, dispersion: Tensor | float, *, at: Futures, level_deviation: Tensor | float = 0.0, level_mean: float = 1.0, purpose: str = "demand"
) -> Tensor:
    """Demand around a forecast whose level may be wrong for a whole path.

    The level of a path and item is lognormal; given it, a period is negative binomial with mean level x mean and the variance `dispersion` times that.

    Args:
        mean: the forecast, units a period, >= 0.
        dispersion: variance over mean within a path, >= 1; 1 is Poisson.
        at: addresses.
        level_deviation: standard deviation of the level's logarithm, >= 0, `(N,)`.
        level_mean: mean of the level.
        purpose: of the uniform numbers; the level has its own.
    Returns: `(T, S, N)` whole units.
    Raises: InputError for means of several hundred units, where counting up from zero would lose its digits.
    """
    mean, over = _parameter("mean", mean, at), _parameter("dispersion", dispersion, at, low=1.0) - 1
    sigma = _parameter("level_deviation", level_deviation, at)
    if sigma.dim() == 2:
        raise ShapeError(f"level_deviation must have shape (N,), got {tuple(sigma.shape)}: a level holds for a whole path")
    level = torch.exp(at.normal(f"{purpose} level", constant=True).double() * sigma - sigma.square() / 2) * checks.positive("level_mean", level_mean)
    rate = _cells(mean) * level
    over = _cells(over).expand_as(rate) if over.dim() else over.expand_as(rate)
    wild = over > 0
    spread = torch.where(wild, over, torch.ones_like(over))
    size, q = rate / spread, over / (1 + over)
    log_zero = torch.where(wild, -size * torch.log1p(over), -rate)
    return inverse(at.uniform(purpose).double(), log_zero, torch.where(wild, q * size, rate), q).to(at.dtype)


def clipped_normal(
    mean: Tensor | float, deviation: Tensor | float, *, at: Futures, correlation: float | Tensor = 0.0, clip: bool = True, purpose: str = "demand"
) -> Tensor:
    """Normal demand, cut at zero, correlated over the items of a period.

    Args:
        mean: units a period.
        deviation: standard deviation before clipping, >= 0.
        at: addresses.
        correlation: a number in [0, 1), the same for every pair, by a shock that all items share; or an `(N, N)` matrix for items 0 ... N - 1, of which all
            must be drawn at once (paths and periods may still be sharded).
        clip: whether negative draws become 0.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` units, divisible.
    Raises: InputError for a correlation that is no correlation.
    """
    mean, deviation = _parameter("mean", mean, at, low=-math.inf), _parameter("deviation", deviation, at)
    z = at.normal(purpose)
    if isinstance(correlation, Tensor):
        z = _correlated(z, correlation)
    elif not 0 <= correlation < 1:
        raise InputError(f"correlation must lie in [0, 1), or be a matrix, got {correlation!r}")
    elif correlation > 0:
        z = math.sqrt(correlation) * at.normal(f"{purpose} of everyone", everyone=True) + math.sqrt(1 - correlation) * z
    demand = _cells(mean.to(at.dtype)) + _cells(deviation.to(at.dtype)) * z
    return demand.clamp_min(0) if clip else demand


def _correlated(z: Tensor, correlation: Tensor) -> Tensor:
    """Independent `(T, S, N)` to correlated ones, by the Cholesky factor; summed item by item, so that a shard adds up as the whole does."""
    items = z.shape[-1]
    matrix = checks.floating("correlation", correlation).detach().double()
    checks.finite("correlation", matrix)
    if matrix.shape != (items, items):
        raise ShapeError(f"correlation must have shape (N, N) = ({items}, {items}), got {tuple(matrix.shape)}")
    if not torch.allclose(matrix, matrix.T, atol=1e-9) or not torch.allclose(matrix.diagonal(), torch.ones_like(matrix[0]), atol=1e-9):
        raise InputError("correlation must be symmetric with ones on the diagonal")
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise InputError(f"correlation must be positive definite, got a smallest eigenvalue of {float(torch.linalg.eigvalsh(matrix)[0]):.3g}")
    factor = factor.to(z)
    total = z[..., :1] * factor[:, 0]
    for k in range(1, items):
        total = total + z[..., k : k + 1] * factor[:, k]
    return total


def empirical(samples: Tensor, *, at: Futures, together: bool = False, purpose: str = "demand") -> Tensor:
    """Demand as it was seen before: every period repeats a past one, drawn with replacement.

    Args:
        samples: `(K, N)` observed demand, units >= 0.
        at: addresses.
        together: whether all items repeat the same past period, which keeps their dependence, or each one its own.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` units.
    """
    checks.finite("samples", checks.floating("samples", samples))
    if samples.dim() != 2 or samples.shape[-1] != at.shape[2] or not len(samples):
        raise ShapeError(f"samples must have shape (K, N) = (K, {at.shape[2]}), got {tuple(samples.shape)}")
    if float(samples.min()) < 0:
        raise InputError(f"samples of demand must be >= 0, got {float(samples.min()):g}")
    row = (at.uniform(purpose, everyone=together).double() * len(samples)).long().clamp_max(len(samples) - 1)
    values = samples.to(device=at.items.device, dtype=at.dtype)
    return values.expand(at.shape[0], *values.shape).gather(1, row.expand(at.shape))


def delays(probabilities: Tensor, *, at: Futures, shortest: int = 1, purpose: str = "lead_time") -> Tensor:
    """Lead times or return lags: shortest, shortest + 1, ... with given probabilities.

    Args:
        probabilities: `(K,)` or `(N, K)` > 0, adding up to 1.
        at: addresses; its items may be edges.
        shortest: the delay of the first probability, whole periods.
        purpose: of the uniform numbers.
    Returns: `(T, S, N)` whole periods.
    """
    law = Categorical.of_probabilities(checks.floating("probabilities", probabilities).expand(at.shape[2], probabilities.shape[-1]))
    return drawn(law, at, purpose=purpose) + shortest
