"""The Gauss-Newton posterior and guides that start there: against the exact posterior of a linear simulator."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dpsc.calibrate import (
    Counted,
    Diagonal,
    FirmBlocks,
    Guide,
    Informed,
    Laplace,
    Linearised,
    LowRank,
    Observations,
    effective_from_jacobian,
    gauss_newton,
    infer,
    laplace_spread,
    solve,
    start_blocks,
    start_diagonal,
    start_flow,
    start_informed,
    start_low_rank,
)
from dpsc.calibrate import starts as starts_module
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from dpsc.types import Relaxation
from tests.calibrate.linear import NOISE, D, K, T, data, matrix, posterior, simulate

J = matrix() / NOISE
FIRMS = 3
WIDE, LONG = 60, 50  # a larger linear simulator: coordinates, observations


def falling(rate: float) -> Tensor:
    """`(LONG, WIDE)` Jacobian whose singular values are 20 rate^k."""
    generator = torch.Generator().manual_seed(5)
    u, v = (torch.linalg.qr(torch.randn(size, LONG, generator=generator, dtype=torch.float64))[0] for size in (LONG, WIDE))
    return (u * (20 * rate ** torch.arange(LONG, dtype=torch.float64))) @ v.mT


def linear(jacobian: Tensor) -> tuple[Counted, Observations]:
    """A simulator with that Jacobian in standard deviations, and data of it."""
    values = torch.randn(len(jacobian), 1, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return Counted(lambda u, *, relax: NOISE * (jacobian.to(u) @ u)[:, None]), Observations(NOISE * values, NOISE)


def exact(jacobian: Tensor) -> Tensor:
    return torch.linalg.inv(torch.eye(jacobian.shape[1], dtype=torch.float64) + jacobian.mT @ jacobian)


def found(centre: Tensor | None = None, seed: int = 0) -> Laplace:
    return gauss_newton(simulate, data(seed)[1], torch.zeros(D, dtype=torch.float64) if centre is None else centre, relax=Exact())


def covariance_of(guide: Guide) -> Tensor:
    """`(S, D, D)` by pushing unit vectors through the guide's draws: all of these are linear in what they draw."""
    law = guide.distribution()
    if isinstance(guide, Diagonal):
        return torch.diag_embed(law.variance).detach()
    if isinstance(guide, LowRank):
        return law.covariance_matrix.detach()
    base = law.base_dist
    assert hasattr(base, "sample")
    size = guide.dimension
    zero = torch.zeros(base.batch_shape + base.event_shape, dtype=guide.location.dtype)
    unit = torch.eye(size, dtype=guide.location.dtype).reshape(size, *([1] * (zero.dim() - len(base.event_shape))), *base.event_shape)

    def push(x: Tensor) -> Tensor:
        for transform in law.transforms:
            x = transform(x)
        return x

    if isinstance(guide, FirmBlocks):
        unit = torch.einsum("mpq,zmq->zmp", base.base_dist.scale_tril[0], unit.reshape(size, FIRMS, -1))[:, None]
        zero = zero[None]
    columns = (push(zero + unit) - push(zero)).detach()
    return torch.einsum("zsi,zsj->sij", columns.reshape(size, -1, size), columns.reshape(size, -1, size))


# --------------------------------------------------------------------------------------------------------- the posterior


@pytest.mark.parametrize("centre", [torch.zeros(D), torch.full((D,), 1.7)], ids=["prior mean", "elsewhere"])
def test_the_posterior_of_a_linear_simulator_is_exact_from_any_centre(centre: Tensor) -> None:
    _, seen = data(0)
    mean, covariance = posterior(seen)
    laplace = found(centre.double())
    torch.testing.assert_close(laplace.mean, mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.covariance(), covariance, atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.spread(), covariance.diagonal().sqrt(), atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.spread(), laplace_spread(J), atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.conditional(), torch.linalg.inv(covariance).diagonal().rsqrt(), atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.times(J.mT), covariance @ J.mT, atol=1e-12, rtol=0)
    assert float(laplace.shrinkage.sum()) == pytest.approx(effective_from_jacobian(J), abs=1e-10)
    assert float(laplace.spread()[-1]) == 1.0, "a silent parameter keeps the prior's scale"
    assert float(laplace.mean[-1]) == pytest.approx(0, abs=1e-12), "and its mean"
    by_firm = laplace.blocks(FIRMS)
    for firm in range(FIRMS):
        index = torch.tensor([firm, FIRMS + firm])
        torch.testing.assert_close(by_firm[firm], covariance[index][:, index], atol=1e-12, rtol=0)


