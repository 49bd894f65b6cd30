"""Refinement and derivative of a solved conic program on its own optimality conditions, for a whole batch.

The program is min x'Px/2 + q.x, A x + s = b, s in K, with multiplier y in the dual cone. Both cone conditions and s.y = 0 hold by construction when
s = proj_K(z), y = s - z, so that x and z solve F(x, z) = (P x + q + A'y, A x + s - b) = 0. Newton's method on F is quadratic near a regular
solution (exact in one step when the active set is right and the cones are polyhedral), and the same Jacobian
J = [[P, A'(D - I)], [A, D]], D = proj_K'(z), gives the derivative of x and y in P, q, A, b by one transposed solve.
Source: Busseti, Moursi & Boyd (2019), doi:10.1007/s10589-019-00122-9; Agrawal, Barratt, Boyd, Busseti & Moursi (2019), arXiv:1904.09043.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.decision.convex.cones import Cones

STEPS = 12
SINGULAR = 1e-13
BLOCK = 2**21  # entries of the Jacobians held at a time: 16 MiB in float64, which stays near the cache


class Program(NamedTuple):
    """A batch of canonical programs: P `(B, n, n)` symmetric, q `(B, n)`, A `(B, m, n)`, b `(B, m)`; float64 on the CPU."""

    P: Tensor
    q: Tensor
    A: Tensor
    b: Tensor


@dataclass(frozen=True)
class Point:
    """A refined point of every row: x `(B, n)`, z `(B, m)`, its relative residual `(B,)`."""

    x: Tensor
    z: Tensor
    residual: Tensor


def blocks(program: Program) -> list[slice]:
    """Slices of the batch whose Jacobians fit the memory budget together."""
    batch, size = len(program.q), program.q.shape[1] + program.b.shape[1]
    step = max(1, BLOCK // max(1, size * size))
    return [slice(i, min(i + step, batch)) for i in range(0, batch, step)]


def refine(program: Program, cones: Cones, x: Tensor, z: Tensor, watched: Tensor) -> Point:
    """Newton's method on the optimality conditions from a solver's point; keeps a step only where it lowers the residual.

    Args:
        watched: indices of the variables that are the decision; the others (epigraphs, say) need not be unique.
    Returns: the refined point; its residual is the larger of the relative error of the conditions and the relative size of the smallest Newton
        correction seen, an estimate of the distance to the solution; infinite where the minimiser is not unique, so that it has no derivative.
    """
    if not len(x):
        return Point(x, z, x.new_zeros(0))
    parts = [_refine(Program(*(t[k] for t in program)), cones, x[k], z[k], watched) for k in blocks(program)]
    return Point(torch.cat([p.x for p in parts]), torch.cat([p.z for p in parts]), torch.cat([p.residual for p in parts]))


def _refine(program: Program, cones: Cones, x: Tensor, z: Tensor, watched: Tensor) -> Point:
    n = x.shape[1]
    error, value = conditions(program, cones, x, z)
    correction, ambiguous = torch.full_like(error, float("inf")), torch.zeros_like(error, dtype=torch.bool)
    todo = torch.arange(len(x))
    for _ in range(STEPS):
        rows = Program(*(t[todo] for t in program))
        factor = Factor(rows, cones, z[todo], watched)
        ambiguous[todo] = factor.ambiguous
        step = factor.solve(-value[todo])
        dx, dz = step[:, :n], step[:, n:]
        size = (dx[:, watched].abs().amax(1) / (1 + x[todo][:, watched].abs().amax(1))).nan_to_num(nan=float("inf"))
        correction[todo] = torch.minimum(correction[todo], size)
        new_x, new_z = x[todo] + dx, z[todo] + dz
        new_error, new_value = conditions(rows, cones, new_x, new_z)
        better = new_error < error[todo]
        kept = todo[better]
        x, z, error, value = (t.index_copy(0, kept, new[better]) for t, new in ((x, new_x), (z, new_z), (error, new_error), (value, new_value)))
        todo = kept[size[better] > 1e-12]
        if not len(todo):
            break
    return Point(x, z, torch.maximum(error, correction).masked_fill(ambiguous, float("inf")))


def conditions(program: Program, cones: Cones, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Relative size `(B,)` and value `(B, n + m)` of F, the error of the optimality conditions."""
    s = cones.project(z)
    Px, Aty, Ax = (program.P @ x[..., None])[..., 0], (program.A.mT @ (s - z)[..., None])[..., 0], (program.A @ x[..., None])[..., 0]
    stationarity, feasibility = Px + program.q + Aty, Ax + s - program.b

    def top(*terms: Tensor) -> Tensor:
        return torch.cat([t.abs() for t in terms], 1).amax(1) if sum(t.shape[1] for t in terms) else x.new_zeros(len(x))

    error = torch.maximum(top(stationarity) / (1 + top(Px, program.q, Aty)), top(feasibility) / (1 + top(Ax, program.b)))
    return error.nan_to_num(nan=float("inf")), torch.cat([stationarity, feasibility], 1)


