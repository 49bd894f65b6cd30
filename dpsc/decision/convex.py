"""`ConvexProgram`: any parametrised cvxpy problem as a batched, checked, differentiable layer. The only importer of cvxpylayers.

cvxpylayers turns the problem into a conic program whose data are affine in the parameters. Each row is solved by an interior-point method (or by a
backend of cvxpylayers, if one is named), refined by Newton's method on its own optimality conditions, and *measured*: `residual` is what the refined
point is off by, whatever the solver said. The derivative is one dense solve with the Jacobian of the same conditions at the refined point.

The promise: where `residual` <= 1e-8 (status 0) the gradient is good to 1e-6 relative; elsewhere the row is flagged. What that costs: see docs/accuracy.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision import conic, kkt
from dpsc.decision.cones import Cones
from dpsc.decision.layer import DecisionLayer
from dpsc.errors import ProblemError, SolveError, ZeroGradientWarning
from dpsc.types import Solution, Status

ACCURATE = 1e-8
GROSS = 1e-2
NAN = float("nan")


class _Implicit(torch.autograd.Function):
    """Values of P, q, A, b (sparse, batch first) -> x, y and the optimal value; the implicit derivative at the refined point."""

    @staticmethod
    def forward(ctx: Any, P_values: Tensor, q: Tensor, A_values: Tensor, b_values: Tensor, offset: Tensor, form: _Form, point: kkt.Point, good: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        program = form.dense(P_values, q, A_values, b_values)
        y = form.cones.project(point.z) - point.z
        ctx.program, ctx.form, ctx.point, ctx.good = program, form, point, good
        value = 0.5 * torch.einsum("bi,bij,bj->b", point.x, program.P, point.x) + (q * point.x).sum(1) + offset
        return point.x, y, value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, x_bar: Tensor, y_bar: Tensor, value_bar: Tensor) -> tuple[Any, ...]:
        form, good, x = ctx.form, ctx.good.nonzero()[:, 0], ctx.point.x
        y = form.cones.project(ctx.point.z) - ctx.point.z
        w1, w2 = torch.zeros_like(x), torch.zeros_like(y)
        if bool(x_bar.any()) or bool(y_bar.any()):
            for k in kkt.blocks(kkt.Program(*(t[good] for t in ctx.program))):
                rows = good[k]
                factor = kkt.Factor(kkt.Program(*(t[rows] for t in ctx.program)), form.cones, ctx.point.z[rows], form.watched)
                w1[rows], w2[rows] = factor.adjoint(x_bar[rows], y_bar[rows])
        v = torch.where(ctx.good, value_bar, 0.0)[:, None]
        x, y = torch.where(ctx.good[:, None], x, 0.0), torch.where(ctx.good[:, None], y, 0.0)
        p, a = form.patterns, form.b_rows
        dP = 0.5 * v * x[:, p.P_rows] * x[:, p.P_columns] - 0.5 * (w1[:, p.P_rows] * x[:, p.P_columns] + w1[:, p.P_columns] * x[:, p.P_rows])
        dA = v * y[:, p.A_rows] * x[:, p.A_columns] - y[:, p.A_rows] * w1[:, p.A_columns] - w2[:, p.A_rows] * x[:, p.A_columns]
        return dP, v * x - w1, dA, (w2 - v * y)[:, a], v[:, 0], None, None, None


class _Form:
    """The canonical program min x'Px/2 + q.x + d, A x + s = b, s in K, its data affine in the stacked parameters."""

    def __init__(self, layer: Any) -> None:
        context = layer.ctx
        self.cones = Cones.of(context.cone_dims)
        rows, starts, (self.m, columns) = context.reduced_A.problem_data_index
        self.n = int(columns) - 1
        A_columns = np.repeat(np.arange(self.n + 1), np.diff(starts))
        self.A_size = int(starts[-2])
        if context.reduced_P.reduced_mat is None:
            P_rows = P_columns = np.zeros(0, dtype=np.int64)
        else:
            P_rows, P_starts, _ = context.reduced_P.problem_data_index
            P_columns = np.repeat(np.arange(self.n), np.diff(P_starts))
        self.patterns = conic.Patterns(np.asarray(P_rows), P_columns, np.asarray(rows)[: self.A_size], A_columns[: self.A_size])
        self.b_rows = torch.as_tensor(np.asarray(rows)[self.A_size :].astype(np.int64))
        self.maps = {"P": _Affine(context.reduced_P.reduced_mat), "q": _Affine(context.q), "A": _Affine(context.reduced_A.reduced_mat)}
        self.order, self.triangles = context.user_order_to_col_order, context.param_triu_indices
        self.recover = context.var_recover
        self.watched = torch.cat([torch.arange(r.primal.start, r.primal.stop) for r in self.recover if r.source == "primal"])
        self.linear = not len(P_rows)

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
            columns[self.order[i]] = p[:, list(triangle[0]), list(triangle[1])] if triangle is not None else _by_columns(p)
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
            scale = torch.where(rows == columns, 1.0, 2**-0.5).to(flat.dtype)
        index = torch.zeros(size, size, dtype=torch.int64)
        index[rows, columns] = index[columns, rows] = torch.arange(len(rows))
        return (flat * scale)[:, index.reshape(-1)].reshape(len(flat), size, size)


