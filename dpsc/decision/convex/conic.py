"""One conic program at a time through an interior-point (or, with matrix cones, a splitting) solver: the starting points for refinement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dpsc.decision.convex.cones import Cones
from dpsc.decision.convex.kkt import Program
from dpsc.types import Status

TOLERANCE = 1e-10
Answer = tuple[Status, Sequence[float], Sequence[float], Sequence[float]]  # claim, x, y, s
CERTIFICATE = 1e-6  # a claim that a row has no solution is believed if its proof is this accurate


class Starts(NamedTuple):
    """x `(B, n)`, z = s - y `(B, m)`, claimed status `(B,)` int8, and the error of the certificate `(B,)` in rows claimed to have no solution."""

    x: Tensor
    z: Tensor
    status: Tensor
    certificate: Tensor


class Patterns(NamedTuple):
    """The entries of P and A that can be nonzero, in compressed-column order."""

    P_rows: np.ndarray
    P_columns: np.ndarray
    A_rows: np.ndarray
    A_columns: np.ndarray


def solve(program: Program, cones: Cones, patterns: Patterns, rows: Tensor) -> Starts:
    """Solve the given rows of a batch, each on its own, so that no row can change another.

    Returns: NaN in x and z where a row has no solution, together with a checked certificate: A'y = 0, b.y < 0 for an infeasible row,
        P x = 0, q.x < 0, A x + s = 0 for an unbounded one.
    """
    batch, n = program.q.shape
    m = program.b.shape[1]
    x, z = np.full((batch, n), np.nan), np.full((batch, m), np.nan)
    status, certificate = np.full(batch, int(Status.INVALID_INPUT), dtype=np.int8), np.full(batch, np.inf)
    upper = patterns.P_rows <= patterns.P_columns
    P_values = program.P.numpy()[:, patterns.P_rows[upper], patterns.P_columns[upper]]
    A_values = program.A.numpy()[:, patterns.A_rows, patterns.A_columns]
    q, b = program.q.numpy(), program.b.numpy()
    P = sparse.csc_matrix((P_values.sum(0), *_columns(patterns.P_rows[upper], patterns.P_columns[upper], n)), shape=(n, n))
    A = sparse.csc_matrix((A_values.sum(0), *_columns(patterns.A_rows, patterns.A_columns, n)), shape=(m, n))
    one = _scs if cones.semidefinite else _clarabel(P, A, cones)
    for i in rows.tolist():
        P.data, A.data = P_values[i], A_values[i]  # new matrices would take longer than a small program
        claim, xi, yi, si = one(P, q[i], A, b[i], cones)
        status[i] = claim
        if claim in (Status.INFEASIBLE, Status.UNBOUNDED):
            certificate[i] = _certificate(claim, program, i, *(torch.tensor(t, dtype=torch.float64) for t in (xi, yi, si)))
        else:
            x[i], z[i] = xi, np.subtract(si, yi)
    return Starts(torch.from_numpy(x), torch.from_numpy(z), torch.from_numpy(status), torch.from_numpy(certificate))


def _columns(rows: np.ndarray, columns: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rows.astype(np.int32), np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=n))]).astype(np.int32)


def _certificate(claim: Status, program: Program, i: int, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    """Relative error of the proof that a row has no solution; infinite if it proves nothing."""
    P, q, A, b = (t[i] for t in program)
    if claim == Status.INFEASIBLE:
        gain, errors = -(b @ y), [A.mT @ y]
    else:
        gain, errors = -(q @ x), [P @ x, A @ x + s]
    size = max((float(e.abs().max()) for e in errors if e.numel()), default=0.0)
    return torch.where(gain > 0, size / gain.clamp(min=1e-300), torch.full_like(gain, float("inf")))


def _clarabel(P: sparse.csc_matrix, A: sparse.csc_matrix, cones: Cones) -> Callable[..., Answer]:
    """An interior-point method, with its settings and cones made once for the batch."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.presolve_enable = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    settings.tol_infeas_abs = settings.tol_infeas_rel = TOLERANCE
    if P.nnz + A.nnz > 8 * P.shape[0]:  # dense data: the supernodal factorisation pays
        settings.direct_solve_method = "faer"
    kinds = ([clarabel.ZeroConeT(cones.zero)] if cones.zero else []) + ([clarabel.NonnegativeConeT(cones.nonnegative)] if cones.nonnegative else [])
    kinds += [clarabel.SecondOrderConeT(k) for k in cones.second_order] + [clarabel.ExponentialConeT()] * cones.exponential
    S = clarabel.SolverStatus
    claims = {S.PrimalInfeasible: Status.INFEASIBLE, S.AlmostPrimalInfeasible: Status.INFEASIBLE, S.DualInfeasible: Status.UNBOUNDED}
    claims |= {S.AlmostDualInfeasible: Status.UNBOUNDED, S.Solved: Status.OK}

    def one(P: sparse.csc_matrix, q: np.ndarray, A: sparse.csc_matrix, b: np.ndarray, _: Cones) -> Answer:
        found = clarabel.DefaultSolver(P, q, A, b, kinds, settings).solve()
        claim = next((c for s, c in claims.items() if s == found.status), Status.INACCURATE)
        return claim, found.x, found.z, found.s

    return one


def _scs(P: sparse.csc_matrix, q: np.ndarray, A: sparse.csc_matrix, b: np.ndarray, cones: Cones) -> Answer:
    import scs

    kinds = {"z": cones.zero, "l": cones.nonnegative, "q": list(cones.second_order), "s": list(cones.semidefinite), "ep": cones.exponential}
    found = scs.SCS({"P": P, "A": A, "b": b, "c": q}, kinds, verbose=False, eps_abs=TOLERANCE, eps_rel=TOLERANCE, eps_infeas=1e-9, max_iters=100_000).solve()
    claim = {1: Status.OK, -2: Status.INFEASIBLE, -7: Status.INFEASIBLE, -1: Status.UNBOUNDED, -6: Status.UNBOUNDED}.get(
        found["info"]["status_val"], Status.INACCURATE
    )
    return claim, found["x"], found["y"], found["s"]