def test_a_most_likely_centre_is_the_mean() -> None:
    mean, _ = posterior(data(3)[1])
    assert float(found(mean, seed=3).step.abs().max()) < 1e-12


def test_draws_have_the_law_of_the_posterior_and_repeat() -> None:
    mean, covariance = posterior(data(1)[1])
    laplace = found(seed=1)
    drawn = laplace.sample(20000, seed=3)
    spread = covariance.diagonal().sqrt()
    assert bool(((drawn.mean(1) - mean).abs() < 4.5 * spread / 20000**0.5).all())
    assert bool(((torch.cov(drawn) - covariance).abs() < 5 * torch.outer(spread, spread) * (2 / 20000) ** 0.5).all())
    torch.testing.assert_close(laplace.sample(5, seed=3), drawn[:, :5], atol=1e-12, rtol=0)
    torch.testing.assert_close(laplace.sample(5, seed=3, at=laplace.centre) - laplace.centre[:, None], drawn[:, :5] - mean[:, None], atol=1e-12, rtol=0)


def test_strong_data_do_not_drown_in_rounding() -> None:
    j = torch.diag(torch.tensor([1e7, 1.0, 0.0], dtype=torch.float64))
    simulator, seen = linear(j)
    spread = gauss_newton(simulator, seen, torch.zeros(3, dtype=torch.float64), relax=Exact()).spread()
    torch.testing.assert_close(spread, torch.tensor([1e-7, 0.5**0.5, 1.0], dtype=torch.float64), rtol=1e-6, atol=0)


def test_evaluations_are_counted_by_rows_or_by_columns() -> None:
    for jacobian in (falling(0.9), falling(0.9)[:, :20].contiguous()):
        rows, columns = jacobian.shape
        simulator, seen = linear(jacobian)
        laplace = gauss_newton(simulator, seen, torch.zeros(columns, dtype=torch.float64), relax=Exact())
        assert laplace.evaluations == simulator.evaluations == 1 + min(rows, columns)
        torch.testing.assert_close(laplace.covariance(), exact(jacobian), atol=1e-10, rtol=0)
        known = gauss_newton(simulator, seen, torch.zeros(columns, dtype=torch.float64), relax=Exact(), jacobian=jacobian)
        assert known.evaluations == 1
        torch.testing.assert_close(known.mean, laplace.mean, atol=1e-10, rtol=0)


# -------------------------------------------------------------------------------------------------------- leading directions


def test_leading_directions_come_from_a_range_finder() -> None:
    jacobian = falling(0.4)
    simulator, seen = linear(jacobian)
    laplace = gauss_newton(simulator, seen, torch.zeros(WIDE, dtype=torch.float64), relax=Exact(), rank=5, oversample=3, passes=1, tolerance=1e-12)
    torch.testing.assert_close(laplace.strengths, torch.linalg.svdvals(jacobian)[:5], rtol=1e-6, atol=0)
    torch.testing.assert_close(laplace.directions.mT @ laplace.directions, torch.eye(5, dtype=torch.float64), atol=1e-12, rtol=0)
    assert not laplace.exact
    values = simulator.simulate(laplace.mean[:, None], relax=Exact())
    gradient = laplace.mean + jacobian.mT @ seen.residuals(values).reshape(-1)
    assert float(gradient.abs().max()) < 1e-8, "the step is that of the whole Jacobian: the objective is flat at the mean"
    iterations = (laplace.evaluations - (1 + 1 + 8 * 4 + 8)) / 2
    assert iterations == int(iterations)
    assert 0 < iterations <= 20
    assert laplace.evaluations == simulator.evaluations
    gaps = []
    for passes in (0, 1, 2, 3):
        found = gauss_newton(simulator, seen, laplace.centre, relax=Exact(), rank=5, oversample=0, passes=passes)
        gaps.append(float(-torch.linalg.eigvalsh(found.covariance() - exact(jacobian)).min()))
    # A pass brings directions nearer by (s_6 / s_5)^2 = .16, and the covariance by the square of that; what is left out then becomes as wide as the prior.
    assert all(after < before / 20 for before, after in itertools.pairwise(gaps)), gaps