class _Affine:
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


def _by_columns(p: Tensor) -> Tensor:
    return p.permute(0, *range(p.dim() - 1, 0, -1)).reshape(len(p), -1)


class ConvexProgram(DecisionLayer):
    """A parametrised convex problem, written in cvxpy, as a decision layer.

    Args:
        problem: a cvxpy problem that is DPP (parameters enter affinely and do not multiply each other; the matrix of a quadratic form may be one).
            A maximisation is turned into the minimisation of minus its objective.
        parameters: name -> cvxpy parameter; default: all of them under their own names.
        variables: name -> cvxpy variable, the decision; default: all of them under their own names. With one variable `decision` is its tensor,
            with several a mapping.
        constraints: name -> constraint, for naming the duals; the others are called `constraint_0`, `constraint_1` ... by position.
        objective: `(decision, **parameters) -> (...)` in torch, minimised; needed for `objective()` only where the objective has atoms beyond
            quadratic ones; its value is checked against the solver's.
        solver: None (an interior-point method here), or the name of a backend of cvxpylayers such as "DIFFCP" or "MOREAU", whose points are
            measured and refined in the same way. Backends need a problem without hidden variables (linear and quadratic programs).
        solver_args: for the backend.
        on_error: "flag" marks bad rows in `status`; "raise" raises `SolveError` naming them.
    Shapes: every parameter `(..., *shape)` over any leading shape -> `decision` `(..., *shape)`.
    Gradient: exact (implicit function theorem) in decision and duals, by the envelope theorem in `objective`; zero in flagged rows 2, 3, 4. Linear
        programs: zero almost everywhere in parameters of the objective.
    Accuracy: float64 on the CPU inside; dtype and device out as in. See the module's promise.
    Raises: ProblemError at construction; at solving ShapeError, DtypeError, and SolveError if `on_error="raise"` or a backend returns points that
        violate the program.
    Source: Agrawal et al. (2019), arXiv:1910.12430.
    """

    def __init__(
        self,
        problem: cp.Problem,
        *,
        parameters: Mapping[str, cp.Parameter] | None = None,
        variables: Mapping[str, cp.Variable] | None = None,
        constraints: Mapping[str, cp.Constraint] | None = None,
        objective: Any = None,
        solver: str | None = None,
        solver_args: Mapping[str, Any] | None = None,
        on_error: str = "flag",
    ) -> None:
        super().__init__()
        checks.one_of("on_error", on_error, ["flag", "raise"])
        _check_problem(problem)
        self.problem, self.on_error = problem, on_error
        self.parameters_ = _named("parameters", parameters, problem.parameters(), complete=True)
        self.variables_ = _named("variables", variables, problem.variables(), complete=False)
        self.parameter_shapes = {name: tuple(p.shape) for name, p in self.parameters_.items()}
        by_id = {c.id: name for name, c in (constraints or {}).items()}
        unknown = set(by_id) - {c.id for c in problem.constraints}
        if unknown:
            raise ProblemError(f"constraints names {', '.join(repr(by_id[i]) for i in unknown)}, which the problem does not contain")
        self.constraint_names = [by_id.get(c.id, f"constraint_{i}") for i, c in enumerate(problem.constraints)]
        recovered = [*self.variables_.values(), *(d for c in problem.constraints for d in c.dual_variables)]
        self._form = _Form(_canonical(problem, list(self.parameters_.values()), recovered))
        self._objective, self._objective_checked = objective, objective is None
        whole = sum(v.size for v in problem.variables()) == self._form.n
        self._quadratic = whole and len(self.variables_) == len(problem.variables()) and all(r.unpack_fn == "reshape" for r in self._form.recover[: len(self.variables_)])
        self._backend = _Backend(self, solver, dict(solver_args or {}), recovered) if solver is not None else None

    def forward(self, **parameters: Tensor) -> Solution[Any]:
        """Solve every row."""
        batch = self._batch(parameters)
        first = next(iter(parameters.values()), torch.empty(0, dtype=torch.float64))
        dtype, device = first.dtype, first.device
        rows = [parameters[name].expand(*batch, *shape).reshape(batch.numel(), *shape).to("cpu", torch.float64) for name, shape in self.parameter_shapes.items()]
        stacked = self._form.stack(rows)
        valid = torch.isfinite(stacked).all(1)
        for p, value in zip(self.parameters_.values(), rows, strict=True):
            valid &= _sign_holds(p, value.detach())
        data = self._form.values(torch.where(valid[:, None], stacked, 0.0))
        self._warn_if_flat(parameters)
        with torch.no_grad():
            program = self._form.dense(*(t.detach() for t in data[:4]))
            point, status = self._points(program, valid, [r.detach() for r in rows])
        good = status <= Status.INACCURATE
        x, y, value = _Implicit.apply(*data, self._form, point, good)

        def out(t: Tensor, fill: float = NAN) -> Tensor:
            t = torch.where(good.reshape(-1, *[1] * (t.dim() - 1)), t, fill)
            return t.reshape(batch + t.shape[1:]).to(device, dtype)

        named = [out(self._form.variable(k, x, y)) for k in range(len(self._form.recover))]
        decision = dict(zip(self.variables_, named, strict=False))
        duals = [d for d, c in zip(self.constraint_names, self.problem.constraints, strict=True) for _ in c.dual_variables]
        solution: Solution[Any] = Solution(
            decision=next(iter(decision.values())) if len(decision) == 1 else decision,
            dual=_collect(duals, named[len(decision) :]),
            objective=out(value),
            status=status.reshape(batch).to(device),
            residual=point.residual.reshape(batch).to(device, dtype),
        )
        self._check_objective(solution, parameters)
        if self.on_error == "raise" and bool((status != Status.OK).any()):
            raise SolveError(describe_failures(status, point.residual))
        return solution

    def objective(self, decision: Any, **parameters: Tensor) -> Tensor:
        """`(...)`: the problem's objective (minus it, for a maximisation) at any decision."""
        self._batch(parameters)
        if self._objective is not None:
            return self._objective(decision, **parameters)
        if not self._quadratic:
            raise ProblemError(
                "the objective of this program has atoms beyond quadratic ones, or variables that are not part of the decision, and cannot be evaluated "
                "at an arbitrary decision; pass objective=(decision, **parameters) -> tensor to ConvexProgram (its value will be checked)"
            )
        named = decision if isinstance(decision, Mapping) else {next(iter(self.variables_)): decision}
        leading = {name: named[name].shape[: named[name].dim() - len(v.shape)] for name, v in self.variables_.items()}
        leading |= {name: parameters[name].shape[: parameters[name].dim() - len(shape)] for name, shape in self.parameter_shapes.items()}
        batch = checks.broadcast(leading)
        anyone = next(iter(named.values()))

        def flat(t: Tensor, shape: Sequence[int]) -> Tensor:
            return t.expand(*batch, *shape).reshape(batch.numel(), *shape).to("cpu", torch.float64)

        P, q, _, _, offset = self._form.values(self._form.stack([flat(parameters[name], shape) for name, shape in self.parameter_shapes.items()]))
        parts = {r.primal.start: _by_columns(flat(named[name], v.shape)) for (name, v), r in zip(self.variables_.items(), self._form.recover, strict=False)}
        x = torch.cat([parts[start] for start in sorted(parts)], 1)
        p = self._form.patterns
        value = 0.5 * (P * x[:, p.P_rows] * x[:, p.P_columns]).sum(1) + (q * x).sum(1) + offset
        return value.reshape(batch).to(anyone.device, anyone.dtype)

    def _points(self, program: kkt.Program, valid: Tensor, rows: list[Tensor]) -> tuple[kkt.Point, Tensor]:
        """Solve, refine and judge: a point for every row and its status."""
        form = self._form
        todo = valid.nonzero()[:, 0]
        starts = None if self._backend is None else self._backend.propose(program, todo, rows)
        if starts is None:
            starts = conic.solve(program, form.cones, form.patterns, todo)
        found = (valid & torch.isfinite(starts.x).all(1) & torch.isfinite(starts.z).all(1)).nonzero()[:, 0]
        refined = kkt.refine(kkt.Program(*(t[found] for t in program)), form.cones, starts.x[found], starts.z[found], form.watched)
        status, residual = starts.status.clone(), starts.certificate.clone()
        x, z = torch.nan_to_num(starts.x), torch.nan_to_num(starts.z)
        x[found], z[found], residual[found] = refined.x, refined.z, refined.residual
        status[found] = torch.where(refined.residual <= ACCURATE, int(Status.OK), int(Status.INACCURATE)).to(torch.int8)
        status[~valid] = int(Status.INVALID_INPUT)
        return kkt.Point(x, z, residual), status

    def _warn_if_flat(self, parameters: Mapping[str, Tensor]) -> None:
        if not (self._form.linear and self._form.cones.polyhedral and torch.is_grad_enabled()):
            return
        start = 0
        sizes = sorted((self._form.order[i], name, self.parameters_[name].size) for i, name in enumerate(self.parameters_))
        for _, name, size in sizes:
            columns, start = slice(start, start + size), start + size
            if parameters[name].requires_grad and self._form.maps["q"].touches(columns) and not self._form.maps["A"].touches(columns):
                warnings.warn(
                    f"this is a linear program: its decision jumps between vertices, and its gradient in the objective's parameter {name!r} is zero "
                    "almost everywhere; train with SPOPlus, or add a quadratic term",
                    ZeroGradientWarning,
                    stacklevel=4,
                )

    def _check_objective(self, solution: Solution[Any], parameters: Mapping[str, Tensor]) -> None:
        if self._objective_checked or not bool(solution.ok.any()):
            return
        with torch.no_grad():
            gap = (self._objective(solution.decision, **parameters) - solution.objective).abs() / (1 + solution.objective.abs())
        worst = float(gap[solution.ok.expand_as(gap)].max())
        if not worst < (1e-6 if solution.objective.dtype == torch.float64 else 1e-3):
            raise ProblemError(f"objective= must be the objective of the problem (minus it, for a maximisation); at the solution they differ by {worst:.2g} (relative)")
        self._objective_checked = True


