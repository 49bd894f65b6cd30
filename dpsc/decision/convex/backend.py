"""Solvers of cvxpylayers as a source of starting points, trusted as far as they can be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import torch
from torch import Tensor

from dpsc.decision.convex import conic, kkt
from dpsc.decision.convex.canonical import by_columns
from dpsc.errors import ProblemError, SolveError
from dpsc.types import Status

if TYPE_CHECKING:
    from dpsc.decision.convex.program import ConvexProgram

GROSS = 1e-2


class Backend:
    """A solver of cvxpylayers behind the same checks: its points are measured on the canonical program above, which it did not build."""

    def __init__(self, owner: ConvexProgram, name: str, args: dict[str, Any], recovered: list[cp.Variable]) -> None:
        form = owner.form
        covered_x = sum(r.primal.stop - r.primal.start for r in form.recover if r.source == "primal")
        covered_y = sum(r.dual.stop - r.dual.start for r in form.recover if r.source == "dual")
        if covered_x < form.n or covered_y < form.m or not form.cones.polyhedral:
            raise ProblemError(
                f"solver={name!r} can only be checked on linear and quadratic programs whose constraints are all written out and whose variables are all "
                f"part of "
                f"the decision: the canonical program has {form.n} variables and {form.m} constraint rows, of which {covered_x} and {covered_y} are returned "
                "(write `x >= 0` instead of nonneg=True); or leave solver=None"
            )
        self.name, self.args, self.form = name, args, form
        self.dual_names = [n for n, c in zip(owner.constraint_names, owner.problem.constraints, strict=True) for _ in c.dual_variables]
        self.layer = self._layer(owner, recovered)

    def _layer(self, owner: ConvexProgram, recovered: list[cp.Variable]) -> Any:
        from cvxpylayers.torch import CvxpyLayer

        def build(variables: list[cp.Variable]) -> Any:
            return CvxpyLayer(owner.problem, parameters=list(owner.cvxpy_parameters.values()), variables=variables, solver=self.name)

        try:
            return build(recovered)
        except (ImportError, cp.error.SolverError) as error:
            raise ProblemError(
                f"solver={self.name!r} is not available: {error}; install its package (for MOREAU the extra `dpsc[moreau]`), or leave solver=None"
            ) from error
        except KeyError as error:  # a constraint has no rows in the program that the backend would solve
            lost = []
            for name, c in zip(owner.constraint_names, owner.problem.constraints, strict=True):
                try:
                    build([owner.problem.variables()[0], *c.dual_variables])
                except KeyError:
                    lost.append(name)
            raise ProblemError(
                f"solver={self.name!r} would solve another problem: with cvxpy {cp.__version__} its canonical form has no rows for constraint "
                f"{', '.join(map(repr, lost))}. "
                "Use a version of cvxpy that keeps them, write the constraint differently (2 * x >= 0), or leave solver=None"
            ) from error

    def propose(self, program: kkt.Program, todo: Tensor, rows: list[Tensor]) -> conic.Starts:
        """The backend's points as starts for refinement; rows it fails on go to the solver here, which can tell why."""
        starts = conic.solve(program, self.form.cones, self.form.patterns, todo[:0])
        if not len(todo):
            return starts
        try:
            self._place(starts, program, todo, rows)
            solved = todo
        except Exception as error:  # each backend raises its own kind
            if isinstance(error, (TypeError, ImportError)):
                raise ProblemError(f"solver={self.name!r} refused its arguments {self.args}: {error}") from error
            solved = torch.tensor([i for i in todo.tolist() if self._alone(starts, program, i, rows)], dtype=torch.int64)
        suspect = solved[self._off(program, starts, solved) > GROSS]
        unsolved = todo[~torch.isin(todo, solved)]
        own = conic.solve(program, self.form.cones, self.form.patterns, torch.cat([unsolved, suspect]))
        refutable = suspect[(own.status[suspect] <= Status.INACCURATE)]
        if len(refutable):
            self._refuse(program, starts, own, refutable, len(solved))
        replaced = torch.isin(torch.arange(len(program.q)), torch.cat([unsolved, suspect]))
        return conic.Starts(*(torch.where(replaced.reshape(-1, *[1] * (t.dim() - 1)), o, t) for t, o in zip(starts, own, strict=True)))

    def _place(self, starts: conic.Starts, program: kkt.Program, index: Tensor, rows: list[Tensor]) -> None:
        found = self.layer(*(r[index] for r in rows), solver_args=self.args)
        x, y = torch.zeros(len(index), self.form.n, dtype=torch.float64), torch.zeros(len(index), self.form.m, dtype=torch.float64)
        for r, t in zip(self.form.recover, found, strict=True):
            (x if r.source == "primal" else y)[:, r.primal if r.source == "primal" else r.dual] = by_columns(t.detach().double())
        slack = program.b[index] - (program.A[index] @ x[..., None])[..., 0]
        starts.x[index], starts.z[index], starts.status[index] = x, slack - y, int(Status.OK)

    def _alone(self, starts: conic.Starts, program: kkt.Program, i: int, rows: list[Tensor]) -> bool:
        """One row by itself, after the batch failed: whether the backend solved it."""
        try:
            self._place(starts, program, torch.tensor([i]), rows)
        except Exception:  # as above; the row is then solved and explained here
            return False
        return True

    def _off(self, program: kkt.Program, starts: conic.Starts, index: Tensor) -> Tensor:
        """How far the backend's points are from feasible and optimal, relative, before any refinement."""
        part = kkt.Program(*(t[index] for t in program))
        slack = part.b - (part.A @ starts.x[index][..., None])[..., 0]
        outside = ((slack - self.form.cones.project(slack)).abs() / (1 + part.b.abs())).amax(1)
        return torch.maximum(outside, kkt.conditions(part, self.form.cones, starts.x[index], starts.z[index])[0])

    def _refuse(self, program: kkt.Program, starts: conic.Starts, own: conic.Starts, wrong: Tensor, count: int) -> None:
        i = int(wrong[0])
        slack = program.b[i] - program.A[i] @ starts.x[i]
        outside = (slack - self.form.cones.project(slack[None])[0]).abs() / (1 + program.b[i].abs())
        if float(outside.max()) > GROSS:
            row = int(outside.argmax())
            slices = [r.dual for r in self.form.recover if r.source == "dual"]
            name = next(n for n, r in zip(self.dual_names, slices, strict=True) if r.start <= row < r.stop)
            why = f"breaks constraint {name!r} by {float(outside.max()):.2g} (relative), although it can be satisfied"
        else:
            why = f"is not optimal: it lies {float((starts.x[i] - own.x[i]).abs().max()):.2g} away from the solution"
        raise SolveError(
            f"solver={self.name!r} returned wrong points in {len(wrong)} of {count} rows: row {i} {why}. Some versions of cvxpy and of backends lose parts "
            f"of a problem on "
            "the way; use another version, or leave solver=None"
        )
