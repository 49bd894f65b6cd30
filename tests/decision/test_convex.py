"""ConvexProgram: known solutions, the accuracy promise, every kind of cone, bad rows, backends that lie, error texts."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from dpsc.decision import ConvexProgram
from dpsc.decision.convex import backend, conic, shared
from dpsc.errors import DtypeError, ProblemError, ShapeError, SolveError, ZeroGradientWarning
from dpsc.instances import layers
from dpsc.types import Status

F64 = torch.float64


def allocation(solver: str | None = None, **options) -> ConvexProgram:
    x, c = cp.Variable(3, name="x"), cp.Parameter(3, name="cost")
    named = {"total": cp.sum(x) == 1, "lower": x >= 0}
    return ConvexProgram(cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)), list(named.values())), constraints=named, solver=solver, **options)


def box(**options) -> ConvexProgram:
    """min |y|^2, y1 + y2 = b, 0 <= y <= 1: infeasible unless 0 <= b <= 2."""
    y, b = cp.Variable(2, name="y"), cp.Parameter(name="b")
    return ConvexProgram(cp.Problem(cp.Minimize(cp.sum_squares(y)), [cp.sum(y) == b, y >= 0, y <= 1]), **options)


def replenishment(draw: layers.Draw) -> ConvexProgram:
    x, d = cp.Variable(50, name="x"), cp.Parameter(50, name="demand")
    w, k, p, u, budget = (draw.shared[n].numpy() for n in ("w", "k", "p", "u", "budget"))
    cost = 0.5 * cp.sum_squares(cp.multiply(np.sqrt(w), x - d)) + k @ x
    return ConvexProgram(cp.Problem(cp.Minimize(cost), [p @ x <= budget, x >= 0, x <= u]))


def dense(draw: layers.Draw) -> ConvexProgram:
    x, c = cp.Variable(200, name="x"), cp.Parameter(200, name="cost")
    P, G, h = (draw.shared[n].numpy() for n in ("P", "G", "h"))
    return ConvexProgram(cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(P)) + c @ x), [G @ x <= h]))


def scored(program: ConvexProgram, name: str, draw: layers.Draw) -> tuple[Tensor, Tensor, Tensor]:
    leaf = draw.batched.clone().requires_grad_()
    solution = program(**{name: leaf})
    (solution.decision * draw.weights).sum().backward()
    assert leaf.grad is not None
    return solution.decision.detach(), leaf.grad, solution.residual


class TestPublishedBatches:
    def test_replenishment(self) -> None:
        draw, known = layers.draw_replenishment(128), layers.P2.known
        assert abs(float(draw.shared["budget"]) - layers.P2.parameters["budget"]) < 5e-7
        x, gradient, residual = scored(replenishment(draw), "demand", draw)
        assert residual.max() <= 1e-8
        assert abs(float(x.sum()) - known["sum"][128]) < 1e-8 * known["sum"][128]
        assert abs(float(gradient.norm()) - known["gradient_norm"][128]) < 1e-9 * known["gradient_norm"][128]
        torch.testing.assert_close(x[0, :3], torch.tensor(known["first_decision"], dtype=F64), rtol=0, atol=1e-8)

    def test_dense(self) -> None:
        draw, known = layers.draw_dense(32), layers.P3.known
        part = layers.Draw(draw.batched[:4], draw.weights[:4], draw.shared)
        x, gradient, residual = scored(dense(draw), "cost", part)
        assert residual.max() <= 1e-8
        torch.testing.assert_close(x[0, :3], torch.tensor(known["first_decision"], dtype=F64), rtol=0, atol=1e-8)
        shift = 1e-6 * torch.randn(200, dtype=F64, generator=torch.Generator().manual_seed(0))
        ahead, behind = (dense(draw)(cost=part.batched[0] + sign * shift).decision @ part.weights[0] for sign in (1, -1))
        torch.testing.assert_close((ahead - behind) / 2, gradient[0] @ shift, rtol=1e-6, atol=1e-12)


class TestReliability:
    def test_quadratic_programs_have_no_silent_failure(self) -> None:
        """2,000 random programs, degenerate and infeasible ones included, checked from the data alone."""
        g, rows, n, m = torch.Generator().manual_seed(0), 2000, 4, 5
        x, q, h = cp.Variable(n, name="x"), cp.Parameter(n, name="q"), cp.Parameter(m, name="h")
        b, G, root = cp.Parameter(name="b"), cp.Parameter((m, n), name="G"), cp.Parameter((n, n), name="P", PSD=True)
        named = {"sum": cp.sum(x) == b, "inequality": G @ x <= h}
        program = ConvexProgram(cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, root) + q @ x), list(named.values())), constraints=named)
        Gs = torch.randn(rows, m, n, generator=g, dtype=F64)
        Gs[::5, 1] = Gs[::5, 0]  # the same constraint twice
        M = torch.randn(rows, n, n, generator=g, dtype=F64)
        P = M @ M.mT + 0.1 * torch.eye(n, dtype=F64)
        inside = torch.randn(rows, n, generator=g, dtype=F64)
        hs = (Gs @ inside[..., None])[..., 0] + torch.rand(rows, m, generator=g, dtype=F64).round(decimals=1)
        hs[::7, 2] = (Gs[::7, 2] * inside[::7]).sum(1)  # a constraint that just touches
        bs = inside.sum(1)
        hs[::11, 3], Gs[::11, 3] = bs[::11] - 1, 1.0  # sum x <= b - 1 against sum x = b
        qs = torch.randn(rows, n, generator=g, dtype=F64)
        s = program(q=qs, h=hs, b=bs, G=Gs, P=P)
        infeasible = torch.zeros(rows, dtype=torch.bool)
        infeasible[::11] = True
        assert (s.status[infeasible] == Status.INFEASIBLE).all()
        assert (s.residual[infeasible] <= conic.CERTIFICATE).all()
        assert (s.status[~infeasible] == Status.OK).all()
        xs, nu, y = (t[~infeasible] for t in (s.decision, s.dual["sum"], s.dual["inequality"]))
        P, qs, Gs, hs, bs = (t[~infeasible] for t in (P, qs, Gs, hs, bs))
        slack = hs - (Gs @ xs[..., None])[..., 0]
        stationarity = (P @ xs[..., None])[..., 0] + qs + nu[:, None] + (Gs.mT @ y[..., None])[..., 0]
        assert stationarity.abs().max() < 1e-8
        assert slack.min() > -1e-8
        assert y.min() >= 0
        assert (slack * y).abs().max() < 1e-8
        assert (xs.sum(1) - bs).abs().max() < 1e-8

    def test_programs_with_shared_matrices_have_no_silent_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """2,000 rows of one program, with repeated, touching and contradictory constraints; whichever rows the active-set method gives up."""
        g, rows, n, m = torch.Generator().manual_seed(1), 2000, 6, 8
        x, q, b, h = cp.Variable(n, name="x"), cp.Parameter(n, name="q"), cp.Parameter(name="b"), cp.Parameter(m, name="h")
        M, G = torch.randn(n, n, generator=g, dtype=F64), torch.randn(m, n, generator=g, dtype=F64)
        P = M @ M.T + 0.01 * torch.eye(n, dtype=F64)
        G[1] = G[0]  # the same constraint twice
        G[2] = 1.0  # sum x <= h_2 beside sum x = b
        named = {"sum": cp.sum(x) == b, "inequality": G.numpy() @ x <= h}
        problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(P.numpy())) + q @ x), list(named.values()))
        inside = torch.randn(rows, n, generator=g, dtype=F64)
        hs = inside @ G.T + torch.rand(rows, m, generator=g, dtype=F64).round(decimals=1)
        hs[::3, 1] = hs[::3, 0]
        bs = inside.sum(1)
        hs[::11, 2] = bs[::11] - 1
        qs = 5 * torch.randn(rows, n, generator=g, dtype=F64)
        infeasible = torch.zeros(rows, dtype=torch.bool)
        infeasible[::11] = True
        results = []
        for rounds in (shared.ROUNDS, 2):  # with two rounds nearly every row is left to the interior-point method
            monkeypatch.setattr(shared, "ROUNDS", rounds)
            program = ConvexProgram(problem, constraints=named)
            assert program._shared is not None
            leaf = qs.clone().requires_grad_()
            s = program(q=leaf, b=bs, h=hs)
            assert (s.status[infeasible] == Status.INFEASIBLE).all()
            assert (s.status[~infeasible] == Status.OK).all()
            y, nu, slack = s.dual["inequality"][~infeasible], s.dual["sum"][~infeasible], (hs - s.decision @ G.T)[~infeasible]
            assert ((s.decision @ P + qs)[~infeasible] + nu[:, None] + y @ G).abs().max() < 1e-8
            assert y.min() >= 0
            assert slack.min() > -1e-8
            assert (slack * y).abs().max() < 1e-8
            assert (s.decision.sum(1) - bs)[~infeasible].abs().max() < 1e-8
            gradient = torch.autograd.grad(s.decision[~infeasible].square().sum(), leaf)[0]
            results.append((s.decision[~infeasible].detach(), gradient))
        for a, b_ in zip(*results, strict=True):
            torch.testing.assert_close(a, b_, rtol=1e-7, atol=1e-8)

    def test_linear_programs_have_no_silent_failure(self) -> None:
        """500 random linear programs, degenerate, infeasible and unbounded ones included, against HiGHS."""
        rng, rows, n, m = np.random.default_rng(0), 500, 4, 6
        x, c, A, h = cp.Variable(n, name="x"), cp.Parameter(n, name="c"), cp.Parameter((m, n), name="A"), cp.Parameter(m, name="h")
        program = ConvexProgram(cp.Problem(cp.Minimize(c @ x), [A @ x <= h, x >= 0]))
        cs, As = rng.integers(-3, 4, (rows, n)).astype(float), rng.integers(-3, 4, (rows, m, n)).astype(float)
        hs = rng.integers(-4, 7, (rows, m)).astype(float)
        s = program(c=torch.from_numpy(cs), A=torch.from_numpy(As), h=torch.from_numpy(hs))
        seen = set()
        for i in range(rows):
            referee = linprog(cs[i], A_ub=As[i], b_ub=hs[i], bounds=(0, None), method="highs")
            status = Status(int(s.status[i]))
            seen.add(referee.status)
            if referee.status == 0:
                assert status in (Status.OK, Status.INACCURATE)
                assert abs(float(s.objective[i]) - referee.fun) <= 1e-8 * (1 + abs(referee.fun))
                assert (torch.from_numpy(As[i]) @ s.decision[i] <= torch.from_numpy(hs[i]) + 1e-8).all()
            else:
                assert status == {2: Status.INFEASIBLE, 3: Status.UNBOUNDED}[referee.status] or (
                    status in (Status.INFEASIBLE, Status.UNBOUNDED) and linprog(0 * cs[i], A_ub=As[i], b_ub=hs[i], bounds=(0, None)).status == 2
                )
                assert s.decision[i].isnan().all()
        assert seen == {0, 2, 3}

    def test_accuracy_promise_on_random_programs(self) -> None:
        """Where the residual is <= 1e-8 the gradient is good to 1e-6: against central differences of the closed-form active set."""
        draw = layers.draw_replenishment(16)
        program = replenishment(draw)
        _, gradient, residual = scored(program, "demand", draw)
        assert residual.max() <= 1e-8
        direction = torch.randn(16, 50, dtype=F64, generator=torch.Generator().manual_seed(5))
        step = 1e-7
        ahead, behind = ((program(demand=draw.batched + s * step * direction).decision * draw.weights).sum(1) for s in (1, -1))
        found, wanted = (gradient * direction).sum(1), (ahead - behind) / (2 * step)
        assert ((found - wanted).abs() <= 1e-6 * (1 + wanted.abs())).all()


class TestCones:
    def check(self, program: ConvexProgram, tolerance: float = 1e-6, **parameters: Tensor) -> None:
        names = list(parameters)

        def everything(*values: Tensor) -> tuple[Tensor, ...]:
            s = program(**dict(zip(names, values, strict=True)))
            assert s.residual.max() <= 1e-8
            decisions = tuple(s.decision.values()) if isinstance(s.decision, dict) else (s.decision,)
            return (*decisions, s.objective, *s.dual.values())

        assert torch.autograd.gradcheck(everything, [p.requires_grad_() for p in parameters.values()], eps=1e-6, atol=tolerance, rtol=1e-5)

    def test_second_order(self) -> None:
        y, d, r = cp.Variable(2, name="y"), cp.Parameter(2, name="d"), cp.Parameter(name="r", nonneg=True)
        g = torch.Generator().manual_seed(1)
        program = ConvexProgram(cp.Problem(cp.Minimize(cp.norm(y - d, 2) + 0.1 * cp.norm1(y) + cp.sum_squares(y)), [cp.norm(y, 2) <= r]))
        self.check(program, d=2 * torch.randn(4, 2, generator=g, dtype=F64), r=0.3 + torch.rand(4, generator=g, dtype=F64))

    def test_exponential(self) -> None:
        y, d, r = cp.Variable(2, name="y"), cp.Parameter(2, name="d"), cp.Parameter(name="r", nonneg=True)
        g = torch.Generator().manual_seed(2)
        program = ConvexProgram(cp.Problem(cp.Minimize(cp.sum(cp.exp(y)) - d @ y + cp.sum_squares(y)), [cp.exp(y[0]) <= r]))
        self.check(program, d=0.5 + 2 * torch.rand(4, 2, generator=g, dtype=F64), r=0.5 + torch.rand(4, generator=g, dtype=F64))

    def test_logarithm_has_the_known_solution(self) -> None:
        x, w = cp.Variable(3, name="x"), cp.Parameter(3, name="w", nonneg=True)
        weights = torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]], dtype=F64)
        s = ConvexProgram(cp.Problem(cp.Maximize(w @ cp.log(x)), [cp.sum(x) <= 1]))(w=weights)
        torch.testing.assert_close(s.decision, weights / weights.sum(1, keepdim=True), rtol=0, atol=1e-9)
        torch.testing.assert_close(s.objective, -(weights * (weights / weights.sum(1, keepdim=True)).log()).sum(1), rtol=1e-9, atol=0)

    def test_semidefinite(self) -> None:
        X, C = cp.Variable((2, 2), name="X", symmetric=True), cp.Parameter((2, 2), name="C", symmetric=True)
        program = ConvexProgram(cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [X >> 0]))
        M = torch.tensor([[[1.0, 2.0], [2.0, -1.0]], [[2.0, 0.3], [0.3, 1.0]]], dtype=F64)
        value, vector = torch.linalg.eigh(M)
        s = program(C=M)
        torch.testing.assert_close(s.decision, (vector * value.clamp(min=0)[:, None]) @ vector.mT, rtol=0, atol=1e-8)  # the projection on the cone
        root = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(3), dtype=F64).requires_grad_()
        assert torch.autograd.gradcheck(lambda r: program(C=r + r.mT).decision, root, atol=1e-6)

    def test_parametrised_matrices(self) -> None:
        x, A, Q, b = cp.Variable(3, name="x"), cp.Parameter((2, 3), name="A"), cp.Parameter((3, 3), name="Q", PSD=True), cp.Parameter(2, name="b")
        program = ConvexProgram(cp.Problem(cp.Minimize(cp.quad_form(x, Q) + cp.sum(x)), [A @ x == b, x >= 0]))
        g = torch.Generator().manual_seed(4)
        M, As = torch.randn(3, 3, 3, generator=g, dtype=F64), torch.rand(3, 2, 3, generator=g, dtype=F64)
        bs = (As @ torch.rand(3, 3, 1, generator=g, dtype=F64))[..., 0]

        def solve(M: Tensor, A: Tensor, b: Tensor) -> Tensor:
            return program(Q=M @ M.mT + torch.eye(3, dtype=F64), A=A, b=b).decision

        assert torch.autograd.gradcheck(solve, [t.requires_grad_() for t in (M, As, bs)], atol=1e-6)

    def test_power_cones_are_refused(self) -> None:
        x = cp.Variable(2, name="x")
        with pytest.raises(ProblemError, match="power cones are not supported"):
            ConvexProgram(cp.Problem(cp.Maximize(cp.sum(x)), [cp.constraints.PowCone3D(x[0], x[1], 1.0, 0.3), cp.sum(x) <= 1]))


class TestBadRows:
    def test_infeasible_row_is_flagged_and_alone(self) -> None:
        program = box()
        clean = program(b=torch.tensor([0.5, 1.0, 1.5], dtype=F64))
        b = torch.tensor([0.5, 1.0, 3.0, 1.5, float("nan"), -1.0], dtype=F64, requires_grad=True)
        s = program(b=b)
        assert s.status.tolist() == [0, 0, Status.INFEASIBLE, 0, Status.INVALID_INPUT, Status.INFEASIBLE]
        torch.testing.assert_close(s.decision[[0, 1, 3]], clean.decision, rtol=0, atol=1e-14)
        assert s.decision[[2, 4, 5]].isnan().all()
        (s.decision**2).sum().backward()  # the loss is NaN, the gradients of the good rows are not
        assert b.grad is not None
        torch.testing.assert_close(b.grad, torch.tensor([0.5, 1.0, 0.0, 1.5, 0.0, 0.0], dtype=F64))

    def test_random_batches_with_bad_rows(self) -> None:
        """500 rows, a third of them bad: all flagged, the others as in the clean run (to rounding; bit-identical where rows are solved apart)."""
        g = torch.Generator().manual_seed(0)
        b = torch.rand(500, generator=g, dtype=F64) * 2
        bad = torch.rand(500, generator=g) < 0.3
        values = torch.tensor([3.0, -1.0, float("nan"), float("inf")], dtype=F64)[torch.randint(0, 4, (500,), generator=g)]
        for together in (True, False):
            program = box()
            if not together:
                program._shared = None
            s, clean = program(b=torch.where(bad, values, b)), program(b=b)
            assert (s.status[bad] >= Status.INFEASIBLE).all()
            assert (s.status[~bad] == Status.OK).all()
            if together:
                torch.testing.assert_close(s.decision[~bad], clean.decision[~bad], rtol=0, atol=1e-14)
            else:
                assert torch.equal(s.decision[~bad], clean.decision[~bad])
                assert torch.equal(s.objective[~bad], clean.objective[~bad])

    def test_unbounded_row(self) -> None:
        y, c = cp.Variable(2, name="y"), cp.Parameter(2, name="c")
        s = ConvexProgram(cp.Problem(cp.Minimize(c @ y), [y >= 0]))(c=torch.tensor([[1.0, 2.0], [1.0, -2.0]], dtype=F64))
        assert s.status.tolist() == [Status.OK, Status.UNBOUNDED]
        assert s.decision[1].isnan().all()

    def test_raise_names_the_rows(self) -> None:
        with pytest.raises(SolveError, match=r"3 of 4 rows were not solved; infeasible: rows 1, 3; invalid input: rows 2"):
            box(on_error="raise")(b=torch.tensor([0.5, 3.0, float("nan"), 4.0]))
        assert box(on_error="raise")(b=torch.tensor([0.5, 1.0])).status.tolist() == [0, 0]

    def test_parameter_outside_its_declared_sign_is_invalid(self) -> None:
        y, w = cp.Variable(2, name="y"), cp.Parameter(2, name="w", nonneg=True)
        s = ConvexProgram(cp.Problem(cp.Minimize(w @ cp.square(y) - cp.sum(y)), []))(w=torch.tensor([[1.0, 2.0], [1.0, -1.0]], dtype=F64))
        assert s.status.tolist() == [Status.OK, Status.INVALID_INPUT]
        torch.testing.assert_close(s.decision[0], torch.tensor([0.5, 0.25], dtype=F64))

    def test_solution_that_is_not_unique_is_not_called_accurate(self) -> None:
        y, c = cp.Variable(2, name="y"), cp.Parameter(2, name="c")
        s = ConvexProgram(cp.Problem(cp.Minimize(c @ y), [cp.sum(y) == 1, y >= 0]))(c=torch.tensor([[1.0, 1.0], [1.0, 2.0]], dtype=F64))
        assert s.status.tolist() == [Status.INACCURATE, Status.OK]
        assert s.residual[0] == float("inf")
        torch.testing.assert_close(s.objective, torch.ones(2, dtype=F64))


class TestBackends:
    @pytest.mark.parametrize("args", [{}, {"solve_method": "Clarabel"}])
    def test_cvxpylayers_default_is_refined_to_the_promise(self, args: dict[str, str]) -> None:
        draw, weights = layers.draw_allocation(8).batched, layers.draw_allocation(8).weights
        results = []
        for program in (allocation(), allocation("DIFFCP", solver_args=args)):
            leaf = draw.clone().requires_grad_()
            s = program(cost=leaf)
            assert (s.status == Status.OK).all()
            results.append((s.decision.detach(), torch.autograd.grad((s.decision * weights).sum(), leaf)[0]))
        for own, other in zip(*results, strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=1e-9)

    def test_an_infeasible_row_does_not_take_the_batch_along(self) -> None:
        s = box(solver="DIFFCP")(b=torch.tensor([0.5, 3.0, 1.5], dtype=F64))
        assert s.status.tolist() == [Status.OK, Status.INFEASIBLE, Status.OK]

    def test_a_lost_constraint_is_found_at_run_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A backend that drops x >= 0 and returns the optimum of what is left."""
        program = allocation("DIFFCP")
        x, c = cp.Variable(3, name="x"), cp.Parameter(3, name="cost")
        relaxed = ConvexProgram(cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)), [cp.sum(x) == 1]))

        def liar(cost: Tensor, solver_args: dict[str, str]) -> tuple[Tensor, Tensor, Tensor]:
            s = relaxed(cost=cost)
            return s.decision, s.dual["constraint_0"], torch.zeros_like(cost)

        assert isinstance(program._backend, backend.Backend)
        monkeypatch.setattr(program._backend, "layer", liar)
        with pytest.raises(SolveError, match=r"solver='DIFFCP' returned wrong points in 1 of 2 rows: row 0 breaks constraint 'lower' by 0.42 \(relative\)"):
            program(cost=torch.tensor([[-1.0, 1.5, 2.5], [0.8, 1.0, 1.2]], dtype=F64))

    def test_a_point_that_is_not_optimal_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        program = allocation("DIFFCP")

        def lazy(cost: Tensor, solver_args: dict[str, str]) -> tuple[Tensor, Tensor, Tensor]:
            return torch.full_like(cost, 1 / 3), torch.zeros(len(cost), dtype=F64), torch.zeros_like(cost)

        assert isinstance(program._backend, backend.Backend)
        monkeypatch.setattr(program._backend, "layer", lazy)
        with pytest.raises(SolveError, match="row 0 is not optimal: it lies 0.67 away from the solution"):
            program(cost=torch.tensor([[-1.0, 1.5, 2.5]], dtype=F64))

    def test_moreau_is_right_or_refused(self) -> None:
        """With some versions of cvxpy this backend loses x >= 0; then the layer must not be built."""
        pytest.importorskip("moreau", reason="the extra dpsc[moreau] is not installed")
        cost = torch.tensor([[-1.0, 1.5, 2.5], [0.8, 1.0, 1.2]], dtype=F64)
        if cp.__version__ == "1.9.3":
            with pytest.raises(ProblemError, match=r"with cvxpy 1.9.3 its canonical form has no rows for constraint 'lower'"):
                allocation("MOREAU")
        else:
            torch.testing.assert_close(allocation("MOREAU")(cost=cost).decision, allocation()(cost=cost).decision, rtol=0, atol=1e-9)

    def test_hidden_variables_are_refused(self) -> None:
        x, c = cp.Variable(3, name="x", nonneg=True), cp.Parameter(3, name="c")
        with pytest.raises(ProblemError, match=r"can only be checked on linear and quadratic programs .* 3 variables and 4 constraint rows, of which 3 and 1"):
            ConvexProgram(cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)), [cp.sum(x) == 1]), solver="DIFFCP")

    def test_unknown_backend_and_arguments(self) -> None:
        with pytest.raises(ProblemError, match="solver='NOPE' is not available"):
            allocation("NOPE")
        with pytest.raises(ProblemError, match="refused its arguments"):
            allocation("DIFFCP", solver_args={"no_such_argument": 1})(cost=torch.zeros(1, 3, dtype=F64))


