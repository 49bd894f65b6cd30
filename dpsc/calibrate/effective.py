"""The effective number of parameters, sum s^2 / (1 + s^2) over the singular values s of the Jacobian in standard deviations, without the Jacobian.

It equals D - tr (I + J'J)^-1. A sum of s^2 / (1 + s^2) over singular values that spread over decades is counted badly by any polynomial in J J': what helps is
structure. `effective_by_period` uses time (early rows need short runs, and what each further period adds falls smoothly); `effective_parameters` solves with
I + J'J by conjugate gradients, preconditioned by the rows that are known and by the diagonal of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Product = Callable[[Tensor], Tensor]
WINDOWS = (8, 12, 16)  # periods from which what the next ones add is extrapolated


@dataclass(frozen=True)
class Effective:
    """An estimate of the effective number of parameters.

    Attributes:
        number: the estimate.
        standard_error: of it; 0 where it is exact.
        products: with the Jacobian or its transpose; each is an evaluation where runs have full length.
    """

    number: float
    standard_error: float
    products: int


@dataclass(frozen=True)
class Sweep:
    """The effective number of parameters by the length of the data.

    Attributes:
        number: for all periods; exact where all were swept, else extrapolated.
        standard_error: spread of the extrapolations; 0 where all periods were swept.
        lower: what the periods swept fix, which is as much as all do at least.
        upper: the same plus one for every observation left.
        added: `(until,)` what each period added to those before it.
        rows: `(rows, D)` the Jacobian of the periods swept.
    """

    number: float
    standard_error: float
    lower: float
    upper: float
    added: Tensor
    rows: Tensor


def effective_from_jacobian(jacobian: Tensor) -> float:
    """Effective number of parameters, sum s^2 / (1 + s^2) over the singular values of J `(observations, D)`."""
    s = torch.linalg.svdvals(jacobian.double())
    return float((s**2 / (1 + s**2)).sum())


def effective_by_period(rows: Callable[[int], Tensor], *, periods: int, until: int | None = None, left: int | None = None) -> Sweep:
    """Sweep the data from the first period on, and extrapolate if the sweep stops early.

    With every period swept the number is exact. Row by row that takes as many products as there are observations, but those of period t run through t + 1
    periods only: half the cost. Stopped early, the share of a period's observations that tell something new, f = 1 - exp(-v), is continued with log v
    linear in time; the standard error is the spread of nine such fits (three windows, three links). A spread cannot see a turn that comes after the sweep.

    Args:
        rows: period -> `(observations of it, D)` rows of the Jacobian in standard deviations, `PeriodRows` say.
        periods: T.
        until: periods to sweep; all where None.
        left: observations in the periods left out; as many a period as in the last one swept where None.
    Raises: InputError.
    """
    until = periods if until is None else until
    checks.at_least("until", until, 1)
    if until > periods:
        raise InputError(f"until must be at most periods = {periods}, got {until}")
    known: list[Tensor] = []
    counts, sizes = [0.0], []
    for period in range(until):
        part = rows(period).double()
        checks.finite(f"rows of period {period}", part)
        sizes.append(len(part))
        known.append(part)
        counts.append(counts[-1] if not bool((part != 0).any()) else _count(torch.cat(known)))
    added = torch.tensor(counts, dtype=torch.float64).diff()
    exact, every = counts[-1], torch.cat(known)
    if until == periods:
        return Sweep(exact, 0.0, exact, exact, added, every)
    begin = next((t for t, a in enumerate(added.tolist()) if a > 0), until)
    size = torch.tensor(sizes, dtype=torch.float64)
    share = (added / size.clamp_min(1))[begin:]
    if len(share) < 3:
        raise InputError(f"an extrapolation needs three periods that tell something, got {len(share)} of {until} swept: sweep more")
    steps, each = periods - until, sizes[-1] if left is None else left / (periods - until)
    found = {(link, window): each * _continued(share[-window:], steps, link) for link in _LINKS for window in WINDOWS}
    main = [value for (link, _), value in found.items() if link == "cloglog"]
    spread = float(torch.tensor(list(found.values()), dtype=torch.float64).std())
    return Sweep(exact + sum(main) / len(main), spread, exact, exact + each * steps, added, every)


def _count(jacobian: Tensor) -> float:
    """R - tr (I + J J')^-1, or the same over columns where they are fewer."""
    used = jacobian[:, (jacobian != 0).any(0)]
    wide = used if used.shape[0] <= used.shape[1] else used.mT
    factor = torch.linalg.cholesky(torch.eye(len(wide), dtype=wide.dtype, device=wide.device) + wide @ wide.mT)
    return len(wide) - float(torch.cholesky_inverse(factor).diagonal().sum())


_LINKS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "log": (torch.log, lambda y: y.exp().clamp_max(1)),
    "cloglog": (lambda f: (-torch.log1p(-f)).log(), lambda y: -torch.expm1(-y.exp())),
    "logit": (torch.logit, torch.sigmoid),
}


def _continued(share: Tensor, steps: int, link: str) -> float:
    """Sum over `steps` further periods of a share whose link is a straight line that does not rise."""
    there, back = _LINKS[link]
    y = there(share.clamp(1e-3, 1 - 1e-3))
    t = torch.arange(len(share), dtype=torch.float64)
    centred = t - t.mean()
    slope = min(float(centred @ y / centred.square().sum()), 0.0)
    ahead = torch.arange(len(share), len(share) + steps, dtype=torch.float64) - t.mean()
    return float(back(y.mean() + slope * ahead).sum())