class _Backend:
    """A solver of cvxpylayers behind the same checks: its points are measured on the canonical program above, which it did not build."""

    def __init__(self, owner: ConvexProgram, name: str, args: dict[str, Any], recovered: list[cp.Variable]) -> None:
        from cvxpylayers.torch import CvxpyLayer

        form = owner._form
        covered_x = sum(r.primal.stop - r.primal.start for r in form.recover if r.source == "primal")
        covered_y = sum(r.dual.stop - r.dual.start for r in form.recover if r.source == "dual")
        if covered_x < form.n or covered_y < form.m or not form.cones.polyhedral:
            raise ProblemError(
                f"solver={name!r} can only be checked on linear and quadratic programs whose constraints are all written out and whose variables are all part of "
                f"the decision: the canonical program has {form.n} variables and {form.m} constraint rows, of which {covered_x} and {covered_y} are returned "
                "(write `x >= 0` instead of nonneg=True); or leave solver=None"
            )
        self.name, self.args, self.form = name, args, form
        self.constraint_names = [n for n, c in zip(owner.constraint_names, owner.problem.constraints, strict=True) for _ in c.dual_variables]
        try:
            self.layer = CvxpyLayer(owner.problem, parameters=list(owner.parameters_.values()), variables=recovered, solver=name)
        except (ImportError, cp.error.SolverError) as error:
            raise ProblemError(f"solver={name!r} is not available: {error}; install its package (for MOREAU the extra `dpsc[moreau]`), or leave solver=None") from error

    def propose(self, program: kkt.Program, todo: Tensor, rows: list[Tensor]) -> conic.Starts | None:
        """The backend's points as starts for refinement; rows it fails on go to the solver here, which can tell why."""
        form, batch = self.form, len(program.q)
        starts = conic.solve(program, form.cones, form.patterns, todo[:0])
        failed = []
        for i in todo.tolist():  # one by one: a row that fails must not take the batch along
            try:
                found = self.layer(*(r[i : i + 1] for r in rows), solver_args=self.args)
            except Exception as error:  # noqa: BLE001 - each backend raises its own kind
                if isinstance(error, (TypeError, ImportError)):
                    raise ProblemError(f"solver={self.name!r} refused its arguments {self.args}: {error}") from error
                failed.append(i)
                continue
            x, y = torch.zeros(1, form.n, dtype=torch.float64), torch.zeros(1, form.m, dtype=torch.float64)
            for r, t in zip(form.recover, found, strict=True):
                (x if r.source == "primal" else y)[:, r.primal if r.source == "primal" else r.dual] = _by_columns(t.detach().double())
            starts.x[i], starts.z[i] = x[0], (program.b[i] - program.A[i] @ x[0] - y[0])
            starts.status[i] = int(Status.OK)
        own = conic.solve(program, form.cones, form.patterns, torch.tensor(failed, dtype=torch.int64))
        starts = conic.Starts(*(torch.where(_rows(torch.isin(torch.arange(batch), torch.tensor(failed, dtype=torch.int64)), t), o, t) for t, o in zip(starts, own, strict=True)))
        return self._distrust(program, starts, [i for i in todo.tolist() if i not in set(failed)])

    def _distrust(self, program: kkt.Program, starts: conic.Starts, rows: list[int]) -> conic.Starts:
        """Measure the feasibility of the backend's points; rows it called solved but left far outside are solved here, or the backend is refused."""
        if not rows:
            return starts
        index = torch.tensor(rows)
        slack = program.b[index] - (program.A[index] @ starts.x[index][..., None])[..., 0]
        outside = (slack - self.form.cones.project(slack)).abs() / (1 + program.b[index].abs())
        worst = outside.amax(1)
        wrong = index[worst > GROSS]
        own = conic.solve(program, self.form.cones, self.form.patterns, wrong)
        solvable = [int(i) for i in wrong if own.status[i] <= Status.INACCURATE]
        if solvable:
            i = solvable[0]
            row = int(outside[rows.index(i)].argmax())
            name = next((n for n, r in zip(self.constraint_names, self._dual_slices(), strict=True) if r.start <= row < r.stop), f"row {row}")
            raise SolveError(
                f"solver={self.name!r} returned points that violate the program in {len(solvable)} of {len(rows)} rows: row {i} breaks constraint {name!r} by "
                f"{float(outside[rows.index(i)].max()):.2g} (relative), although it can be satisfied. Some versions of cvxpy and of backends lose constraints on the "
                "way; use another version, or solver=None"
            )
        return conic.Starts(*(torch.where(_rows(torch.isin(torch.arange(len(t)), wrong), t), o, t) for t, o in zip(starts, own, strict=True)))

    def _dual_slices(self) -> list[slice]:
        return [r.dual for r in self.form.recover if r.source == "dual"]


