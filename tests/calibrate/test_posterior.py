"""Posteriors against the exact one of a linear simulator; simulation-based calibration of all three ways to get one."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpsc import storage
from dpsc.calibrate import (
    Counted,
    Diagonal,
    FirmBlocks,
    Flow,
    Guide,
    LowRank,
    Observations,
    draw_prior,
    ensemble,
    hold_then_decay,
    infer,
    maximum_posterior,
    ranks,
    rejection,
    sequential,
    uniformity,
)
from dpsc.errors import DivergenceError, InputError, ShapeError
from dpsc.relax import Exact
from dpsc.types import Relaxation
from tests.calibrate.linear import NOISE, D, K, T, data, matrix, posterior, simulate

EXACT = lambda _: Exact()  # noqa: E731
ADAM = functools.partial(torch.optim.Adam, lr=0.1, betas=(0.8, 0.99))


# ------------------------------------------------------------------------------------------------------------- ensembles


def test_the_most_likely_coordinates_of_a_linear_simulator() -> None:
    _, seen = data(0)
    mean, _ = posterior(seen)
    start = draw_prior(D, 3, seed=4)
    found = maximum_posterior(simulate, seen, start, steps=800, optimizer=ADAM, reading=EXACT, rate=hold_then_decay())
    torch.testing.assert_close(found.members, mean[:, None].expand(-1, 3), atol=2e-4, rtol=0)
    assert found.evaluations == 2400


def test_members_are_draws_of_the_exact_posterior() -> None:
    _, seen = data(1)
    mean, covariance = posterior(seen)
    found = ensemble(simulate, seen, dimension=D, members=4000, steps=300, optimizer=ADAM, reading=EXACT, rate=hold_then_decay(), seed=3)
    spread = covariance.diagonal().sqrt()
    assert bool(((found.members.mean(1) - mean).abs() < 4.5 * spread / 4000**0.5).all())
    assert bool(((torch.cov(found.members) - covariance).abs() < 5 * torch.outer(spread, spread) * (2 / 4000) ** 0.5).all())


def test_a_coordinate_without_influence_stays_at_its_draw_of_the_prior() -> None:
    _, seen = data(2)
    found = ensemble(simulate, seen, dimension=D, members=7, steps=50, optimizer=ADAM, reading=EXACT, seed=9)
    assert torch.equal(found.members[-1], draw_prior(D, 7, seed=9)[-1])


def test_a_member_does_not_depend_on_the_others() -> None:
    _, seen = data(3)
    many, few = (ensemble(simulate, seen, dimension=D, members=m, steps=40, optimizer=ADAM, reading=EXACT, seed=2).members for m in (8, 3))
    torch.testing.assert_close(many[:, :3], few, atol=1e-12, rtol=0)


def test_missing_data_are_as_if_they_had_never_been() -> None:
    _, seen = data(4)
    holes = seen.values.clone()
    holes[3:, 1] = float("nan")
    kept = torch.isfinite(holes).reshape(-1)
    a = matrix()[kept]
    mean = torch.linalg.solve(torch.eye(D, dtype=torch.float64) + a.mT @ a / NOISE**2, a.mT @ holes.reshape(-1)[kept] / NOISE**2)
    found = maximum_posterior(
        simulate, Observations(holes, NOISE), torch.zeros(D, 1, dtype=torch.float64), steps=300, optimizer=ADAM, reading=EXACT, rate=hold_then_decay()
    )
    torch.testing.assert_close(found.members[:, 0], mean, atol=2e-4, rtol=0)


# ---------------------------------------------------------------------------------------------------------------- guides


def guides(starts: int = 1) -> dict[str, Guide]:
    zero = torch.zeros(D, starts, dtype=torch.float64)
    made = {"diagonal": Diagonal(zero, scale=0.3), "low rank": LowRank(zero, scale=0.3, rank=D), "blocks": FirmBlocks(zero, scale=0.3, firms=3)}
    return made | ({"flow": Flow(zero, scale=0.3)} if starts == 1 else {})


@pytest.mark.parametrize("family", sorted(guides()))
def test_a_guide_knows_the_density_of_its_draws(family: str) -> None:
    """log q integrates: the mean of a narrow normal law / q(u) over draws of q is one."""
    guide = guides()[family]
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        law = guide.distribution()
        torch.manual_seed(0)
        u = law.sample((40000,))
        target = torch.distributions.Normal(guide.location, 0.3).log_prob(u).sum(-1)
        weight = (target - law.log_prob(u)).exp()
    assert abs(float(weight.mean()) - 1) < 5 * float(weight.std()) / 200
    assert float(weight.std()) < 8, "or the test would pass whatever the density"


def fitted(guide: Guide, seen: Observations, **kwargs: object) -> Guide:
    result = infer(simulate, seen, guide, steps=500, optimizer=functools.partial(torch.optim.Adam, lr=0.05), reading=EXACT, rate=hold_then_decay(), **kwargs)  # type: ignore[arg-type]
    return result.guide


def test_mean_field_finds_the_mean_and_the_conditional_spread() -> None:
    _, seen = data(5)
    mean, covariance = posterior(seen)
    guide = fitted(Diagonal(torch.zeros(D, 1, dtype=torch.float64), scale=0.3), seen, particles=16)
    assert isinstance(guide, Diagonal)
    best = torch.linalg.inv(covariance).diagonal().rsqrt()  # known for the mean-field optimum of a normal posterior
    torch.testing.assert_close(guide.log_scale.detach().exp()[0], best, rtol=0.06, atol=0)
    torch.testing.assert_close(guide.centre()[:, 0], mean, atol=0.03, rtol=0)


def test_a_full_rank_guide_finds_the_covariance() -> None:
    _, seen = data(6)
    mean, covariance = posterior(seen)
    guide = fitted(LowRank(torch.zeros(D, 1, dtype=torch.float64), scale=0.3, rank=D), seen, particles=16)
    got = torch.distributions.MultivariateNormal(guide.centre()[:, 0], guide.distribution().covariance_matrix[0].detach())
    exact = torch.distributions.MultivariateNormal(mean, covariance)
    assert float(torch.distributions.kl_divergence(got, exact)) < 0.05


def test_starts_do_not_meet_and_evaluations_are_counted() -> None:
    _, seen = data(7)
    counted = Counted(simulate)
    location = draw_prior(D, 2, seed=0)
    both = Diagonal(location, scale=1e-9)
    result = infer(counted, seen, both, steps=60, optimizer=ADAM, reading=EXACT, particles=3)
    assert counted.evaluations == result.evaluations == 60 * 2 * 3
    assert result.loss.shape == (60, 2)
    alone = Diagonal(location[:, :1], scale=1e-9)
    infer(simulate, seen, alone, steps=60, optimizer=ADAM, reading=EXACT, particles=3)
    torch.testing.assert_close(both.centre()[:, :1], alone.centre(), atol=1e-4, rtol=0)
    assert float((both.centre()[:, 0] - both.centre()[:, 1]).abs().max()) > 0.1


def test_starts_in_different_modes_are_weighted_by_their_evidence() -> None:
    """|u - 1/2| is seen to be 1: u is 3/2 or -1/2, and the prior prefers the latter by exp(1)."""

    def two_sided(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        return (coordinates - 0.5).abs()[None]

    seen = Observations(torch.ones(1, 1, dtype=torch.float64), 0.1)
    guide = Diagonal(torch.tensor([[1.4, -0.3, 6.0]], dtype=torch.float64), scale=0.1)
    made = infer(two_sided, seen, guide, steps=400, optimizer=functools.partial(torch.optim.Adam, lr=0.02), reading=EXACT, particles=64, rate=hold_then_decay())
    assert made.best == 1
    two = made.weights()[:2] / made.weights()[:2].sum()
    assert two[1] / two[0] == pytest.approx(math.exp(1), rel=0.15)
    drawn = guide.sample(4000, seed=2, weights=made.weights())
    assert torch.equal(drawn, guide.sample(4000, seed=2, weights=made.weights()))
    upper = float((drawn > 0.5).double().mean())
    assert upper == pytest.approx(float(made.weights()[[0, 2]].sum()), abs=0.03)
    with pytest.raises(ShapeError, match=r"weights must have shape \(S,\) = \(3,\), got \(2,\)"):
        guide.sample(3, seed=0, weights=two)
    with pytest.raises(InputError, match=r"weights must be >= 0 and not all 0, got \[0\.0, 0\.0, -1\.0\]"):
        guide.sample(3, seed=0, weights=torch.tensor([0.0, 0.0, -1.0]))


def test_tempering_scales_the_misfit() -> None:
    _, seen = data(8)
    guide = fitted(Diagonal(torch.zeros(D, 1, dtype=torch.float64), scale=0.3), seen, particles=8, weight=lambda _: 0.25)
    a = matrix()
    precision = torch.eye(D, dtype=torch.float64) + a.mT @ a / (2 * NOISE) ** 2
    torch.testing.assert_close(guide.log_scale.detach().exp()[0], precision.diagonal().rsqrt(), rtol=0.08, atol=0)  # type: ignore[union-attr, operator]


def test_fitting_leaves_the_global_random_state_alone_and_repeats() -> None:
    _, seen = data(9)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    runs = [
        infer(simulate, seen, Diagonal(torch.zeros(D, 1, dtype=torch.float64), scale=0.1), steps=5, optimizer=ADAM, reading=EXACT, seed=3) for _ in range(2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(runs[0].loss, runs[1].loss)
    assert torch.equal(runs[0].guide.sample(4, seed=1), runs[1].guide.sample(4, seed=1))


# ----------------------------------------------------------------------------------------- simulation-based calibration


def test_ranks_are_uniform_on_the_linear_toy_by_exact_draws_and_by_ensembles() -> None:
    exact, approximate, functional = [], [], torch.ones(D, dtype=torch.float64)
    for i in range(300):
        truth, seen = data(100 + i)
        mean, covariance = posterior(seen)
        draws = mean[:, None] + torch.linalg.cholesky(covariance) @ torch.randn(D, 19, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        exact.append(ranks(functional @ draws, functional @ truth))
        if i < 60:
            found = ensemble(simulate, seen, dimension=D, members=19, steps=60, optimizer=ADAM, reading=EXACT, rate=hold_then_decay(), seed=i)
            approximate.append(ranks(functional @ found.members, functional @ truth))
    assert uniformity(torch.stack(exact), draws=19).p > 0.003
    assert uniformity(torch.stack(approximate), draws=19).p > 0.003


def test_ranks_of_an_overconfident_posterior_are_found_out() -> None:
    found = []
    for i in range(300):
        truth, seen = data(100 + i)
        mean, covariance = posterior(seen)
        draws = mean + 0.5 * torch.randn(19, D, generator=torch.Generator().manual_seed(i), dtype=torch.float64) @ torch.linalg.cholesky(covariance).mT
        found.append(ranks(draws.sum(-1), truth.sum()))
    assert uniformity(torch.stack(found), draws=19).p < 1e-6


# ------------------------------------------------------------------------------------------------------------------- abc


def test_rejection_keeps_the_nearest_of_all_its_draws() -> None:
    _, seen = data(10)
    counted = Counted(simulate)
    kept = rejection(counted, seen, dimension=D, evaluations=130, keep=7, batch=50, seed=3)
    generator = torch.Generator().manual_seed(3)
    every = torch.cat([torch.randn(D, n, generator=generator) for n in (50, 50, 30)], 1).double()
    far = seen.loss(simulate(every, relax=Exact()))
    assert torch.equal(kept.distance, far.sort().values[:7])
    assert torch.equal(kept.draws, every[:, far.argsort()[:7]])
    assert counted.evaluations == kept.evaluations == 130
    assert [spent for spent, _, _ in kept.curve] == [50, 100, 130]


def test_sequential_comes_nearer_than_rejection_for_the_same_evaluations() -> None:
    _, seen = data(11)
    near = sequential(simulate, seen, dimension=D, evaluations=10000, population=100, seed=0)
    plain = rejection(simulate, seen, dimension=D, evaluations=10000, keep=100, seed=0)
    assert near.evaluations == 10000
    a, y = matrix(), seen.values.reshape(-1)
    least = float((a @ (torch.linalg.pinv(a) @ y) - y).square().mean())  # no coordinates come nearer
    assert float(near.distance.mean()) - least < 0.5 * (float(plain.distance.mean()) - least)
    assert float((near.draws[-1]).std()) > 0.6, "a coordinate without influence keeps its prior spread"


def test_a_run_that_is_not_finite_is_never_accepted() -> None:
    _, seen = data(12)

    def broken(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        return torch.where(coordinates[0] > 0, torch.nan, simulate(coordinates, relax=relax))

    kept = rejection(broken, seen, dimension=D, evaluations=200, keep=20)
    assert bool((kept.draws[0] <= 0).all())


# ---------------------------------------------------------------------------------------------------------------- errors


def test_divergence_names_step_and_block_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    _, seen = data(13)
    calls = 0

    def breaks(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        nonlocal calls
        calls += 1
        series = simulate(coordinates, relax=relax)
        return series / 0.0 if calls > 3 else series

    with pytest.raises(DivergenceError, match=r"diverged at step 3 of 10: the loss of column 0 \(2 of 2 in all\) over the blocks coordinates must be finite"):
        maximum_posterior(breaks, seen, draw_prior(D, 2, seed=0), steps=10, optimizer=ADAM, reading=EXACT, save_to=tmp_path / "last.pt")
    state = storage.load(tmp_path / "last.pt")
    assert state["step"] == 3
    same = maximum_posterior(simulate, seen, draw_prior(D, 2, seed=0), steps=3, optimizer=ADAM, reading=EXACT)
    assert torch.equal(state["blocks"]["coordinates"], same.members)


def test_a_gradient_that_is_not_finite_names_its_block() -> None:
    _, seen = data(14)

    def root(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        return simulate(coordinates, relax=relax) + (coordinates[0] * 0).abs().sqrt()

    with pytest.raises(DivergenceError, match=r"diverged at step 0 of 5: block 'location' must stay finite, got 1 of 6 .* not saved; give save_to="):
        infer(root, seen, Diagonal(torch.zeros(D, 1, dtype=torch.float64), scale=0.1), steps=5, optimizer=ADAM, reading=EXACT)


def test_error_texts() -> None:
    zero = torch.zeros(D, 1)
    with pytest.raises(ShapeError, match=r"location must have a multiple of firms = 4 rows, got 6"):
        FirmBlocks(zero, scale=0.1, firms=4)
    with pytest.raises(ShapeError, match=r"a flow has one start: location must have shape \(D, 1\), got \(6, 2\)"):
        Flow(torch.zeros(D, 2), scale=0.1)
    with pytest.raises(InputError, match="scale must be a finite number > 0, got 0"):
        Diagonal(zero, scale=0)
    with pytest.raises(ShapeError, match=r"location must have shape \(D, B\)"):
        Diagonal(torch.zeros(D), scale=0.1)
    with pytest.raises(InputError, match="keep must be at most evaluations = 5, got 100"):
        rejection(simulate, data(0)[1], dimension=D, evaluations=5)
    with pytest.raises(InputError, match=r"survive must lie in \(0, 1\), got 1"):
        sequential(simulate, data(0)[1], dimension=D, evaluations=50, population=10, survive=1)
    assert T * K == 10
