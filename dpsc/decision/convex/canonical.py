"""The canonical program behind a cvxpy problem, its data affine in the parameters; cvxpylayers does the rewriting."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from dpsc.decision.convex import conic, kkt
from dpsc.decision.convex.cones import Cones
from dpsc.errors import ProblemError


class Form:
    """The canonical program min x'Px/2 + q.x + d, A x + s = b, s in K, its data affine in the stacked parameters."""

    def __init__(self, layer: Any) -> None:
        context = layer.ctx
        self.cones = Cones.of(context.cone_dims)
        self.n = int(context.q.shape[0]) - 1
        P_rows, P_columns, _ = _entries(context.reduced_P, self.n)
        rows, columns, self.m = _entries(context.reduced_A, self.n + 1)  # the last column is b
        self.A_size = int((columns < self.n).sum())
        self.patterns = conic.Patterns(P_rows, P_columns, rows[: self.A_size], columns[: self.A_size])
        self.b_rows = torch.from_numpy(rows[self.A_size :])
        self.maps = {"P": Affine(context.reduced_P.reduced_mat), "q": Affine(context.q), "A": Affine(context.reduced_A.reduced_mat)}
        self.parameter_count = int(context.q.shape[1]) - 1
        self.order, self.triangles = context.user_order_to_col_order, context.param_triu_indices
        self.recover = context.var_recover
        self.watched = torch.cat([torch.arange(r.primal.start, r.primal.stop) for r in self.recover if r.source == "primal"])
        self.linear = not len(P_rows)
        self.hidden, self.defining = self._definitions()

    def constant_matrices(self) -> bool:
        """Whether no parameter enters P or A, so that rows differ in q, b and d alone."""
        A = self.maps["A"]
        return not self.maps["P"].touches(slice(0, self.parameter_count)) and not bool((A.column[A.row < self.A_size] < self.parameter_count).any())

    def _definitions(self) -> tuple[Tensor, Tensor | None]:
        """The variables that are not part of the decision, and the equalities that define them by it; None if other rows touch them.

        cvxpy writes |x - d|^2 as |z|^2 with z = x - d; such a z follows from the decision, unlike the epigraph of an absolute value.
        """
        hidden = torch.from_numpy(np.setdiff1d(np.arange(self.n), self.watched.numpy()))
        touching = np.unique(self.patterns.A_rows[np.isin(self.patterns.A_columns, hidden.numpy())])
        square = len(touching) == len(hidden) and bool((touching < self.cones.zero).all())
        return hidden, torch.from_numpy(touching) if square else None

    def complete(self, x: Tensor, A_values: Tensor, b_values: Tensor) -> Tensor:
        """Fill in the hidden variables of `(B, n)` points from the equalities that define them; differentiable."""
        assert self.defining is not None
        if not len(self.hidden):
            return x
        p, A, b = self.patterns, x.new_zeros(len(x), self.m, self.n), x.new_zeros(len(x), self.m)
        rows, columns = torch.from_numpy(p.A_rows), torch.from_numpy(p.A_columns)
        A = A.index_put((torch.arange(len(x))[:, None], rows, columns), A_values)[:, self.defining]
        b = b.index_put((torch.arange(len(x))[:, None], self.b_rows), b_values)[:, self.defining]
        found = torch.linalg.solve(A[:, :, self.hidden], b - (A[:, :, self.watched] @ x[:, self.watched, None])[..., 0])
        return x.index_copy(1, self.hidden, found)

    def values(self, stacked: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`(B, parameters + 1)` -> values of P, q, A, b and the constant d; differentiable."""
        linear, constraint = self.maps["q"](stacked), self.maps["A"](stacked)
        return self.maps["P"](stacked), linear[:, :-1], -constraint[:, : self.A_size], constraint[:, self.A_size :], linear[:, -1]

    def dense(self, P_values: Tensor, q: Tensor, A_values: Tensor, b_values: Tensor) -> kkt.Program:
        """Scatter the values into batches of matrices."""
        batch, p = len(q), self.patterns
        P, A, b = q.new_zeros(batch, self.n, self.n), q.new_zeros(batch, self.m, self.n), q.new_zeros(batch, self.m)
        P[:, p.P_rows, p.P_columns] = P_values
        A[:, p.A_rows, p.A_columns] = A_values
        b[:, self.b_rows] = b_values
        return kkt.Program(0.5 * (P + P.mT), q, A, b)

    def stack(self, parameters: Sequence[Tensor]) -> Tensor:
        """Batched parameters `(B, *shape)` -> `(B, parameters + 1)` in the column order of the maps, ending in ones."""
        columns: list[Tensor] = [torch.empty(0)] * len(parameters)
        for i, p in enumerate(parameters):
            triangle = self.triangles[i] if self.triangles else None
            columns[self.order[i]] = p[:, list(triangle[0]), list(triangle[1])] if triangle is not None else by_columns(p)
        batch = len(parameters[0]) if parameters else 1
        return torch.cat([*columns, torch.ones(batch, 1, dtype=torch.float64)], 1)

    def variable(self, k: int, x: Tensor, y: Tensor) -> Tensor:
        """The k-th recovered quantity, `(B, *shape)`."""
        r = self.recover[k]
        flat = x[:, r.primal] if r.source == "primal" else y[:, r.dual]
        if r.unpack_fn == "reshape":
            dims = len(r.shape)
            return flat.reshape(len(flat), *reversed(r.shape)).permute(0, *range(dims, 0, -1))
        size = r.shape[0]
        rows, columns = torch.triu_indices(size, size)
        scale = torch.ones(len(rows), dtype=flat.dtype)
        if r.unpack_fn == "svec_dual":  # lower triangle by columns = upper triangle by rows of a symmetric matrix
            scale = torch.where(rows == columns, 1.0, torch.tensor(2**-0.5, dtype=flat.dtype))
        index = torch.zeros(size, size, dtype=torch.int64)
        index[rows, columns] = index[columns, rows] = torch.arange(len(rows))
        return (flat * scale)[:, index.reshape(-1)].reshape(len(flat), size, size)


def _entries(reduced: Any, columns: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Row and column of the entries that can be nonzero, by columns, and the number of rows; nothing where the program has no such matrix."""
    if reduced.problem_data_index is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 0
    rows, starts, shape = reduced.problem_data_index
    return np.asarray(rows, dtype=np.int64), np.repeat(np.arange(columns), np.diff(starts)), int(shape[0])


class Affine:
    """A sparse matrix applied to every row of a batch; differentiable in the row."""

    def __init__(self, matrix: Any) -> None:
        coo = None if matrix is None else matrix.tocoo()
        self.rows = 0 if coo is None else int(coo.shape[0])
        row, column, value = ([], [], []) if coo is None else (coo.row, coo.col, coo.data)
        self.row, self.column = torch.as_tensor(np.asarray(row, dtype=np.int64)), torch.as_tensor(np.asarray(column, dtype=np.int64))
        self.value = torch.as_tensor(np.asarray(value, dtype=np.float64))

    def __call__(self, stacked: Tensor) -> Tensor:
        return stacked.new_zeros(len(stacked), self.rows).index_add(1, self.row, stacked[:, self.column] * self.value)

    def touches(self, columns: slice) -> bool:
        """Whether any of these parameters enters."""
        return bool(((self.column >= columns.start) & (self.column < columns.stop)).any())


def by_columns(p: Tensor) -> Tensor:
    """`(B, *shape)` -> `(B, size)`, by columns as cvxpy stacks arrays."""
    return p.permute(0, *range(p.dim() - 1, 0, -1)).reshape(len(p), prod(p.shape[1:]))


def check_problem(problem: cp.Problem) -> None:
    """DCP, DPP and continuous, or an error that says which part is not."""
    discrete = [v.name() for v in problem.variables() if v.attributes.get("integer") or v.attributes.get("boolean")]
    if discrete:
        raise ProblemError(
            f"variables {', '.join(discrete)} are integer: a convex program needs continuous ones (relax them, or use an oracle such as Knapsack)"
        )
    if not problem.is_dcp():
        parts = ([] if problem.objective.is_dcp() else [f"objective {problem.objective}"]) + [f"constraint {c}" for c in problem.constraints if not c.is_dcp()]
        raise ProblemError(f"the problem is not convex by cvxpy's rules (DCP): {'; '.join(parts)}")
    if not problem.is_dpp(quad_form_dpp="qp"):
        parts = ([] if problem.objective.is_dpp() else [f"objective {problem.objective}"]) + [f"constraint {c}" for c in problem.constraints if not c.is_dpp()]
        raise ProblemError(
            f"the problem is not DPP: {'; '.join(parts)}. Parameters must enter affinely and must not multiply each other (nor sit inside a nonlinear atom "
            "of parameters alone): replace such a product by one new parameter and compute it in torch"
        )


def canonical(problem: cp.Problem, parameters: list[cp.Parameter], recovered: list[cp.Variable]) -> Any:
    """cvxpylayers' canonical form with quadratic objectives kept, cones in the order of `cones.py`."""
    from cvxpylayers.interfaces.base import SolverInterface
    from cvxpylayers.torch import CvxpyLayer

    class Canonical(SolverInterface):
        canon_solver = "SCS"
        supports_quad_obj = True

        def solve_torch_batch(self, *_: Any) -> Any:
            raise AssertionError("dpsc solves the canonical program itself")

        derivative_torch_batch = solve_torch_batch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CvxpyLayer(problem, parameters=parameters, variables=recovered, solver=Canonical())


def sign_holds(parameter: cp.Parameter, value: Tensor) -> Tensor:
    """`(B,)`: whether the values keep the sign or definiteness that the convexity of the problem may rest on."""
    rows = value.reshape(len(value), prod(value.shape[1:]))
    good = torch.ones(len(value), dtype=torch.bool)
    if parameter.is_nonneg():
        good &= (rows >= 0).all(1)
    if parameter.is_nonpos():
        good &= (rows <= 0).all(1)
    if parameter.is_psd() and parameter.ndim == 2:
        finite = torch.isfinite(rows).all(1)
        lowest = torch.linalg.eigvalsh(torch.where(finite[:, None, None], value, 0.0))[:, 0]
        good &= finite & (lowest >= -1e-9 * (1 + rows.abs().amax(1).nan_to_num()))
    return good