def effective_parameters(
    forward: Product,
    backward: Product,
    *,
    observations: int,
    dimension: int,
    rows: Tensor | None = None,
    which: Tensor | None = None,
    sketches: int = 4,
    probes: int = 1,
    steps: int = 40,
    tolerance: float = 1e-3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Effective:
    """Effective number of parameters from products with the Jacobian: D - tr (I + J'J)^-1 by preconditioned conjugate gradients on random signs.

    For random signs b, b'(I + J'J)^-1 b has the mean tr (I + J'J)^-1, and conjugate gradients find it from above in D - b'x. The preconditioner
    M = I + K'K + diag(d) has the known rows K and the diagonal d of the rest, estimated from `sketches` backward products; b'M^-1 b - tr M^-1, which is known
    exactly, takes part of the noise of the signs away. The last iterations are extrapolated geometrically. Coordinates that no observation depends
    on drop out exactly. Data on single firms take about 20 iterations; sums over many firms a hundred, or a few dozen with the rows of early periods known.

    Args:
        forward: J v: `(D, V)` -> `(observations, V)`, `Linearised.forward` say.
        backward: J'w: `(observations, V)` -> `(D, V)`.
        observations: how many.
        dimension: D.
        rows: `(R, D)` rows of J that are known, `Sweep.rows` say; none where None.
        which: `(R,)` their places among the observations; the first R where None.
        sketches: backward products for the diagonal.
        probes: sign vectors b, solved side by side.
        steps: iterations at most; each takes 2 x probes products.
        tolerance: stop when an iteration changes the number by less than this share of it.
        seed: of signs.
        dtype: of what is handed to the products.
    Returns: the number; its standard error has a part for the signs, sqrt(2 / probes) |(M^-1 - (I + J'J)^-1) b| (an upper estimate that one probe can give)
        and one for stopping early (as much as the extrapolation moved the number).
    Raises: ShapeError; InputError if a product is not finite.
    Source: Hutchinson (1990), doi:10.1080/03610919008812866; Meurant & Tichy (2019), doi:10.1007/s11075-018-0634-8.
    """
    for name, value in {"observations": observations, "dimension": dimension, "sketches": sketches, "probes": probes, "steps": steps}.items():
        checks.at_least(name, value, 1)
    known = torch.zeros(0, dimension, dtype=torch.float64) if rows is None else rows.double()
    if known.dim() != 2 or known.shape[1] != dimension:
        raise ShapeError(f"rows must have shape (R, D) with D = {dimension}, got {tuple(known.shape)}")
    places = torch.arange(len(known)) if which is None else which
    if places.shape != (len(known),):
        raise ShapeError(f"which must hold the place of each of the {len(known)} rows, got {tuple(places.shape)}")
    generator = torch.Generator().manual_seed(seed)
    products = 0

    def signs(size: int, count: int) -> Tensor:
        return torch.randint(0, 2, (size, count), generator=generator).double() * 2 - 1

    def checked(name: str, value: Tensor) -> Tensor:
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"products with the Jacobian must be finite, got {int((~torch.isfinite(value)).sum())} of {value.numel()} entries of {name} not")
        return value.double()

    cover = signs(observations, sketches)
    cover[places] = 0
    rest = 1 + checked("J'w", backward(cover.to(dtype))).square().mean(1)
    products += sketches
    solve, trace = preconditioner(known, rest)
    b = signs(dimension, probes)
    guess = solve(b)
    x, residual = torch.zeros_like(b), b.clone()
    z = guess.clone()
    direction, power = z.clone(), (residual * z).sum(0)
    path: list[float] = []
    for _ in range(steps):
        image = direction + checked("J'J v", backward(forward(direction.to(dtype))))
        products += 2 * probes
        length = power / (direction * image).sum(0)
        x, residual = x + length * direction, residual - length * image
        path.append(dimension - float((b * x).sum(0).mean()))
        z = solve(residual)
        fresh = (residual * z).sum(0)
        if (len(path) > 1 and abs(path[-2] - path[-1]) <= tolerance * max(path[-1], 1.0) / 10) or not bool((fresh > 0).all()):
            break
        direction, power = z + fresh / power * direction, fresh
    limit = _limit(path)
    shift = float((b * guess).sum(0).mean()) - trace
    noise = math.sqrt(2 * float((guess - x).square().sum(0).mean()) / probes)
    return Effective(limit + shift, math.hypot(noise, path[-1] - limit), products)


def preconditioner(known: Tensor, diagonal: Tensor) -> tuple[Product, float]:
    """The inverse of K'K + diag(d), only as large as K has rows, and its trace."""
    inverse = 1 / diagonal
    if not len(known):
        return (lambda b: b * inverse[:, None]), float(inverse.sum())
    scaled = known * inverse
    factor = torch.linalg.cholesky(torch.eye(len(known), dtype=known.dtype) + scaled @ known.mT)
    half = torch.linalg.solve_triangular(factor, scaled, upper=False)
    return (lambda b: b * inverse[:, None] - half.mT @ (half @ b)), float(inverse.sum() - half.square().sum())


def _limit(path: list[float]) -> float:
    """Where a falling sequence goes, if it goes on geometrically (Aitken over quarters of its length); its last value if it is too short or does not fall."""
    last, gap = len(path) - 1, max(2, len(path) // 4)
    if last < 8:
        return path[-1]
    before, after = path[last - 2 * gap] - path[last - gap], path[last - gap] - path[last]
    ratio = min(max(after / before, 0.0), 0.9) if before > 0 else 0.0
    return path[-1] - after * ratio / (1 - ratio)