def test_a_known_jacobian_is_cut_and_an_expensive_sketch_is_not_made() -> None:
    jacobian = falling(0.9)
    simulator, seen = linear(jacobian)
    zero = torch.zeros(WIDE, dtype=torch.float64)
    whole = gauss_newton(simulator, seen, zero, relax=Exact())
    cut = gauss_newton(simulator, seen, zero, relax=Exact(), rank=30)
    assert cut.evaluations == 1 + LONG, "a sketch of 30 + 10 directions would take 160"
    assert torch.equal(cut.strengths, whole.strengths[:30])
    torch.testing.assert_close(cut.mean, whole.mean, atol=1e-12, rtol=0)
    assert whole.exact
    assert not cut.exact
    excess = torch.linalg.eigvalsh(cut.covariance() - exact(jacobian))
    assert float(excess.min()) > -1e-12, "what is left out is as wide as the prior, not narrower"
    assert float(excess.max()) == pytest.approx(float(whole.shrinkage[30]), abs=1e-10)


def test_conjugate_gradients_solve_and_a_preconditioner_saves_evaluations() -> None:
    jacobian = falling(0.8)
    simulator, seen = linear(jacobian)
    right = torch.randn(WIDE, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spent = []
    line = Linearised(simulator, seen, torch.zeros(WIDE, dtype=torch.float64), relax=Exact())
    leading = gauss_newton(simulator, seen, line.point, relax=Exact(), rank=10)
    for known in (None, leading):
        before = line.evaluations
        x = solve(line, right, known=known, tolerance=1e-10)
        torch.testing.assert_close(x, exact(jacobian) @ right, atol=1e-7, rtol=0)
        spent.append(line.evaluations - before)
    assert spent[1] < 0.6 * spent[0]
    assert spent[0] % 6 == 0
    assert solve(line, right[:, 0], known=leading).shape == (WIDE,)
    assert torch.equal(solve(line, torch.zeros(WIDE)), torch.zeros(WIDE, dtype=torch.float64))


def test_what_the_leading_directions_leave_out_is_known_by_its_diagonal() -> None:
    jacobian = torch.diag(1.3 ** torch.arange(20, dtype=torch.float64))  # hundreds of strong directions, one for each coordinate, look like this
    simulator, seen = linear(jacobian)
    cut = gauss_newton(simulator, seen, torch.zeros(20, dtype=torch.float64), relax=Exact(), jacobian=jacobian, rank=3)
    before = cut.evaluations
    torch.testing.assert_close(solve(cut.line, torch.ones(20), known=cut), 1 / (1 + jacobian.diagonal().square()), atol=1e-12, rtol=0)
    assert cut.evaluations - before == 2, "one iteration"
    solve(cut.line, torch.ones(20))
    assert cut.evaluations - before - 2 >= 20


def test_perturbed_draws_have_all_directions() -> None:
    jacobian = falling(0.8)
    simulator, seen = linear(jacobian)
    laplace = gauss_newton(simulator, seen, torch.zeros(WIDE, dtype=torch.float64), relax=Exact(), rank=3, oversample=2)
    drawn = laplace.perturbed(4000, seed=2, tolerance=1e-8)
    covariance = exact(jacobian)
    spread = covariance.diagonal().sqrt()
    assert bool(((torch.cov(drawn) - covariance).abs() < 5 * torch.outer(spread, spread) * (2 / 4000) ** 0.5).all())
    assert bool(((drawn.mean(1) - laplace.mean).abs() < 4.5 * spread / 4000**0.5).all())
    assert float((laplace.spread() / spread).max()) > 1.2, "without the directions left out the draws would be too wide"


# ---------------------------------------------------------------------------------------------------------------- guides


def test_scales_of_a_diagonal_guide() -> None:
    covariance = posterior(data(0)[1])[1]
    laplace = found()
    guide = start_diagonal([laplace], at=laplace.mean[:, None])
    torch.testing.assert_close(guide.log_scale.detach().exp()[0], covariance.diagonal().sqrt(), atol=1e-12, rtol=0)
    torch.testing.assert_close(guide.centre()[:, 0], posterior(data(0)[1])[0], atol=1e-12, rtol=0)
    narrow = start_diagonal([laplace], conditional=True)
    torch.testing.assert_close(narrow.log_scale.detach().exp()[0], torch.linalg.inv(covariance).diagonal().rsqrt(), atol=1e-12, rtol=0)
    assert torch.equal(narrow.centre()[:, 0], laplace.centre)
    assert bool((narrow.log_scale <= guide.log_scale + 1e-12).all())
    flow = start_flow(laplace, hidden=4)
    torch.testing.assert_close(flow.log_scale, guide.log_scale)


def test_blocks_of_firms() -> None:
    covariance = posterior(data(0)[1])[1]
    guide = start_blocks([found(), found(torch.ones(D, dtype=torch.float64))], firms=FIRMS)
    expected = torch.zeros_like(covariance)
    for firm in range(FIRMS):
        index = torch.tensor([firm, FIRMS + firm])
        expected[index[:, None], index] = covariance[index[:, None], index]
    drawn = guide.sample(60000, seed=1)
    spread = covariance.diagonal().sqrt()
    for start in range(2):
        mine = drawn[:, start::2]
        assert bool(((torch.cov(mine) - expected).abs() < 5 * torch.outer(spread, spread) * (2 / 30000) ** 0.5).all())
    torch.testing.assert_close(covariance_of(start_blocks([found()], firms=FIRMS))[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rank", [D - 1, D])
def test_low_rank_is_exact_at_full_rank(rank: int) -> None:
    covariance = posterior(data(0)[1])[1]
    guide = start_low_rank([found(), found()], rank=rank)
    torch.testing.assert_close(covariance_of(guide), covariance.expand(2, -1, -1), atol=1e-8, rtol=0)


def test_low_rank_keeps_variances_and_finds_what_a_diagonal_family_misses_most() -> None:
    """Two coordinates of which only the sum is known, sharply: one direction says it all."""
    j = torch.tensor([[100.0, 100.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    simulator, seen = linear(j)
    laplace = gauss_newton(simulator, seen, torch.zeros(4, dtype=torch.float64), relax=Exact())
    guide = start_low_rank([laplace], rank=1)
    covariance = covariance_of(guide)[0]
    torch.testing.assert_close(covariance, exact(j), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance.diagonal(), exact(j).diagonal(), atol=1e-12, rtol=0)
    assert float(guide.factor.detach()[0, 2:].abs().max()) < 1e-9
    wide = gauss_newton(*linear(falling(0.9)), torch.zeros(WIDE, dtype=torch.float64), relax=Exact())
    errors = []
    for rank in (1, 5, 20, 40):
        covariance = covariance_of(start_low_rank([wide], rank=rank))[0]
        torch.testing.assert_close(covariance.diagonal(), exact(falling(0.9)).diagonal(), atol=1e-10, rtol=0)
        errors.append(float((covariance - exact(falling(0.9))).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_low_rank_without_the_whole_covariance_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    laplace = gauss_newton(*linear(falling(0.8)), torch.zeros(WIDE, dtype=torch.float64), relax=Exact())
    dense = covariance_of(start_low_rank([laplace], rank=4))
    monkeypatch.setattr(starts_module, "DENSE", 10)
    torch.testing.assert_close(covariance_of(start_low_rank([laplace], rank=4)), dense, atol=1e-8, rtol=0)


def test_an_informed_guide_is_the_posterior() -> None:
    covariance = posterior(data(0)[1])[1]
    guide = start_informed([found(), found(torch.ones(D, dtype=torch.float64))])
    torch.testing.assert_close(covariance_of(guide), covariance.expand(2, -1, -1), atol=1e-12, rtol=0)
    law = guide.distribution()
    u = torch.randn(7, 2, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(guide.location, covariance).log_prob(u)
    torch.testing.assert_close(law.log_prob(u), expected, atol=1e-9, rtol=0)
    few = start_informed([found()], rank=2)
    values = torch.linalg.eigvalsh(covariance_of(few)[0])
    s = torch.linalg.svdvals(J)[:2]
    torch.testing.assert_close(values, torch.cat([1 / (1 + s.square()), torch.ones(D - 2, dtype=torch.float64)]), atol=1e-12, rtol=0)


def test_the_evidence_bound_is_where_an_exact_start_stays() -> None:
    """An informed guide that starts at the posterior has no gradient on average; a diagonal one moves to the conditional scales."""
    _, seen = data(0)
    laplace = found()
    at = laplace.mean[:, None]
    adam = functools.partial(torch.optim.Adam, lr=0.02)
    informed = infer(simulate, seen, start_informed([laplace], at=at), steps=150, optimizer=adam, reading=lambda _: Exact(), particles=32)
    truth = torch.linalg.inv(torch.linalg.cholesky(posterior(seen)[1]))
    whitened = truth @ covariance_of(informed.guide)[0] @ truth.mT
    assert float((torch.linalg.eigvalsh(whitened).log()).abs().max()) < 0.25
    diagonal = infer(
        simulate,
        seen,
        start_diagonal([laplace], at=at),
        steps=300,
        optimizer=adam,
        reading=lambda _: Exact(),
        particles=32,
        rate=lambda done: 1 - 0.9 * done,
    )
    assert isinstance(diagonal.guide, Diagonal)
    torch.testing.assert_close(diagonal.guide.log_scale.detach().exp()[0], laplace.conditional(), rtol=0.05, atol=0)
    assert float((laplace.spread() / laplace.conditional()).max()) > 1.2


def test_an_informed_guide_knows_the_density_of_its_draws() -> None:
    generator = torch.Generator().manual_seed(1)
    guide = start_informed([found()], rank=3)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    u = torch.randn(5, 1, D, generator=generator, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(guide.location, covariance_of(guide)).log_prob(u)
    torch.testing.assert_close(guide.distribution().log_prob(u), expected, atol=1e-9, rtol=0)
    assert set(guide.state_dict()) == {"location", "log_scale", "log_shrink", "directions"}
    assert "directions" not in dict(guide.named_parameters())


def test_single_precision_points_make_guides_in_single_precision() -> None:
    laplace = gauss_newton(simulate_single, Observations(data(0)[1].values.float(), NOISE), torch.zeros(D), relax=Exact())
    assert laplace.strengths.dtype == torch.float64
    for guide in (start_diagonal([laplace]), start_blocks([laplace], firms=FIRMS), start_low_rank([laplace], rank=2), start_informed([laplace])):
        assert {p.dtype for p in guide.parameters()} == {torch.float32}
        assert guide.sample(3, seed=0).dtype == torch.float32
    assert laplace.sample(3, seed=0).dtype == torch.float32
    torch.testing.assert_close(laplace.spread(), posterior(data(0)[1])[1].diagonal().sqrt(), rtol=1e-4, atol=0)


def simulate_single(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
    return (matrix().float() @ coordinates).view(T, K, -1)


# ---------------------------------------------------------------------------------------------------------------- errors


def test_error_texts() -> None:
    _, seen = data(0)
    zero = torch.zeros(D, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"point must have shape \(D,\), got \(6, 1\)"):
        gauss_newton(simulate, seen, zero[:, None], relax=Exact())
    with pytest.raises(InputError, match=r"observations must have normal errors \(freedom=None\) for a Gauss-Newton posterior, got Student's t with 4"):
        gauss_newton(simulate, replace(seen, freedom=4.0), zero, relax=Exact())
    with pytest.raises(InputError, match="the simulation must be finite at the point, got 10 of 10"):
        gauss_newton(lambda u, *, relax: simulate(u, relax=relax) / 0, seen, zero, relax=Exact())
    with pytest.raises(InputError, match="the Jacobian must be finite at the centre, got 10 of 60 entries that are not"):
        gauss_newton(lambda u, *, relax: simulate(u, relax=relax) + 0 * u[0].abs().sqrt(), seen, zero, relax=Exact(), jacobian=broken())
    with pytest.raises(InputError, match=r"the Jacobian must be finite at the centre, got \d+ of 60 entries that are not"):
        gauss_newton(lambda u, *, relax: simulate(u, relax=relax) + 0 * u[0].abs().sqrt(), seen, zero, relax=Exact())
    with pytest.raises(ShapeError, match=r"jacobian must have shape \(n, D\) = \(10, 6\), got \(6, 10\)"):
        gauss_newton(simulate, seen, zero, relax=Exact(), jacobian=J.mT)
    with pytest.raises(InputError, match="rank must be an integer >= 1, got 0"):
        gauss_newton(simulate, seen, zero, relax=Exact(), rank=0)
    laplace = found()
    with pytest.raises(ShapeError, match="the centre must have a multiple of firms = 4 coordinates, got 6"):
        laplace.blocks(4)
    with pytest.raises(ShapeError, match=r"at must have shape \(D,\) = \(6,\), got \(5,\)"):
        laplace.sample(3, seed=0, at=zero[:5])
    with pytest.raises(ShapeError, match=r"at must have shape \(D, S\) = \(6, 1\), got \(6, 2\)"):
        start_diagonal([laplace], at=torch.zeros(D, 2))
    with pytest.raises(InputError, match="posteriors must hold at least one, got none"):
        start_diagonal([])
    with pytest.raises(ShapeError, match="posteriors must have one dimension, got 6, 60"):
        start_diagonal([laplace, gauss_newton(*linear(falling(0.5)), torch.zeros(WIDE, dtype=torch.float64), relax=Exact())])
    with pytest.raises(InputError, match="rank must be at most D = 6, got 7"):
        start_low_rank([laplace], rank=7)
    with pytest.raises(ShapeError, match=r"right must have shape \(6,\) or \(6, V\), got \(5,\)"):
        solve(laplace.line, zero[:5])
    with pytest.raises(ShapeError, match=r"directions must have shape \(D, R\) or \(S, D, R\) with S = 2 and D = 6, got \(5, 1\)"):
        Informed(torch.zeros(D, 2), directions=torch.zeros(5, 1), strengths=torch.ones(1))
    with pytest.raises(ShapeError, match=r"strengths must have one entry a direction, \(2,\), got \(3,\)"):
        Informed(torch.zeros(D, 1), directions=torch.eye(D)[:, :2], strengths=torch.ones(3))
    with pytest.raises(InputError, match="directions must be orthonormal, got products that are off by 3"):
        Informed(torch.zeros(D, 1), directions=2 * torch.eye(D)[:, :2], strengths=torch.ones(2))
    with pytest.raises(InputError, match="strengths must be finite and >= 0, got -1.0 to 1.0"):
        Informed(torch.zeros(D, 1), directions=torch.eye(D)[:, :2], strengths=torch.tensor([-1.0, 1.0]))


def broken() -> Tensor:
    jacobian = J.clone()
    jacobian[:, 0] = math.nan
    return jacobian
