"""Learnt posteriors against exact ones: a linear simulator, two modes of known weight, a limit that binds on one side only."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from dpsc.calibrate import Amortised, amortise, ranks, uniformity
from dpsc.errors import InputError, ShapeError
from tests.calibrate.linear import NOISE, D, data, matrix, posterior

ERROR = 0.15


def linear(number: int, width: int = 256) -> tuple[Tensor, Tensor]:
    """Data and coordinates 0, 1 and 5, the last of which has no influence."""
    generator = torch.Generator().manual_seed(number % 2**32)
    u = torch.randn(D, width, generator=generator, dtype=torch.float64)
    x = matrix() @ u
    return x + NOISE * torch.randn(x.shape, generator=generator, dtype=torch.float64), u[[0, 1, 5]]


@cache
def learnt_linear() -> Amortised:
    return amortise(linear, steps=800, width=32, depth=1, components=3)


def folded(u: Tensor) -> Tensor:
    """A fold leaves two modes, a limit a silent side."""
    return torch.stack([(u - 0.5).abs(), u.clamp_max(0.3)])


def one_dimensional(row: int) -> Amortised:
    def simulations(number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(number % 2**32)
        u = torch.randn(384, generator=generator, dtype=torch.float64)
        return (folded(u)[row] + ERROR * torch.randn(384, generator=generator, dtype=torch.float64))[None], u[None]

    return amortise(simulations, steps=1000, width=32, depth=2, components=6)


def quadrature(row: int, seen: float) -> tuple[Tensor, Tensor]:
    """Grid and weights of the exact posterior."""
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    return grid, torch.softmax(-((folded(grid)[row] - seen) / ERROR).square() / 2 - grid.square() / 2, 0)


def test_draws_have_the_exact_mean_and_covariance_of_a_linear_simulator() -> None:
    law = learnt_linear()
    for seed in range(3):
        _, seen = data(seed)
        mean, covariance = posterior(seen)
        mean, covariance = mean[[0, 1, 5]], covariance[[0, 1, 5]][:, [0, 1, 5]]
        drawn = law.draw(seen.values.reshape(-1, 1), 4000, seed=seed)[:, 0]
        spread = covariance.diagonal().sqrt()
        assert bool(((drawn.mean(1) - mean).abs() < 0.25 * spread).all())
        assert bool(((torch.cov(drawn) - covariance).abs() < 0.2 * torch.outer(spread, spread)).all())


def test_the_log_density_comes_near_the_entropy_of_the_exact_posterior_and_not_above() -> None:
    _, seen = data(0)
    covariance = posterior(seen)[1][[0, 1, 5]][:, [0, 1, 5]]
    best = -float(torch.logdet(2 * math.pi * math.e * covariance)) / 2
    found = learnt_linear().log_density(*linear(-1, 20_000)).sum(0).detach()
    error = float(found.std()) / len(found) ** 0.5
    assert best - 0.06 < float(found.mean()) < best + 4 * error
    assert learnt_linear().history.shape == (800, 3)


def test_ranks_are_uniform() -> None:
    law = learnt_linear()
    pairs = [data(100 + seed) for seed in range(400)]
    seen = torch.stack([y.values.reshape(-1) for _, y in pairs], 1)
    truth = torch.stack([u for u, _ in pairs], 1)[[0, 1, 5]]
    drawn = law.draw(seen, 19, seed=1)
    for k in range(3):
        assert uniformity(ranks(drawn[k], truth[k]), draws=19).p > 0.003


def test_what_the_data_do_not_speak_about_is_not_contracted() -> None:
    seen = linear(-2, 500)[0]
    found = learnt_linear().contraction(seen)
    exact = 1 - posterior(data(0)[1])[1].diagonal()[[0, 1, 5]].sqrt()
    torch.testing.assert_close(found, exact, atol=0.06, rtol=0)
    assert abs(float(found[2])) < 0.06 < float(found[0])


def test_two_modes_have_their_weights() -> None:
    law = one_dimensional(0)
    for seen in (0.6, 1.0, 1.6):
        grid, weight = quadrature(0, seen)
        drawn = law.draw(torch.full((1, 1), seen, dtype=torch.float64), 4000)[0, 0]
        assert abs(float((drawn > 0.5).double().mean()) - float(weight[grid > 0.5].sum())) < 0.05
        above = drawn[drawn > 0.5]
        exact = float((weight * grid)[grid > 0.5].sum() / weight[grid > 0.5].sum())
        assert abs(float(above.mean()) - exact) < 0.07
        assert float((drawn - 0.5).abs().sub(seen).abs().lt(4 * ERROR).double().mean()) > 0.97, "and hardly anything lies between them"


def test_a_limit_that_binds_on_one_side() -> None:
    law = one_dimensional(1)
    for seen in (-0.3, 0.1, 0.3):
        grid, weight = quadrature(1, seen)
        drawn = law.draw(torch.full((1, 1), seen, dtype=torch.float64), 4000)[0, 0]
        for level in (0.05, 0.25, 0.5, 0.75, 0.95):
            exact = grid[(weight.cumsum(0) < level).sum()]
            assert abs(float((drawn < exact).double().mean()) - level) < 0.05


def test_columns_do_not_know_of_each_other_and_everything_repeats() -> None:
    state = torch.random.get_rng_state()
    first, again = (amortise(linear, steps=20, width=8, depth=1, components=2, seed=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    seen, wanted = linear(7, 5)
    assert torch.equal(first.draw(seen, 4, seed=2), again.draw(seen, 4, seed=2))
    torch.testing.assert_close(first.draw(seen[:, :2], 4, seed=2), first.draw(seen, 4, seed=2)[:, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(first.log_density(seen[:, 3:], wanted[:, 3:]), first.log_density(seen, wanted)[:, 3:], atol=1e-5, rtol=0)
    other = amortise(linear, steps=20, width=8, depth=1, components=2, seed=4)
    assert not torch.equal(other.draw(seen, 4, seed=2), first.draw(seen, 4, seed=2))


def test_every_batch_is_used_once_and_in_order() -> None:
    asked: list[int] = []

    def simulations(number: int) -> tuple[Tensor, Tensor]:
        asked.append(number)
        return linear(number, 16)

    amortise(simulations, steps=5, width=4, depth=1, components=1)
    assert asked == [0, 1, 2, 3, 4, 5]


def test_units_do_not_matter() -> None:
    """Numbers and data in other units: the same law; its density is one per unit."""

    def scaled(number: int) -> tuple[Tensor, Tensor]:
        seen, wanted = linear(number, 64)
        return 1000 * seen + 5, 0.01 * wanted - 3

    plain = amortise(lambda number: linear(number, 64), steps=30, width=8, depth=1, components=2)
    other = amortise(scaled, steps=30, width=8, depth=1, components=2)
    seen, wanted = linear(-3, 10)
    torch.testing.assert_close(other.draw(1000 * seen + 5, 3), 0.01 * plain.draw(seen, 3) - 3, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.log_density(1000 * seen + 5, 0.01 * wanted - 3), plain.log_density(seen, wanted) + math.log(100), atol=5e-3, rtol=0)


def test_what_is_seen_and_does_not_vary_does_no_harm() -> None:
    def simulations(number: int) -> tuple[Tensor, Tensor]:
        seen, wanted = linear(number, 64)
        return torch.cat([seen, torch.full((1, 64), 7.0, dtype=torch.float64)]), wanted

    law = amortise(simulations, steps=10, width=8, depth=1, components=2)
    assert bool(torch.isfinite(law.draw(simulations(-1)[0], 3)).all())


def test_what_does_not_fit_is_named() -> None:
    law = amortise(linear, steps=1, width=4, depth=1, components=1)
    seen, wanted = linear(0, 6)
    with pytest.raises(ShapeError, match=r"seen must have shape \(C, B\) with C = 10, neither of them 0, got \(9, 6\)"):
        law.draw(seen[:9], 3)
    with pytest.raises(ShapeError, match=r"wanted must have shape \(Q, B\) with Q = 3, B = 6 as in seen, got \(2, 6\)"):
        law.log_density(seen, wanted[:2])
    with pytest.raises(ShapeError, match=r"wanted must have shape \(Q, B\), B = 6 as in seen, got \(3, 5\)"):
        amortise(lambda _: (seen, wanted[:, :5]), steps=1)
    with pytest.raises(ShapeError, match=r"seen must have shape \(C, B\), neither of them 0, got \(10,\)"):
        amortise(lambda _: (seen[:, 0], wanted), steps=1)
    with pytest.raises(InputError, match="simulations must be finite, got 1 of 18 entries of wanted that are not in batch 2"):
        amortise(
            lambda number: (
                seen,
                wanted.clone().index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(math.nan, dtype=wanted.dtype)) if number == 2 else wanted,
            ),
            steps=4,
        )
    with pytest.raises(InputError, match="components"):
        amortise(linear, steps=1, components=0)
    with pytest.raises(InputError, match="count"):
        law.draw(seen, 0)
