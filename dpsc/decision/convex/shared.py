"""Strictly convex quadratic programs whose matrices are the same in every row: the whole batch at once.

If no parameter enters P or A, only the vectors q and b of min x'Px/2 + q.x, A x <= b (some rows =) differ between rows. Then one factorisation of P and the
matrix A P^-1 A' serve all of them: with the active constraints a, (A P^-1 A')_aa y_a = -(A P^-1 q + b)_a and x = -P^-1 (q + A'y). The active set is found by
the primal-dual active-set method (semismooth Newton): guess, solve, keep multipliers that are positive, add constraints that are broken. It does not always
end; rows for which it does not go to the interior-point method. Variables that the equalities define (z = x - d) are substituted first.
Source: Hintermueller, Ito & Kunisch (2002), doi:10.1137/S1052623401383558.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpsc.decision.convex.canonical import Form

ROUNDS = 40
CONDITION = 1e10


@dataclass(frozen=True)
class Data:
    """What differs between rows: q `(B, n)`, b `(B, m)` and the constant of the objective `(B,)`."""

    q: Tensor
    b: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Shared:
    """What the rows share, in the variables of the decision: P `(n, n)`, its inverse, A `(m, n)`, A P^-1, A P^-1 A', the number of equalities, the rows of the
    canonical program that were kept, and the substitution of the canonical variables x_full = lift x + shift b_def."""

    P: Tensor
    inverse: Tensor
    A: Tensor
    AP: Tensor
    gram: Tensor
    equalities: int
    kept: Tensor
    lift: Tensor
    shift: Tensor
    defining: Tensor
    P_full: Tensor
    A_full: Tensor

    @classmethod
    def of(cls, form: Form) -> Shared | None:
        """The shared program of a canonical one, or None where a parameter enters a matrix or P is not positive definite on the decision."""
        if not form.cones.polyhedral or form.defining is None or not form.constant_matrices():
            return None
        one = torch.zeros(1, form.parameter_count + 1, dtype=torch.float64)
        one[:, -1] = 1
        program = form.dense(*form.values(one)[:4])
        P, A = program.P[0], program.A[0]
        lift, shift = torch.zeros(form.n, len(form.watched), dtype=torch.float64), torch.zeros(form.n, len(form.defining), dtype=torch.float64)
        lift[form.watched, torch.arange(len(form.watched))] = 1.0
        if len(form.hidden):
            known = torch.linalg.inv(A[form.defining][:, form.hidden])
            lift[form.hidden] = -known @ A[form.defining][:, form.watched]
            shift[form.hidden] = known
        kept = torch.from_numpy(np.setdiff1d(np.arange(form.m), form.defining.numpy()))
        reduced, rows = lift.T @ P @ lift, A[kept] @ lift
        values = torch.linalg.eigvalsh(reduced)
        if not len(values) or values[0] <= values[-1] / CONDITION:
            return None
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(reduced))
        AP = rows @ inverse
        return cls(reduced, inverse, rows, AP, AP @ rows.T, form.cones.zero - len(form.defining), kept, lift, shift, form.defining, P, A)

    def reduce(self, q: Tensor, b: Tensor, offset: Tensor) -> Data:
        """Canonical vectors `(B, .)` -> those of the reduced program; differentiable."""
        if not self.shift.shape[1]:
            return Data(q @ self.lift, b[:, self.kept], offset)
        t = b[:, self.defining] @ self.shift.T
        slope = q + t @ self.P_full
        return Data(slope @ self.lift, b[:, self.kept] - t @ self.A_full[self.kept].T, offset + ((q + slope) * t).sum(1) / 2)

    def solve(self, data: Data) -> tuple[Tensor, Tensor, Tensor]:
        """x `(B, n)`, z = s - y `(B, m)` and whether the active set settled `(B,)`."""
        pull = data.q @ self.AP.T + data.b  # minus the right-hand side of the multipliers
        active = torch.zeros_like(data.b, dtype=torch.bool)
        active[:, : self.equalities] = True
        y, z = torch.zeros_like(data.b), torch.zeros_like(data.b)
        x, settled = torch.zeros_like(data.q), torch.zeros(len(data.q), dtype=torch.bool)
        tolerance = 1e-12 * (1 + data.b.abs())
        todo = torch.arange(len(data.q))
        for _ in range(ROUNDS):
            now = active[todo]
            multiplier, sound = self._multipliers(now, -pull[todo])
            point = -(data.q[todo] + multiplier @ self.A) @ self.inverse
            slack = data.b[todo] - point @ self.A.T
            after = torch.where(now, multiplier > 0, slack < -tolerance[todo])
            after[:, : self.equalities] = True
            x[todo], y[todo], z[todo] = point, multiplier, torch.where(now, -multiplier, slack)
            done = (after == now).all(1) & sound
            settled[todo] = done
            active[todo] = after
            todo = todo[~done & sound]
            if not len(todo):
                break
        return x, z, settled

    def _multipliers(self, active: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """y `(B, m)` with (A P^-1 A')_aa y_a = right_a and zero elsewhere, and whether the system was regular `(B,)`."""
        count = int(active.sum(1).max()) if active.numel() else 0
        index = (~active).to(torch.int8).argsort(dim=1, stable=True)[:, :count]
        kept = active.gather(1, index)
        S = self.gram[index[:, :, None], index[:, None, :]] * (kept[:, :, None] & kept[:, None, :])
        S.diagonal(dim1=1, dim2=2).add_((~kept).to(S.dtype))
        factor, info = torch.linalg.cholesky_ex(S)
        diagonal = factor.diagonal(dim1=1, dim2=2)
        scale = S.diagonal(dim1=1, dim2=2)
        sound = (info == 0) & (diagonal**2 > 1e-13 * scale).all(1)
        found = torch.cholesky_solve((right.gather(1, index) * kept)[..., None], factor)[..., 0]
        return torch.zeros_like(right).scatter(1, index, torch.where(kept & sound[:, None], found, 0.0)), sound

    def adjoint(self, z: Tensor, x_bar: Tensor, y_bar: Tensor) -> tuple[Tensor, Tensor]:
        """w1 `(B, n)`, w2 `(B, m)`: minus the derivative of x_bar.x + y_bar.y in q, and its derivative in b, at a point with z = s - y.

        P w1 + A_a'w2 = x_bar, -A_a w1 = -y_bar_a.
        """
        active = self.active(z)
        w2, sound = self._multipliers(active, x_bar @ self.AP.T - y_bar)
        if not bool(sound.all()):  # more active constraints than independent ones: the least-norm multipliers
            for i in (~sound).nonzero()[:, 0].tolist():
                a = active[i].nonzero()[:, 0]
                w2[i, a] = torch.linalg.pinv(self.gram[a][:, a], rtol=1e-11, hermitian=True) @ (x_bar[i] @ self.AP[a].T - y_bar[i, a])
        return (x_bar - w2 @ self.A) @ self.inverse, w2

    def active(self, z: Tensor) -> Tensor:
        """`(B, m)`: equalities, and inequalities without slack."""
        active = z <= 0
        active[:, : self.equalities] = True
        return active

    def polish(self, data: Data, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One Newton step on the optimality conditions, and the residual `(B,)`: what they are off by, and the size of the step that would come next."""
        for _ in range(2):
            stationarity, feasibility, error = self._conditions(data, x, z)
            active = self.active(z)
            dy, _ = self._multipliers(active, torch.where(active, feasibility, 0.0) - stationarity @ self.AP.T)
            dx = -(stationarity + dy @ self.A) @ self.inverse
            dz = torch.where(active, -dy, -feasibility - dx @ self.A.T)
            size = dx.abs().amax(1) / (1 + x.abs().amax(1))
            if bool((torch.maximum(error, size) <= 1e-13).all()):
                break
            x, z = x + dx, z + dz
        return x, z, torch.maximum(self._conditions(data, x, z)[2], size)

    def _conditions(self, data: Data, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = z.clamp(min=0)
        s[:, : self.equalities] = 0
        Px, Aty, Ax = x @ self.P, (s - z) @ self.A, x @ self.A.T
        stationarity, feasibility = Px + data.q + Aty, Ax + s - data.b

        def top(*terms: Tensor) -> Any:
            return torch.cat([t.abs() for t in terms], 1).amax(1) if sum(t.shape[1] for t in terms) else x.new_zeros(len(x))

        error = torch.maximum(top(stationarity) / (1 + top(Px, data.q, Aty)), top(feasibility) / (1 + top(Ax, data.b)))
        return stationarity, feasibility, error.nan_to_num(nan=float("inf"))
