"""`ConvexProgram`: any parametrised cvxpy problem as a batched, checked, differentiable layer.

cvxpylayers turns the problem into a conic program whose data are affine in the parameters. Each row is solved by an interior-point method (or by a
backend of cvxpylayers, if one is named), refined by Newton's method on its own optimality conditions, and *measured*: `residual` is what the refined
point is off by, whatever the solver said. The derivative is one dense solve with the Jacobian of the same conditions at the refined point.

The promise: where `residual` <= 1e-8 (status 0) the gradient is good to 1e-6 relative; elsewhere the row is flagged. What that costs: see docs/accuracy.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import cvxpy as cp
import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision.convex import conic, kkt
from dpsc.decision.convex.backend import Backend
from dpsc.decision.convex.canonical import Form, by_columns, canonical, check_problem, sign_holds
from dpsc.decision.convex.shared import Data, Shared
from dpsc.decision.layer import DecisionLayer
from dpsc.errors import DtypeError, ProblemError, SolveError, ZeroGradientWarning
from dpsc.types import Solution, Status

ACCURATE = 1e-8
NAN = float("nan")


class _Implicit(torch.autograd.Function):
    """Values of P, q, A, b (sparse, batch first) -> x, y and the optimal value; the implicit derivative at the refined point."""

    @staticmethod
    def forward(
        ctx: Any, P_values: Tensor, q: Tensor, A_values: Tensor, b_values: Tensor, offset: Tensor, form: Form, point: kkt.Point, good: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
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


class _ImplicitShared(torch.autograd.Function):
    """q and b of a program with shared matrices -> x, y and the optimal value; as `_Implicit`, with the shared factorisation."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, b: Tensor, offset: Tensor, shared: Shared, x: Tensor, z: Tensor, good: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.where(shared.active(z), -z, 0.0)
        ctx.shared, ctx.good = shared, good
        ctx.save_for_backward(x, y, z)
        return x.clone(), y, 0.5 * ((x @ shared.P) * x).sum(1) + (q * x).sum(1) + offset

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, x_bar: Tensor, y_bar: Tensor, value_bar: Tensor) -> tuple[Any, ...]:
        x, y, z = ctx.saved_tensors
        good = ctx.good[:, None]
        w1, w2 = ctx.shared.adjoint(z, torch.where(good, x_bar, 0.0), torch.where(good, y_bar, 0.0))
        v = torch.where(good, value_bar[:, None], 0.0)
        return v * x - w1, w2 - v * y, v[:, 0], None, None, None, None


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
        check_problem(problem)
        self.problem, self.on_error = problem, on_error
        self.cvxpy_parameters = _named("parameters", parameters, problem.parameters(), complete=True)
        self.cvxpy_variables = _named("variables", variables, problem.variables(), complete=False)
        self.parameter_shapes = {name: tuple(p.shape) for name, p in self.cvxpy_parameters.items()}
        by_id = {c.id: name for name, c in (constraints or {}).items()}
        unknown = set(by_id) - {c.id for c in problem.constraints}
        if unknown:
            raise ProblemError(f"constraints names {', '.join(repr(by_id[i]) for i in unknown)}, which the problem does not contain")
        self.constraint_names = [by_id.get(c.id, f"constraint_{i}") for i, c in enumerate(problem.constraints)]
        recovered = [*self.cvxpy_variables.values(), *(d for c in problem.constraints for d in c.dual_variables)]
        self.form = Form(canonical(problem, list(self.cvxpy_parameters.values()), recovered))
        self._objective, self._objective_checked = objective, objective is None
        plain = all(r.unpack_fn == "reshape" for r in self.form.recover[: len(self.cvxpy_variables)])
        self._quadratic = plain and self.form.defining is not None and len(self.cvxpy_variables) == len(problem.variables())
        self._shared = Shared.of(self.form) if solver is None else None
        self._backend = Backend(self, solver, dict(solver_args or {}), recovered) if solver is not None else None

    def forward(self, **parameters: Tensor) -> Solution[Any]:
        """Solve every row."""
        batch = self._batch(parameters)
        dtype, device = _common(parameters)
        rows = [_flat(parameters[name], batch, shape) for name, shape in self.parameter_shapes.items()]
        stacked = self.form.stack(rows)
        valid = torch.isfinite(stacked).all(1)
        for p, value in zip(self.cvxpy_parameters.values(), rows, strict=True):
            valid &= sign_holds(p, value.detach())
        data = self.form.values(torch.where(valid[:, None], stacked, 0.0))
        self._warn_if_flat(parameters)
        x, y, value, status, residual = self._together(data, valid) if self._shared is not None else self._apart(data, valid, rows)
        good = status <= Status.INACCURATE

        def out(t: Tensor, fill: float = NAN) -> Tensor:
            t = torch.where(good.reshape(-1, *[1] * (t.dim() - 1)), t, fill)
            return t.reshape(batch + t.shape[1:]).to(device, dtype)

        named = [out(self.form.variable(k, x, y)) for k in range(len(self.form.recover))]
        decision = dict(zip(self.cvxpy_variables, named, strict=False))
        duals = [d for d, c in zip(self.constraint_names, self.problem.constraints, strict=True) for _ in c.dual_variables]
        solution: Solution[Any] = Solution(
            decision=next(iter(decision.values())) if len(decision) == 1 else decision,
            dual=_collect(duals, named[len(decision) :]),
            objective=out(value),
            status=status.reshape(batch).to(device),
            residual=residual.reshape(batch).to(device, dtype),
        )
        self._check_objective(solution, parameters)
        if self.on_error == "raise" and bool((status != Status.OK).any()):
            raise SolveError(describe_failures(status, residual))
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
        named = decision if isinstance(decision, Mapping) else {next(iter(self.cvxpy_variables)): decision}
        leading = {name: named[name].shape[: named[name].dim() - len(v.shape)] for name, v in self.cvxpy_variables.items()}
        leading |= {name: parameters[name].shape[: parameters[name].dim() - len(shape)] for name, shape in self.parameter_shapes.items()}
        batch = checks.broadcast(leading)
        anyone = next(iter(named.values()))

        P, q, A, b, offset = self.form.values(self.form.stack([_flat(parameters[name], batch, shape) for name, shape in self.parameter_shapes.items()]))
        x = q.new_zeros(batch.numel(), self.form.n)
        for (name, v), r in zip(self.cvxpy_variables.items(), self.form.recover, strict=False):
            x = x.index_copy(1, torch.arange(r.primal.start, r.primal.stop), by_columns(_flat(named[name], batch, v.shape)))
        x = self.form.complete(x, A, b)
        p = self.form.patterns
        value = 0.5 * (P * x[:, p.P_rows] * x[:, p.P_columns]).sum(1) + (q * x).sum(1) + offset
        return value.reshape(batch).to(anyone.device, anyone.dtype)

    def _apart(self, data: tuple[Tensor, ...], valid: Tensor, rows: list[Tensor]) -> tuple[Tensor, ...]:
        """Row by row: x, y, value, status and residual."""
        with torch.no_grad():
            program = self.form.dense(*(t.detach() for t in data[:4]))
            point, status = self._points(program, valid, [r.detach() for r in rows])
        return *_Implicit.apply(*data, self.form, point, status <= Status.INACCURATE), status, point.residual

    def _together(self, data: tuple[Tensor, ...], valid: Tensor) -> tuple[Tensor, ...]:
        """The whole batch at once, by the matrices that its rows share; rows for which that does not settle are solved apart."""
        form, shared = self.form, self._shared
        assert shared is not None
        P_values, q, A_values, b_values, offset = data
        b = q.new_zeros(len(q), form.m).index_copy(1, form.b_rows, b_values)
        reduced = shared.reduce(q, b, offset)
        with torch.no_grad():
            vectors = Data(reduced.q.detach(), reduced.b.detach(), reduced.offset.detach())
            x, z, settled = shared.solve(vectors)
            x, z, residual = shared.polish(vectors, x, z)
            status = torch.full((len(q),), int(Status.OK), dtype=torch.int8)
            left = (valid & ~(settled & (residual <= ACCURATE))).nonzero()[:, 0]
            if len(left):
                program = form.dense(*(t.detach()[left] for t in (P_values, q, A_values, b_values)))
                point, status[left] = self._points(program, torch.ones(len(left), dtype=torch.bool), [])
                x[left], z[left], residual[left] = point.x[:, form.watched], point.z[:, shared.kept], point.residual
            status[~valid], residual[~valid] = int(Status.INVALID_INPUT), float("inf")
        x, y, value = _ImplicitShared.apply(reduced.q, reduced.b, reduced.offset, shared, x, z, status <= Status.INACCURATE)
        whole = x @ shared.lift.T + b[:, shared.defining] @ shared.shift.T
        return whole, y.new_zeros(len(y), form.m).index_copy(1, shared.kept, y), value, status, residual

    def _points(self, program: kkt.Program, valid: Tensor, rows: list[Tensor]) -> tuple[kkt.Point, Tensor]:
        """Solve, refine and judge: a point for every row and its status."""
        form = self.form
        todo = valid.nonzero()[:, 0]
        starts = conic.solve(program, form.cones, form.patterns, todo) if self._backend is None else self._backend.propose(program, todo, rows)
        status, residual = starts.status.clone(), starts.certificate.clone()
        x, z = torch.nan_to_num(starts.x), torch.nan_to_num(starts.z)
        without = ((status == Status.INFEASIBLE) | (status == Status.UNBOUNDED)) & (residual <= conic.CERTIFICATE)
        found = (valid & ~without).nonzero()[:, 0]
        refined = kkt.refine(kkt.Program(*(t[found] for t in program)), form.cones, x[found], z[found], form.watched)
        x[found], z[found], residual[found] = refined.x, refined.z, refined.residual
        status[found] = torch.where(refined.residual <= ACCURATE, int(Status.OK), int(Status.INACCURATE)).to(torch.int8)
        status[~valid] = int(Status.INVALID_INPUT)
        return kkt.Point(x, z, residual), status

    def _warn_if_flat(self, parameters: Mapping[str, Tensor]) -> None:
        if not (self.form.linear and self.form.cones.polyhedral and torch.is_grad_enabled()):
            return
        start = 0
        sizes = sorted((self.form.order[i], name, self.cvxpy_parameters[name].size) for i, name in enumerate(self.cvxpy_parameters))
        for _, name, size in sizes:
            columns, start = slice(start, start + size), start + size
            if parameters[name].requires_grad and self.form.maps["q"].touches(columns) and not self.form.maps["A"].touches(columns):
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
            raise ProblemError(
                f"objective= must be the objective of the problem (minus it, for a maximisation); at the solution they differ by {worst:.2g} (relative)"
            )
        self._objective_checked = True


def _common(parameters: Mapping[str, Tensor]) -> tuple[torch.dtype, torch.device]:
    """The widest dtype and the one device of the parameters."""
    if not parameters:
        return torch.float64, torch.device("cpu")
    devices = {name: p.device for name, p in parameters.items()}
    if len(set(devices.values())) > 1:
        raise DtypeError("parameters must be on one device, got " + ", ".join(f"{name}: {d}" for name, d in devices.items()))
    dtypes = [p.dtype for p in parameters.values()]
    return reduce(torch.promote_types, dtypes), next(iter(devices.values()))


def _flat(t: Tensor, batch: torch.Size, shape: Sequence[int]) -> Tensor:
    """Broadcast over the batch, its dimensions made one; float64 on the CPU."""
    return t.expand(batch + tuple(shape)).reshape(batch.numel(), *shape).to("cpu", torch.float64)


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