class TestUse:
    def test_maximisation_is_minus_the_minimum(self) -> None:
        x, r = cp.Variable(2, name="x"), cp.Parameter(2, name="r")
        program = ConvexProgram(cp.Problem(cp.Maximize(r @ x - cp.sum_squares(x)), [x <= 1]))
        r_value = torch.tensor([1.0, 4.0], dtype=F64)
        s = program(r=r_value)
        torch.testing.assert_close(s.decision, torch.tensor([0.5, 1.0], dtype=F64))
        assert float(s.objective) == pytest.approx(-3.25, abs=1e-12)
        assert float(program.objective(s.decision, r=r_value)) == pytest.approx(-3.25, abs=1e-12)
        torch.testing.assert_close(s.dual["constraint_0"], torch.tensor([0.0, 2.0], dtype=F64), rtol=0, atol=1e-9)

    def test_objective_at_any_decision_broadcasts(self) -> None:
        program = allocation()
        x = torch.rand(5, 1, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
        cost = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(program.objective(x, cost=cost), (x * cost).sum(-1) + (x * x).sum(-1))

    def test_objective_that_cannot_be_evaluated(self) -> None:
        x, d = cp.Variable(2, name="x"), cp.Parameter(2, name="d")
        problem = cp.Problem(cp.Minimize(cp.sum(cp.abs(x - d)) + cp.sum_squares(x)))
        with pytest.raises(ProblemError, match=r"pass objective=\(decision, \*\*parameters\)"):
            ConvexProgram(problem).objective(torch.zeros(2), d=torch.zeros(2))
        wrong = ConvexProgram(problem, objective=lambda x, d: (x - d).abs().sum(-1))
        with pytest.raises(ProblemError, match="at the solution they differ by"):
            wrong(d=torch.ones(2, dtype=F64))

    def test_linear_program_warns_that_its_gradient_is_zero(self) -> None:
        x, c, b = cp.Variable(2, name="x"), cp.Parameter(2, name="c"), cp.Parameter(name="b")
        program = ConvexProgram(cp.Problem(cp.Minimize(c @ x), [cp.sum(x) == b, x >= 0]))
        cost, total = torch.tensor([1.0, 2.0], dtype=F64, requires_grad=True), torch.tensor(3.0, dtype=F64, requires_grad=True)
        with pytest.warns(ZeroGradientWarning, match="objective's parameter 'c' is zero almost everywhere"):
            s = program(c=cost, b=total)
        gradients = torch.autograd.grad(s.decision @ torch.tensor([5.0, 7.0], dtype=F64), [cost, total])
        torch.testing.assert_close(gradients[0], torch.zeros(2, dtype=F64))
        torch.testing.assert_close(gradients[1], torch.tensor(5.0, dtype=F64))  # the right-hand side has a true one
        program(c=cost.detach(), b=total)  # no gradient in c asked for, no warning (warnings are errors)

    def test_mixed_dtypes_take_the_wider(self) -> None:
        x, c, b = cp.Variable(2, name="x"), cp.Parameter(2, name="c"), cp.Parameter(name="b")
        program = ConvexProgram(cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)), [cp.sum(x) == b]))
        assert program(c=torch.zeros(2), b=torch.tensor(1.0, dtype=F64)).decision.dtype == F64

    def test_problems_that_do_not_fit_are_explained(self) -> None:
        x, p, q = cp.Variable(2, name="x"), cp.Parameter(2, name="p"), cp.Parameter(2, name="q")
        n = cp.Variable(2, name="n", integer=True)
        for problem, words in (
            (cp.Problem(cp.Minimize(cp.sum_squares(x)), [cp.multiply(p, q) @ x >= 1]), r"not DPP: constraint .*replace such a product by one new parameter"),
            (cp.Problem(cp.Minimize(-cp.sum_squares(x)), [x >= 0]), r"not convex by cvxpy's rules \(DCP\): objective"),
            (cp.Problem(cp.Minimize(cp.sum(n)), [n >= 0]), "variables n are integer"),
        ):
            with pytest.raises(ProblemError, match=words):
                ConvexProgram(problem)

    def test_names_must_belong_to_the_problem(self) -> None:
        x, c, other = cp.Variable(2, name="x"), cp.Parameter(2, name="c"), cp.Parameter(2, name="other")
        problem = cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)))
        with pytest.raises(ProblemError, match="parameters names wrong, which the problem does not contain"):
            ConvexProgram(problem, parameters={"cost": c, "wrong": other})
        with pytest.raises(ProblemError, match="must name every parameter of the problem; missing c"):
            ConvexProgram(problem, parameters={})
        with pytest.raises(ProblemError, match="constraints names 'stray'"):
            ConvexProgram(problem, constraints={"stray": x >= 0})
        assert ConvexProgram(problem, parameters={"cost": c})(cost=torch.zeros(2)).decision.shape == (2,)

    def test_shapes_that_do_not_broadcast(self) -> None:
        x, c, b = cp.Variable(2, name="x"), cp.Parameter(2, name="c"), cp.Parameter(name="b")
        program = ConvexProgram(cp.Problem(cp.Minimize(c @ x + cp.sum_squares(x)), [cp.sum(x) == b]))
        with pytest.raises(ShapeError, match=r"leading \(batch\) shapes must broadcast, got c: \(3,\), b: \(4,\)"):
            program(c=torch.zeros(3, 2), b=torch.zeros(4))
        with pytest.raises(DtypeError, match=r"b must be a torch.Tensor, got float"):
            program(c=torch.zeros(3, 2), b=1.0)

    def test_matrix_variable_and_several_batch_dimensions(self) -> None:
        X, C = cp.Variable((2, 3), name="X"), cp.Parameter((2, 3), name="C")
        program = ConvexProgram(cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [X >= 0]))
        value = torch.randn(4, 5, 2, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
        s = program(C=value)
        torch.testing.assert_close(s.decision, value.clamp(min=0), rtol=0, atol=1e-9)
        torch.testing.assert_close(program.objective(s.decision, C=value), s.objective, rtol=1e-9, atol=1e-12)

    @pytest.mark.gpu
    def test_device_out_is_device_in(self) -> None:
        s = allocation()(cost=torch.randn(4, 3, device="cuda", requires_grad=True))
        assert s.decision.device.type == s.status.device.type == "cuda"
        s.decision.sum().backward()
