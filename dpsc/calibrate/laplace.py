"""The Gauss-Newton posterior at one point: the prior, shrunk along the directions that the data say something about.

In unit-normal coordinates, with r the standardised residuals, J their Jacobian at the centre m and J = U diag(s) V', the linearised posterior is normal with

    covariance  C = (I + J'J)^-1 = I - V diag(s^2 / (1 + s^2)) V',      mean  m - C (J'r + m).

Along a direction that is informed by s the standard deviation of the prior is shrunk to (1 + s^2)^-1/2; along all others it stays 1. At a most likely point
of a smooth simulator the mean is the centre: that is Laplace's approximation, with Gauss-Newton curvature. Of a simulator with kinks it knows one side only:
how wide the posterior is near a centre, and nothing of other centres. Where the centre is off, it is sure of the wrong place; measure it (`covered`).

Source: Tierney & Kadane (1986), doi:10.1080/01621459.1986.10478240; low rank: Flath et al. (2011), doi:10.1137/090780717; range finder: Halko, Martinsson &
Tropp (2011), doi:10.1137/090771806; draws by perturbation: Papandreou & Yuille (2010), Gaussian sampling by local perturbations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.calibrate.effective import preconditioner
from dpsc.calibrate.linearised import Linearised
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Simulator
from dpsc.errors import InputError, ShapeError
from dpsc.types import Relaxation

FAINT = 1e-6  # singular values below change the covariance by less than 1e-12


@dataclass(frozen=True)
class Laplace:
    """N(mean, I - V diag(s^2 / (1 + s^2)) V'), in float64.

    Attributes:
        centre: `(D,)` where the simulator was made linear.
        step: `(D,)` from the centre to the mean of the linearised posterior: the Gauss-Newton step. Exact where the simulator is linear; next to kinks it may
            lead to a worse point than the centre is.
        directions: `(D, R)` V, orthonormal.
        strengths: `(R,)` s, falling.
        remainder: `(D,)` diagonal of what J'J has beyond these directions, estimated where they come from a range finder; for the preconditioner alone.
        exact: whether these are all directions; else the covariance along those left out is that of the prior: too wide, not too narrow.
        line: the linearised simulation, for products; counts `evaluations`.
    """

    centre: Tensor
    step: Tensor
    directions: Tensor
    strengths: Tensor
    remainder: Tensor
    exact: bool
    line: Linearised

    @property
    def mean(self) -> Tensor:
        """`(D,)`."""
        return self.centre + self.step

    @property
    def dimension(self) -> int:
        """D."""
        return self.centre.shape[0]

    @property
    def evaluations(self) -> int:
        """Of the simulator so far, products included."""
        return self.line.evaluations

    @property
    def shrinkage(self) -> Tensor:
        """`(R,)` s^2 / (1 + s^2): share of the prior's variance that is lost along each direction; their sum is the effective number of parameters."""
        return self.strengths.square() / (1 + self.strengths.square())

    def spread(self) -> Tensor:
        """`(D,)` standard deviation of each coordinate, the others unknown; 1 where the data are silent."""
        squares = self.directions.square()
        return (squares @ (1 / (1 + self.strengths.square())) + (1 - squares.sum(1)).clamp_min(0)).sqrt()

    def conditional(self) -> Tensor:
        """`(D,)` standard deviation of each coordinate if all others were known, (1 + |J e|^2)^-1/2: where the evidence bound takes a diagonal family."""
        return (1 + self.directions.square() @ self.strengths.square()).rsqrt()

    def blocks(self, firms: int) -> Tensor:
        """`(M, P, P)` covariance among the P coordinates of each of M firms; coordinates are P blocks of M, as `Prior` lays them out. Raises: ShapeError."""
        checks.at_least("firms", firms, 1)
        if self.dimension % firms:
            raise ShapeError(f"the centre must have a multiple of firms = {firms} coordinates, got {self.dimension}")
        kinds = self.dimension // firms
        v = self.directions.view(kinds, firms, -1)
        silent = torch.eye(kinds, dtype=v.dtype, device=v.device) - torch.einsum("pmr,qmr->mpq", v, v)  # apart, or strong data drown in rounding
        return silent + torch.einsum("pmr,r,qmr->mpq", v, 1 / (1 + self.strengths.square()), v)

    def covariance(self) -> Tensor:
        """`(D, D)`."""
        v = self.directions
        return torch.eye(self.dimension, dtype=v.dtype, device=v.device) - v @ v.mT + (v / (1 + self.strengths.square())) @ v.mT

    def times(self, v: Tensor) -> Tensor:
        """C v, `(D, ...)` -> the same."""
        return self._along(v, -self.shrinkage)

    def sample(self, count: int, *, seed: int, at: Tensor | None = None) -> Tensor:
        """`(D, count)` draws around the mean, or around `at` `(D,)`, in the dtype of the point; without evaluations. A draw does not depend on how many.

        Raises: ShapeError.
        """
        checks.at_least("count", count, 1)
        unit = _unit(self.dimension, count, seed, "Laplace draws").to(self.directions)
        place = self.mean if at is None else at.to(self.mean)
        if place.shape != self.centre.shape:
            raise ShapeError(f"at must have shape (D,) = ({self.dimension},), got {tuple(place.shape)}")
        return (place[:, None] + self._along(unit, (1 + self.strengths.square()).rsqrt() - 1)).to(self.line.point)

    def perturbed(self, count: int, *, seed: int, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
        """`(D, count)` draws around the mean with all directions, also those left out: (I + J'J)^-1 (e + J'f), e and f standard normal.

        Solved by conjugate gradients, preconditioned with the directions that are known: 1 + 2 evaluations an iteration for every draw. Where `exact`, `sample`
        has the same law for nothing.
        """
        checks.at_least("count", count, 1)
        e, f = _unit(self.dimension, count, seed, "Laplace draws"), _unit(self.line.count, count, seed, "Laplace errors")
        right = e.to(self.directions) + _finite("J'w", self.line.backward(f.to(self.line.point)))
        return (self.mean[:, None] + solve(self.line, right, known=self, steps=steps, tolerance=tolerance)).to(self.line.point)

    def _along(self, v: Tensor, weight: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (v.dim() - 1)
        return v + self.directions @ (weight.view(shape) * (self.directions.mT @ v))


def gauss_newton(
    simulate: Simulator,
    observations: Observations,
    centre: Tensor,
    *,
    relax: Relaxation,
    rank: int | None = None,
    oversample: int = 10,
    passes: int = 1,
    sketches: int = 8,
    jacobian: Tensor | None = None,
    steps: int = 100,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Laplace:
    """The Gauss-Newton posterior at a centre: a most likely point (`maximum_posterior`) or any other.

    All directions take the Jacobian, by rows or by columns, whichever are fewer: min(n, D) evaluations. `rank` leading directions take a randomised range
    finder, 2 (rank + oversample) (1 + passes) + sketches evaluations, and no room for J; where the Jacobian costs no more, it is taken and cut. The step is
    then found by conjugate gradients with products, 2 evaluations an iteration. The residual is one evaluation, the gradient another.

    Args:
        simulate: series of columns of coordinates. Columns and `rank` need forward-mode derivatives of it.
        observations: what was seen, with normal errors.
        centre: `(D,)`.
        relax: the reading whose derivatives are meant. Read exactly, what does not bind is silent; straight-through, what nearly binds speaks a little.
        rank: leading directions wanted; all where None.
        oversample: further random directions that make the leading ones better.
        passes: power iterations; more where singular values fall slowly.
        sketches: further evaluations for the diagonal of what the leading directions leave out, which makes conjugate gradients quick.
        jacobian: `(n, D)` in standard deviations if it is known already (`Linearised.rows`, `Sweep.rows`), at the same centre; no evaluations then.
        steps: iterations of conjugate gradients at most.
        tolerance: of their residual, relative.
        seed: of random directions.
    Raises: ShapeError; InputError for errors that are not normal, or where the simulation or its Jacobian is not finite.
    """
    if observations.freedom is not None:
        raise InputError(f"observations must have normal errors (freedom=None) for a Gauss-Newton posterior, got Student's t with {observations.freedom:g}")
    for name, value, low in (("rank", 1 if rank is None else rank, 1), ("oversample", oversample, 0), ("passes", passes, 0), ("sketches", sketches, 1)):
        checks.at_least(name, value, low)
    line = Linearised(simulate, observations, centre, relax=relax)
    n, d = line.count, line.dimension
    residual, point = line.residual.double(), line.point.double()
    if jacobian is not None and jacobian.shape != (n, d):
        raise ShapeError(f"jacobian must have shape (n, D) = ({n}, {d}), got {tuple(jacobian.shape)}")
    wide = 0 if rank is None else rank + oversample
    if jacobian is None and rank is not None and 2 * wide * (1 + passes) + sketches < min(n, d):
        s, v = _leading(line, rank, wide, passes, seed)
        sketch = _finite("J'w", line.backward(_unit(n, sketches, seed, "remainder").to(line.point)))
        remainder = (sketch - v @ (v.mT @ sketch)).square().mean(1)
        found = Laplace(point, torch.zeros_like(point), v, s, remainder, False, line)
        gradient = point + _finite("J'r", line.backward(line.residual))
        return replace(found, step=-solve(line, gradient, known=found, steps=steps, tolerance=tolerance))
    j = _finite("the Jacobian", _whole(line) if jacobian is None else jacobian)
    _, s, vt = torch.linalg.svd(j, full_matrices=False)
    keep = int((s > FAINT).sum())
    s, v = s[:keep], vt[:keep].mT.contiguous()
    every = Laplace(point, torch.zeros_like(point), v, s, torch.zeros_like(point), True, line)
    step = -every.times(point + j.mT @ residual)
    cut = keep if rank is None else min(rank, keep)
    remainder = v[:, cut:].square() @ s[cut:].square()
    return Laplace(point, step, v[:, :cut].contiguous(), s[:cut], remainder, cut == keep, line)


def solve(line: Linearised, right: Tensor, *, known: Laplace | None = None, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """(I + J'J)^-1 b by conjugate gradients; two evaluations an iteration for every column.

    Args:
        line: where to take products. In single precision the residual cannot fall much below 1e-7 times the largest s^2.
        right: `(D,)` or `(D, V)` b.
        known: leading directions and the diagonal of the rest, as a preconditioner.
        steps: iterations at most.
        tolerance: stop when every column's residual is below this share of b.
    Returns: as `right`, float64.
    Raises: ShapeError; InputError if a product is not finite.
    """
    checks.at_least("steps", steps, 1)
    checks.positive("tolerance", tolerance)
    if right.dim() not in (1, 2) or right.shape[0] != line.dimension:
        raise ShapeError(f"right must have shape ({line.dimension},) or ({line.dimension}, V), got {tuple(right.shape)}")
    b = right.double().reshape(line.dimension, -1)
    close = (lambda v: v) if known is None else preconditioner(known.strengths[:, None] * known.directions.mT, 1 + known.remainder)[0]
    x, rest = torch.zeros_like(b), b.clone()
    z = close(rest)
    direction, power = z.clone(), (rest * z).sum(0)
    goal = tolerance * b.norm(dim=0)
    for _ in range(steps):
        if bool((rest.norm(dim=0) <= goal).all()):
            break
        image = direction + _finite("J'J v", line.backward(line.forward(direction)))
        curvature = (direction * image).sum(0)
        length = torch.where(curvature > 0, power / curvature, torch.zeros_like(power))
        x, rest = x + length * direction, rest - length * image
        z = close(rest)
        fresh = (rest * z).sum(0)
        direction, power = z + torch.where(power > 0, fresh / power, torch.zeros_like(power)) * direction, fresh
    return x.reshape(right.shape)


def _whole(line: Linearised) -> Tensor:
    """`(n, D)` the Jacobian, row by row or column by column."""
    if line.count <= line.dimension:
        return line.rows()
    unit = torch.eye(line.dimension, dtype=line.point.dtype, device=line.point.device)
    return torch.cat([line.forward(part) for part in unit.split(64, 1)], 1)


def _leading(line: Linearised, rank: int, wide: int, passes: int, seed: int) -> tuple[Tensor, Tensor]:
    """s `(rank,)` and V `(D, rank)` by a randomised range finder of the rows of J."""
    cover = _unit(line.count, wide, seed, "range finder").to(line.point)
    basis = torch.linalg.qr(_finite("J'w", line.backward(cover)))[0]
    for _ in range(passes):
        image = torch.linalg.qr(_finite("J v", line.forward(basis)))[0]
        basis = torch.linalg.qr(_finite("J'w", line.backward(image)))[0]
    _, s, small = torch.linalg.svd(_finite("J v", line.forward(basis)), full_matrices=False)
    keep = min(rank, int((s > FAINT).sum()))
    return s[:keep], (basis @ small.mT)[:, :keep].contiguous()


def _finite(name: str, value: Tensor) -> Tensor:
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InputError(f"{name} must be finite at the centre, got {bad} of {value.numel()} entries that are not")
    return value.double()


def _unit(size: int, count: int, seed: int, name: str) -> Tensor:
    return noise.normal(seed, name, torch.arange(size)[:, None], torch.arange(count))


__all__ = ["Laplace", "gauss_newton", "solve"]
