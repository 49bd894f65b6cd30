"""Counting laws against scipy, and what carries their gradients; one line a law."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, Logistic, Ramp, Smoothed, StraightThrough, count, counts
from dpsc.relax.counts import Bernoulli, Binomial, Categorical, Law, NegativeBinomial, Poisson, Rounded, Truncated, ZeroInflated


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# name -> (parameters, law of them)
LAWS: dict[str, tuple[Tensor, Callable[[Tensor], Law]]] = {
    "Poisson": (t(0.3, 7.0), Poisson),
    "NegativeBinomial": (t(5.0, 2.5), lambda x: NegativeBinomial(x[:1], x[1:])),
    "Binomial": (t(0.2, 0.85), lambda x: Binomial(t(9, 4), x)),
    "Bernoulli": (t(0.3, 0.9), Bernoulli),
    "Categorical": (t(0.1, -1.0, 0.7, 2.0), lambda x: Categorical(x[None])),
    "ZeroInflated": (t(6.0, 0.4), lambda x: ZeroInflated(Poisson(x[:1]), x[1:])),
    "Truncated": (t(5.0, 9.0), lambda x: Truncated(Poisson(x), 7)),
    "Rounded": (t(2.3, 7.85), Rounded),
}

every_law = pytest.mark.parametrize("name", LAWS)


def test_the_list_is_complete() -> None:
    defined = {n for n, c in vars(counts).items() if isinstance(c, type) and issubclass(c, Law) and c is not Law}
    assert defined == set(LAWS)


@every_law
def test_moments_are_those_of_the_probabilities(name: str) -> None:
    parameters, make = LAWS[name]
    law = make(parameters)
    p, k = law.probabilities(law.length), torch.arange(law.length, dtype=torch.float64)
    assert torch.allclose(p.sum(-1), torch.ones(law.shape, dtype=torch.float64), atol=1e-11)
    mean = (p * k).sum(-1)
    assert torch.allclose(law.mean, mean, atol=1e-9)
    assert torch.allclose(law.variance, (p * k.square()).sum(-1) - mean.square(), atol=1e-8)
    assert torch.allclose(law.cdf(k[:, None].expand(-1, *law.shape)), p.cumsum(-1).movedim(-1, 0), atol=1e-12)
    assert bool((law.log_prob(torch.full(law.shape, -1.0, dtype=torch.float64)) == -torch.inf).all())
    assert bool((law.cdf(torch.full(law.shape, -1.0, dtype=torch.float64)) == 0).all())


@every_law
def test_quantile_is_the_inverse_of_the_distribution_function(name: str) -> None:
    law = LAWS[name][1](LAWS[name][0])
    u = torch.rand(2000, *law.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = law.quantile(u)
    assert bool((law.cdf(x) >= u - 1e-12).all())
    assert bool((law.cdf(x - 1) < u + 1e-12).all())
    assert torch.equal(x, x.round())


@every_law
def test_gradients_of_probabilities_and_of_the_continuous_variable(name: str) -> None:
    parameters, make = LAWS[name]
    u = torch.rand(5, *make(parameters).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = make(parameters).quantile(u)
    leaf = parameters.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: make(p).cdf(x), (leaf,), eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda p: make(p).log_prob(x).exp(), (leaf,), eps=1e-7, atol=1e-5)
    inside = torch.where((make(parameters).continuous(u) - x > 0.01) & (make(parameters).continuous(u) - x < 0.99), 1.0, 0.0)
    assert torch.autograd.gradcheck(lambda p: make(p).continuous(u) * inside, (leaf,), eps=1e-7, atol=1e-4)


@every_law
def test_the_weight_is_minus_the_slope_of_the_distribution_function_over_the_probability(name: str) -> None:
    parameters, make = LAWS[name]
    x = make(parameters).quantile(torch.full(make(parameters).shape, 0.61, dtype=torch.float64))
    one, two = parameters.clone().requires_grad_(), parameters.clone().requires_grad_()
    got = torch.autograd.grad(make(one).weight(x).sum(), one)[0]
    want = torch.autograd.grad(Law.weight(make(two), x).sum(), two)[0]
    assert torch.allclose(got, want, rtol=1e-7, atol=1e-9)


@every_law
def test_count_is_the_quantile_under_every_hard_reading(name: str) -> None:
    parameters, make = LAWS[name]
    for dtype in (torch.float64, torch.float32):
        leaf = parameters.to(dtype).clone().requires_grad_()
        law = make(leaf) if name != "Binomial" or dtype == torch.float64 else Binomial(t(9, 4).float(), leaf)
        u = torch.rand(500, *law.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        for reading in (Exact(), StraightThrough(Logistic(0.3))):
            drawn = count(law, u, relax=reading)
            assert drawn.dtype == dtype
            assert torch.equal(drawn.detach(), law.quantile(u))


def test_the_interpolated_count_has_the_mean_and_the_gradient_of_the_law() -> None:
    rate = t(3.7).requires_grad_()
    u = (torch.arange(200_000, dtype=torch.float64)[:, None] + 0.5) / 200_000
    mean = count(Poisson(rate), u, relax=Smoothed(Ramp(1.0))).mean()
    assert abs(float(mean.detach()) - 3.7) < 1e-4
    assert abs(float(torch.autograd.grad(mean, rate)[0]) - 1) < 1e-3


@given(rate=st.one_of(st.floats(0, 1e-6), st.floats(1e-3, 50), st.floats(1e4, 2e5)))
def test_poisson_against_scipy(rate: float) -> None:
    law = Poisson(t(rate))
    u = torch.linspace(0.001, 0.9999, 41, dtype=torch.float64)[:, None] + 1.234e-7
    want = scipy.stats.poisson(rate)
    assert torch.equal(law.quantile(u)[:, 0], torch.from_numpy(want.ppf(u[:, 0].numpy())).clamp_min(0))
    x = law.quantile(u)
    assert torch.allclose(law.log_prob(x)[:, 0], torch.from_numpy(want.logpmf(x[:, 0].numpy())), rtol=1e-8, atol=1e-8)


@given(mean=st.floats(0.01, 200), dispersion=st.floats(0.05, 100), p=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-6, 1 - 1e-6)), n=st.integers(0, 60))
def test_negative_binomial_and_binomial_against_scipy(mean: float, dispersion: float, p: float, n: int) -> None:
    u = torch.linspace(0.003, 0.997, 33, dtype=torch.float64)[:, None] + 1.234e-7
    for law, want in (
        (NegativeBinomial(t(mean), t(dispersion)), scipy.stats.nbinom(dispersion, dispersion / (dispersion + mean))),
        (Binomial(t(n), t(p)), scipy.stats.binom(n, p)),
    ):
        x = law.quantile(u)
        assert torch.allclose(law.log_prob(x)[:, 0].exp(), torch.from_numpy(want.pmf(x[:, 0].numpy())), rtol=1e-7, atol=1e-12)
        found = torch.from_numpy(want.cdf(x[:, 0].numpy()))
        assert bool((found >= u[:, 0] - 1e-9).all())
        assert bool((torch.from_numpy(want.cdf(x[:, 0].numpy() - 1)) < u[:, 0] + 1e-9).all())


def test_leading_dimensions_and_variance_parametrisation() -> None:
    law = NegativeBinomial.of_variance(t(5, 8), t(15, 9))
    assert torch.allclose(law.variance, t(15, 9))
    u = torch.rand(3, 4, 2, dtype=torch.float64)
    assert torch.equal(law.quantile(u)[1, 2], law.quantile(u[1, 2]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Poisson(t(-1.0)), r"rate of Poisson must be >= 0, got -1.0"),
        (lambda: Poisson(t(math.nan)), r"rate of Poisson must be finite"),
        (lambda: Poisson(t(math.inf)), r"rate of Poisson must be finite"),
        (lambda: Poisson(t(1e12)).quantile(t(0.5)), r"Poisson needs a table of 1e\+12 values, more than 4194304.*use larger units"),
        (lambda: NegativeBinomial(t(1.0), t(0.0)), r"dispersion of NegativeBinomial must be > 0, got 0.0"),
        (lambda: NegativeBinomial.of_variance(t(5.0), t(5.0)), r"variance of NegativeBinomial must be > mean"),
        (lambda: Binomial(t(-1.0), t(0.5)), r"total_count of Binomial must be >= 0, got -1.0"),
        (lambda: Binomial(t(1.5), t(0.5)), r"total_count of Binomial must be whole"),
        (lambda: Bernoulli(t(1.2)), r"probability of Binomial must lie in \[0, 1\], got 1.2"),
        (lambda: Categorical.of_probabilities(t(0.5, 0.6)), r"add up to 1, got a smallest of 0.5 and a sum of 1.1"),
        (lambda: Categorical.of_probabilities(t(1.5, -0.5)), r"must be > 0 and add up to 1, got a smallest of -0.5"),
        (lambda: ZeroInflated(Poisson(t(1.0)), t(-0.1)), r"probability of ZeroInflated must lie in \[0, 1\], got -0.1"),
        (lambda: Truncated(Poisson(t(5000.0)), 3), r"Truncated at 3 keeps nothing of its law, whose mean reaches 5e\+03"),
        (lambda: Rounded(t(-0.5)), r"quantity of Rounded must be >= 0, got -0.5"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()


def test_uniforms_of_another_shape_are_named() -> None:
    with pytest.raises(ShapeError, match=r"uniform must have shape \(..., \*law.shape\) = \(..., 2\), got \(5, 3\)"):
        count(Poisson(t(1, 2)), torch.rand(5, 3, dtype=torch.float64), relax=Exact())