class Factor:
    """The factored Jacobian of a batch; rows whose Jacobian is singular (several multipliers, no curvature) get the least-norm solution.

    With polyhedral cones only the active constraints are kept in the factor (D is 0 or 1): those with slack follow by substitution. The batch shares
    one size, that of the row with most active constraints; the others are padded with ones on the diagonal.
    """

    def __init__(self, program: Program, cones: Cones, z: Tensor, watched: Tensor) -> None:
        n, m = program.q.shape[1], z.shape[1]
        D = cones.derivative(z)
        self.A = program.A
        if cones.polyhedral:
            self.minus_eye: Tensor = D - 1
            active = D == 0
            count = int(active.sum(1).max()) if len(z) else 0
            self.index = D.argsort(dim=1, stable=True)[:, :count]
            self.kept: Tensor | None = active.gather(1, self.index).to(z.dtype)
            rows = program.A.gather(1, self.index[..., None].expand(-1, -1, n)) * self.kept[..., None]
            J = z.new_zeros(len(z), n + count, n + count)
            J[:, :n, :n], J[:, n:, :n], J[:, :n, n:] = program.P, rows, -rows.mT
            J[:, n:, n:].diagonal(dim1=1, dim2=2).copy_(1 - self.kept)
        else:
            self.minus_eye = D - torch.eye(m, dtype=D.dtype)
            self.kept = None
            J = z.new_zeros(len(z), n + m, n + m)
            J[:, :n, :n], J[:, n:, :n], J[:, :n, n:], J[:, n:, n:] = program.P, program.A, program.A.mT @ self.minus_eye, D
        self.size = n
        self.factor, self.pivots, _ = torch.linalg.lu_factor_ex(J)
        diagonal = self.factor.diagonal(dim1=1, dim2=2).abs()
        self.singular = (~(diagonal.amin(1) > SINGULAR * diagonal.amax(1))).nonzero()[:, 0] if J.shape[1] else torch.zeros(0, dtype=torch.int64)
        self.inverse: Tensor | None = None
        self.ambiguous = torch.zeros(len(z), dtype=torch.bool)  # rows with a direction in the watched variables that F does not see
        if len(self.singular):
            bad = J[self.singular].nan_to_num()
            self.inverse = torch.linalg.pinv(bad, rtol=1e-11)
            seen = (self.inverse @ bad - torch.eye(bad.shape[1], dtype=z.dtype))[:, watched].abs().amax((1, 2))
            self.ambiguous[self.singular] = seen > 1e-6

    def solve(self, right: Tensor) -> Tensor:
        """`(B, n + m)` d with J d = right."""
        if self.kept is None:
            return self._apply(right, transposed=False)
        r, rest = right[:, : self.size], right[:, self.size :]
        found = self._apply(torch.cat([r, rest.gather(1, self.index) * self.kept], 1), transposed=False)
        dx, dz_active = found[:, : self.size], found[:, self.size :]
        dz = rest - (self.A @ dx[..., None])[..., 0]
        dz = dz.scatter(1, self.index, torch.where(self.kept > 0, dz_active, dz.gather(1, self.index)))
        return torch.cat([dx, dz], 1)

    def adjoint(self, x_bar: Tensor, y_bar: Tensor) -> tuple[Tensor, Tensor]:
        """w1 `(B, n)` and w2 `(B, m)` with J'w = (x_bar, (D - I)'y_bar); the derivative in the data of F is -w."""
        if self.kept is None:
            w = self._apply(torch.cat([x_bar, (self.minus_eye.mT @ y_bar[..., None])[..., 0]], 1), transposed=True)
            return w[:, : self.size], w[:, self.size :]
        z_bar = (y_bar * self.minus_eye).gather(1, self.index) * self.kept
        w = self._apply(torch.cat([x_bar, z_bar], 1), transposed=True)
        return w[:, : self.size], torch.zeros_like(y_bar).scatter(1, self.index, w[:, self.size :] * self.kept)

    def _apply(self, right: Tensor, *, transposed: bool) -> Tensor:
        out = torch.linalg.lu_solve(self.factor, self.pivots, right[..., None], adjoint=transposed)[..., 0]
        if self.inverse is not None:
            inverse = self.inverse.mT if transposed else self.inverse
            out = out.index_copy(0, self.singular, (inverse @ right[self.singular][..., None])[..., 0])
        return out
