"""Annealed chains against exact posteriors: a linear simulator, and a kink that binds on one side only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpsc.calibrate import Counted, Observations, cooling, draw_prior, ranks, residuals_of, tempered, uniformity
from dpsc.errors import InputError, ShapeError
from tests.calibrate.linear import NOISE, D, K, T, data, matrix, posterior, simulate

LADDER = cooling(0.01, 6, 8)


def kinked(u: Tensor) -> Tensor:
    """A limit that binds below 0.3, a second one that hides the first, and a sum that leaves a ridge."""
    limited = torch.minimum(u[0], torch.full_like(u[0], 0.3))
    return torch.stack([(torch.minimum(limited, u[1] + 0.8) - 0.25) / 0.15, (u[1].clamp_min(-0.5) + 0.5 * u[0] - 0.4) / 0.8])


def quadrature() -> tuple[Tensor, Tensor, float]:
    """Mean, covariance and the weight of the silent side u0 > 0.3, on a grid."""
    grid = torch.linspace(-6, 6, 1601, dtype=torch.float64)
    u = torch.stack(torch.meshgrid(grid, grid, indexing="ij")).flatten(1)
    weight = torch.softmax(-kinked(u).square().sum(0) / 2 - u.square().sum(0) / 2, 0)
    mean = (weight * u).sum(1)
    centred = u - mean[:, None]
    return mean, (weight * centred) @ centred.mT, float(weight[u[0] > 0.3].sum())


def close(members: Tensor, mean: Tensor, covariance: Tensor) -> None:
    count = members.shape[1]
    spread = covariance.diagonal().sqrt()
    assert bool(((members.mean(1) - mean).abs() < 4.5 * spread / count**0.5).all())
    assert bool(((torch.cov(members) - covariance).abs() < 6 * torch.outer(spread, spread) * (2 / count) ** 0.5).all())


def test_chains_end_in_the_exact_posterior_of_a_linear_simulator() -> None:
    _, seen = data(1)
    found = tempered(residuals_of(simulate, seen), draw_prior(D, 3000, seed=3), ladder=LADDER, informed=0.5, seed=4)
    close(found.members, *posterior(seen))
    assert bool((found.accepted[1:].mean(1) > 0.5).all())
    assert bool((found.rank[-1] == D - 1).all()), "the last coordinate has no influence"


@pytest.mark.parametrize("moves", [{}, {"trajectories": 0}], ids=["all moves", "single coordinates alone"])
def test_a_limit_that_binds_on_one_side_agrees_with_quadrature(moves: dict[str, int]) -> None:
    mean, covariance, silent = quadrature()
    assert 0.2 < silent < 0.8, "or there would be nothing to find on the other side"
    start = torch.full((2, 4000), -1.5, dtype=torch.float64)  # all on the side that binds
    found = tempered(kinked, start, ladder=cooling(0.05, 3, 30), singles=4, seed=1, **moves)
    close(found.members, mean, covariance)
    assert abs(float((found.members[0] > 0.3).double().mean()) - silent) < 4.5 * (silent * (1 - silent) / 4000) ** 0.5


def test_exchanges_keep_to_coordinates_of_one_kind() -> None:
    """Without data every move keeps the prior; chains that only exchange keep their numbers, those of each kind among themselves."""
    start = draw_prior(4, 4000, seed=0)
    found = tempered(lambda u: 0 * u[:1], start, ladder=[1.0] * 3, singles=8, kinds=torch.tensor([1, 0, 0, 1]))
    close(found.members, torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    assert bool((found.singles.mean(1) > 0.7).all())
    forbidden = torch.tensor([0.0, 0.0, 5.0, 5.0], dtype=torch.float64)[:, None].expand(4, 50)

    def told_apart(u: Tensor) -> Tensor:  # only the exchange of 0 and 5 could be accepted; the kinds forbid it
        whole = ((u == 0) | (u == 5)).all(0)
        return torch.where(whole, torch.zeros_like(u[0]), torch.inf)[None]

    moved = tempered(told_apart, forbidden, ladder=[1.0] * 5, trajectories=0, singles=20, kinds=torch.tensor([0, 0, 1, 1])).members
    assert torch.equal(moved, forbidden)
    mixed = tempered(told_apart, forbidden, ladder=[1.0] * 5, trajectories=0, singles=20).members
    assert not torch.equal(mixed, forbidden)
    assert torch.equal(mixed.sort(0).values, forbidden)


def test_simulation_based_calibration_side_by_side() -> None:
    """300 data sets of 9 chains each in one call; `residuals` knows whose data each column has."""
    drawn = [data(seed) for seed in range(300)]
    values = torch.stack([seen.values for _, seen in drawn], -1).repeat_interleave(9, -1)

    def residuals(u: Tensor) -> Tensor:
        return (matrix() @ u - values.flatten(0, 1)) / NOISE

    found = tempered(residuals, draw_prior(D, 2700, seed=8), ladder=LADDER, informed=0.5, seed=5)
    members = found.members.view(D, 300, 9)
    truth = torch.stack([u for u, _ in drawn], 1)
    for functional in (lambda u: u[0], lambda u: u.mean(0), lambda u: u[-1]):
        assert uniformity(ranks(functional(members), functional(truth)), draws=9).p > 0.003


def test_a_chain_does_not_depend_on_the_others() -> None:
    _, seen = data(3)
    start, r = draw_prior(D, 8, seed=2), residuals_of(simulate, seen)
    all_of_them = tempered(r, start, ladder=LADDER, seed=6)
    again = tempered(r, start, ladder=LADDER, seed=6)
    alone = tempered(r, start[:, 5:6], ladder=LADDER, seed=6, chains=torch.tensor([5]))
    assert torch.equal(all_of_them.members, again.members)
    torch.testing.assert_close(all_of_them.members[:, 5:6], alone.members, atol=1e-9, rtol=0)
    other = tempered(r, start, ladder=LADDER, seed=7)
    assert float((other.members - all_of_them.members).abs().max()) > 0.1


def test_evaluations_are_counted() -> None:
    _, seen = data(4)
    counted = Counted(simulate)
    found = tempered(residuals_of(counted, seen), draw_prior(D, 5, seed=2), ladder=[0.5, 1.0, 1.0], trajectories=2, leaps=3, singles=7, refresh=1)
    assert counted.evaluations == found.evaluations
    # the start; two Jacobians (none at the second level with b = 1); three levels of a gradient, six leaps and seven single moves
    assert found.evaluations == 5 * (1 + 2 * (D + 1) + 3 * (1 + 6 + 7))
    assert found.misfit.shape == found.accepted.shape == found.singles.shape == found.rank.shape == (3, 5)
    torch.testing.assert_close(found.misfit[-1], seen.misfit(simulate(found.members, relax=None)))  # type: ignore[arg-type]


def test_a_chain_that_starts_at_nonsense_finds_its_way() -> None:
    def residuals(u: Tensor) -> Tensor:
        return torch.where(u > 2, torch.nan, (u - 0.5) / 0.3)

    found = tempered(residuals, torch.full((1, 2000), 2.5, dtype=torch.float64), ladder=cooling(0.1, 3, 12), singles=6)
    assert bool(torch.isfinite(found.misfit[-1]).all())
    variance = 1 / (1 + 1 / 0.09)
    close(found.members, torch.tensor([variance * 0.5 / 0.09], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64))


def test_a_ladder() -> None:
    assert cooling(0.01, 3, 2) == pytest.approx([0.01, 0.1, 1, 1, 1])
    with pytest.raises(InputError, match=r"first must lie in \(0, 1\), got 1.5"):
        cooling(1.5, 3, 0)


def test_what_does_not_fit_is_named() -> None:
    _, seen = data(0)
    r, start = residuals_of(simulate, seen), draw_prior(D, 4, seed=0)
    for ladder in ([], [0.5], [1.0, 0.5, 1.0], [0.0, 1.0]):
        with pytest.raises(InputError, match="ladder must rise from above 0 to 1, got"):
            tempered(r, start, ladder=ladder)
    with pytest.raises(ShapeError, match=r"start must have shape \(D, B\)"):
        tempered(r, start[0], ladder=[1.0])
    with pytest.raises(ShapeError, match=r"chains must have shape \(4,\) and hold whole numbers, got \(2,\)"):
        tempered(r, start, ladder=[1.0], chains=torch.arange(2))
    with pytest.raises(ShapeError, match=r"kinds must have shape \(6,\) and hold whole numbers"):
        tempered(r, start, ladder=[1.0], kinds=torch.zeros(D))
    with pytest.raises(ShapeError, match=r"residuals must have shape \(N, B\) with one column a chain, 4, got \(5, 2, 4\)"):
        tempered(lambda u: r(u).view(T, K, -1), start, ladder=[1.0])
    with pytest.raises(InputError, match=r"observations must have normal errors"):
        residuals_of(simulate, Observations(seen.values, NOISE, freedom=4.0))