def describe_failures(status: Tensor, residual: Tensor) -> str:
    """One line that names the rows that are not ok, by kind."""
    flat = status.reshape(-1)
    kinds = []
    for s in Status:
        rows = (flat == s).nonzero()[:, 0].tolist() if s != Status.OK else []
        if rows:
            shown = ", ".join(map(str, rows[:8])) + (f" ... ({len(rows)} in all)" if len(rows) > 8 else "")
            worst = f", residual up to {float(residual.reshape(-1)[rows].max()):.1g}" if s == Status.INACCURATE else ""
            kinds.append(f"{s.name.lower().replace('_', ' ')}: rows {shown}{worst}")
    return f"{int((flat != Status.OK).sum())} of {len(flat)} rows were not solved; " + "; ".join(kinds)


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.dim() - 1))


def _collect(names: list[str], values: list[Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, value in zip(names, values, strict=True):
        out[name if name not in out else f"{name}_{sum(k.startswith(name) for k in out)}"] = value
    return out


def _named(what: str, given: Mapping[str, Any] | None, present: list[Any], *, complete: bool) -> dict[str, Any]:
    """Names for cvxpy objects, each checked to be part of the problem."""
    if given is None:
        given = {p.name(): p for p in present}
        if len(given) < len(present):
            raise ProblemError(f"{what} share a name ({', '.join(p.name() for p in present)}); pass {what}= a mapping from names to cvxpy objects")
        return dict(given)
    ids = {p.id for p in present}
    stray = [name for name, p in given.items() if p.id not in ids]
    if stray:
        raise ProblemError(f"{what} names {', '.join(stray)}, which the problem does not contain")
    if complete and len({p.id for p in given.values()}) < len(ids):
        missing = [p.name() for p in present if p.id not in {g.id for g in given.values()}]
        raise ProblemError(f"{what} must name every parameter of the problem; missing {', '.join(missing)}")
    return dict(given)


def _check_problem(problem: cp.Problem) -> None:
    """DCP, DPP and continuous, or an error that says which part is not."""
    discrete = [v.name() for v in problem.variables() if v.attributes.get("integer") or v.attributes.get("boolean")]
    if discrete:
        raise ProblemError(f"variables {', '.join(discrete)} are integer: a convex program needs continuous ones (relax them, or use an oracle such as Knapsack)")
    if not problem.is_dcp():
        parts = ([] if problem.objective.is_dcp() else [f"objective {problem.objective}"]) + [f"constraint {c}" for c in problem.constraints if not c.is_dcp()]
        raise ProblemError(f"the problem is not convex by cvxpy's rules (DCP): {'; '.join(parts)}")
    if not problem.is_dpp(quad_form_dpp="qp"):
        parts = ([] if problem.objective.is_dpp() else [f"objective {problem.objective}"]) + [f"constraint {c}" for c in problem.constraints if not c.is_dpp()]
        raise ProblemError(
            f"the problem is not DPP: {'; '.join(parts)}. Parameters must enter affinely and must not multiply each other (nor sit inside a nonlinear atom "
            "of parameters alone): replace such a product by one new parameter and compute it in torch"
        )


def _canonical(problem: cp.Problem, parameters: list[cp.Parameter], recovered: list[cp.Variable]) -> Any:
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


def _sign_holds(parameter: cp.Parameter, value: Tensor) -> Tensor:
    """`(B,)`: whether the values keep the sign or definiteness that the convexity of the problem may rest on."""
    rows = value.reshape(len(value), -1)
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
