"""Guides that start at a Gauss-Newton posterior instead of at a guessed scale: centre, and what the family can say of the covariance C = (I + J'J)^-1.

Every one takes a sequence of posteriors, one a start. Scales are those of single coordinates with all others unknown (`Laplace.spread`), so that intervals of
the start are those of C whatever the family. A fit then moves them: the evidence bound is largest for a diagonal family at the scales with all others known
(`Laplace.conditional`), which are narrower. A start helps the fit; the bound decides where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate.guides import Diagonal, FirmBlocks, Flow, Informed, LowRank
from dpsc.calibrate.laplace import Laplace
from dpsc.errors import InputError, ShapeError

DENSE = 2000  # coordinates up to which a covariance is decomposed whole


def start_diagonal(posteriors: Sequence[Laplace], *, at: Tensor | None = None, conditional: bool = False) -> Diagonal:
    """Independent coordinates with the scales of C.

    Args:
        posteriors: one a start.
        at: `(D, S)` locations; the centres where None (`Laplace.mean` is one Gauss-Newton step further).
        conditional: the scales that the evidence bound of a linear simulator prefers, instead of those of single coordinates.
    Raises: ShapeError; InputError without posteriors.
    """
    guide = Diagonal(_places(posteriors, at), scale=1.0)
    _set(guide.log_scale, [(p.conditional() if conditional else p.spread()).log() for p in posteriors])
    return guide


def start_blocks(posteriors: Sequence[Laplace], *, firms: int, at: Tensor | None = None) -> FirmBlocks:
    """The covariance of C within each firm.

    Args:
        posteriors: one a start.
        firms: M; coordinates are blocks of M.
        at: see `start_diagonal`.
    """
    guide = FirmBlocks(_places(posteriors, at), scale=1.0, firms=firms)
    factors = [torch.linalg.cholesky(p.blocks(firms)) for p in posteriors]
    diagonals = [factor.diagonal(dim1=-2, dim2=-1) for factor in factors]
    rows, columns = torch.tril_indices(guide.kinds, guide.kinds, -1)
    _set(guide.log_scale, [diagonal.mT.reshape(-1).log() for diagonal in diagonals])
    _set(guide.below, [(factor / diagonal[..., None])[:, rows, columns] for factor, diagonal in zip(factors, diagonals, strict=True)])
    return guide


def start_low_rank(posteriors: Sequence[Laplace], *, rank: int, at: Tensor | None = None) -> LowRank:
    """Exact variances, and the directions in which C is widest compared with independent coordinates.

    With d the scales of `Laplace.conditional` and diag(d)^-1 C diag(d)^-1 = Q diag(l) Q', F = diag(d) Q (l - min l)^1/2 over the `rank` largest l: what a
    diagonal family misses most. A coordinate without any data has l = 1 and takes no part. The diagonal is what is left, diag(C - F F') > 0. From
    rank D - 1 on that is C itself.

    Args:
        posteriors: one a start.
        rank: columns of F, at most D.
        at: see `start_diagonal`.
    Raises: InputError.
    """
    location = _places(posteriors, at)
    guide = LowRank(location, scale=1.0, rank=rank)
    if rank > guide.dimension:
        raise InputError(f"rank must be at most D = {guide.dimension}, got {rank}")
    factors = [_widest(p, rank) for p in posteriors]
    _set(guide.factor, factors)
    _set(guide.log_scale, [_rest(p, factor).log() / 2 for p, factor in zip(posteriors, factors, strict=True)])
    return guide


def start_informed(posteriors: Sequence[Laplace], *, rank: int | None = None, at: Tensor | None = None) -> Informed:
    """C itself, or as many of its leading directions as `rank` says; with several starts as many as all of them have.

    Args:
        posteriors: one a start.
        rank: directions at most; all where None.
        at: see `start_diagonal`.
    """
    location = _places(posteriors, at)
    if rank is not None:
        checks.at_least("rank", rank, 1)
    keep = min(len(p.strengths) for p in posteriors)
    keep = keep if rank is None else min(keep, rank)
    directions, strengths = torch.stack([p.directions[:, :keep] for p in posteriors]), torch.stack([p.strengths[:keep] for p in posteriors])
    return Informed(location, directions=directions, strengths=strengths)


def start_flow(posterior: Laplace, *, at: Tensor | None = None, layers: int = 2, hidden: int = 32, seed: int = 0) -> Flow:
    """A flow that begins as `start_diagonal` does.

    Args:
        posterior: the one start.
        at: see `start_diagonal`.
        layers: see `Flow`.
        hidden: see `Flow`.
        seed: see `Flow`.
    """
    guide = Flow(_places([posterior], at), scale=1.0, layers=layers, hidden=hidden, seed=seed)
    _set(guide.log_scale, [posterior.spread().log()])
    return guide


def _places(posteriors: Sequence[Laplace], at: Tensor | None) -> Tensor:
    """`(D, S)` locations in the dtype of the points."""
    if not posteriors:
        raise InputError("posteriors must hold at least one, got none")
    sizes = [p.dimension for p in posteriors]
    if len(set(sizes)) > 1:
        raise ShapeError(f"posteriors must have one dimension, got {', '.join(map(str, sizes))}")
    centres = torch.stack([p.line.point for p in posteriors], 1)
    if at is None:
        return centres
    if at.shape != centres.shape:
        raise ShapeError(f"at must have shape (D, S) = {tuple(centres.shape)}, got {tuple(at.shape)}")
    return at.to(centres)


def _set(parameter: Tensor, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.stack(list(values)))


def _widest(posterior: Laplace, rank: int) -> Tensor:
    """`(D, rank)` F."""
    d = posterior.conditional()
    if posterior.dimension <= DENSE or 2 * rank >= posterior.dimension:
        values, vectors = torch.linalg.eigh(posterior.covariance() / torch.outer(d, d))
        least, values, vectors = values[0], values[-rank:].flip(0), vectors[:, -rank:].flip(1)
    else:
        from scipy.sparse import linalg

        size, first = (posterior.dimension,) * 2, numpy.random.default_rng(0).standard_normal(posterior.dimension)

        def operator(times: object) -> linalg.LinearOperator:
            return linalg.LinearOperator(size, matvec=times, dtype=numpy.float64)

        def covariance(v: numpy.ndarray) -> numpy.ndarray:
            return (posterior.times(torch.from_numpy(v).reshape(-1) / d) / d).numpy()

        def precision(v: numpy.ndarray) -> numpy.ndarray:
            x = torch.from_numpy(v).reshape(-1) * d
            return (d * (x + posterior.directions @ (posterior.strengths.square() * (posterior.directions.mT @ x)))).numpy()

        found, columns = linalg.eigsh(operator(covariance), k=rank, which="LA", v0=first)
        least = 1 / torch.from_numpy(linalg.eigsh(operator(precision), k=1, which="LA", v0=first, return_eigenvectors=False))[0]
        values, vectors = torch.from_numpy(found).flip(0), torch.from_numpy(columns).flip(1)
    return d[:, None] * vectors * (values - least).clamp_min(0).sqrt()


def _rest(posterior: Laplace, factor: Tensor) -> Tensor:
    """`(D,)` diagonal of C - F F'; positive but for rounding."""
    variance = posterior.spread().square()
    return torch.maximum(variance - factor.square().sum(1), 1e-9 * variance)


__all__ = ["start_blocks", "start_diagonal", "start_flow", "start_informed", "start_low_rank"]
