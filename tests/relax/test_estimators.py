"""Every estimator against the gradient by summation: one line an estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, Logistic, StraightThrough, estimators
from dpsc.relax.counts import Bernoulli, Binomial, Categorical, Law, NegativeBinomial, Poisson, Rounded, Truncated, ZeroInflated
from dpsc.relax.estimators import Difference, DisARM, ExactExpectation, GumbelSoftmax, PerturbAndMAP, Rebar, Score, estimate

SAMPLES, GROUPS = 10_000, 100  # 1e6 in all; the spread of the groups gives the standard error


def smooth(x: Tensor) -> Tensor:
    return (x - 20).clamp_min(0) + 4 * (20 - x).clamp_min(0)


def jump(x: Tensor) -> Tensor:
    return smooth(x) + 30 * (x < 15)


def scaled(x: Tensor) -> Tensor:
    """A jump for counts near 5."""
    return (x - 4).square() + 7 * (x < 3) - 5 * (x > 6)


def gates(x: Tensor) -> Tensor:
    """A cost of one gate, defined between 0 and 1 as well."""
    return 3 * x.square() + torch.exp(0.5 * x) + 2


COSTS = {"smooth": smooth, "jump": jump, "scaled": scaled, "gates": gates}

Case = tuple[Any, str, Callable[[Tensor], Law], float]
UNBIASED: list[Case] = [
    *[(e, cost, Poisson, rate) for e in (Difference(), Score()) for cost in ("smooth", "jump") for rate in (12.0, 18.0, 24.0)],
    (Score(leave_one_out=False), "jump", Poisson, 12.0),
    *[
        (e, "scaled", law, value)
        for e in (Difference(), Score())
        for law, value in (
            (lambda m: NegativeBinomial(m, torch.full_like(m, 2.5).detach()), 5.0),
            (lambda r: NegativeBinomial(torch.full_like(r, 5.0).detach(), r), 2.5),
            (lambda p: Binomial(torch.full_like(p, 9).detach(), p), 0.5),
            (lambda m: ZeroInflated(Poisson(m), torch.full_like(m, 0.3).detach()), 6.0),
            (lambda p: ZeroInflated(Poisson(torch.full_like(p, 6.0).detach()), p), 0.3),
            (lambda m: Truncated(Poisson(m), 7), 5.0),
            (lambda a: Categorical(torch.stack([a, 2 * a, -a, a * 0, a, a * 3, a, -a, a], -1)), 0.2),
        )
    ],
    (Difference(), "scaled", Rounded, 2.6),
    (Score(), "scaled", Rounded, 2.6),
    (DisARM(), "gates", Bernoulli, 0.3),
    (Rebar(), "gates", Bernoulli, 0.3),
    (ExactExpectation(), "gates", Bernoulli, 0.3),
    (ExactExpectation(), "scaled", Poisson, 5.0),
]
BIASED = (GumbelSoftmax, PerturbAndMAP)


def by_summation(cost: Callable[[Tensor], Tensor], make: Callable[[Tensor], Law], value: float) -> float:
    leaf = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    law = make(leaf)
    k = torch.arange(law.length, dtype=torch.float64)
    return float(torch.autograd.grad((law.probabilities(law.length) * cost(k)).sum(), leaf)[0])


def sampled(
    estimator: Any, cost: Callable[[Tensor], Tensor], make: Callable[[Tensor], Law], value: float, *, samples: int, groups: int
) -> tuple[Tensor, Tensor]:
    """Means and gradients, one a group."""
    leaf = torch.full((groups,), value, dtype=torch.float64, requires_grad=True)
    law = make(leaf)
    shape = estimator.uniforms(law) if hasattr(estimator, "uniforms") else tuple(law.shape)
    noise = torch.rand(samples, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    mean = estimate(cost, law, noise, estimator)
    return mean.detach(), torch.autograd.grad(mean.sum(), leaf)[0]


def test_the_list_is_complete() -> None:
    public = {getattr(estimators, n) for n in estimators.__all__ if isinstance(getattr(estimators, n), type) and n != "Estimator"}
    assert public == {type(e) for e, *_ in UNBIASED} | set(BIASED)
    assert all(type(e).unbiased for e, *_ in UNBIASED)
    assert not any(e.unbiased for e in BIASED)


@pytest.mark.parametrize("case", UNBIASED, ids=lambda c: f"{type(c[0]).__name__}-{c[1]}-{c[3]}")
def test_unbiased_at_a_million_samples(case: Case) -> None:
    estimator, name, make, value = case
    exact = by_summation(COSTS[name], make, value)
    _, gradient = sampled(estimator, COSTS[name], make, value, samples=SAMPLES, groups=GROUPS)
    error = float(gradient.std()) / math.sqrt(GROUPS)
    assert abs(float(gradient.mean()) - exact) <= 4 * error + 1e-10 * abs(exact)


@pytest.mark.parametrize(
    ("estimator", "cost", "rate", "samples", "deviation"),
    [
        (Score(leave_one_out=False), smooth, 12.0, 1, 9.90),
        (Score(), smooth, 12.0, 2, 5.41),
        (Difference(), smooth, 12.0, 1, 0.73),
        (Score(leave_one_out=False), jump, 12.0, 1, 15.19),
        (Score(), jump, 12.0, 2, 9.23),
        (Difference(), jump, 12.0, 1, 8.72),
        (Difference(), smooth, 24.0, 1, 1.91),
        (Score(), jump, 24.0, 2, 2.87),
    ],
)
def test_standard_deviations_of_one_estimate(estimator: Any, cost: Callable[[Tensor], Tensor], rate: float, samples: int, deviation: float) -> None:
    """The table of the reference, 1e5 estimates."""
    _, gradient = sampled(estimator, cost, Poisson, rate, samples=samples, groups=100_000)
    assert abs(float(gradient.std()) / deviation - 1) < 0.02


def test_the_difference_is_quiet_where_the_cost_is_smooth() -> None:
    _, gradient = sampled(Difference(), smooth, Poisson, 12.0, samples=1, groups=200_000)
    assert float(gradient.std()) <= 0.80


def test_straight_through_misses_the_jump() -> None:
    """Bias -.045 on the smooth cost and +2.67 on the jump, after the reference's normal approximation; along the counts themselves, nearly the same."""
    _, gradient = sampled(StraightThrough(Logistic(1.0)), smooth, Poisson, 12.0, samples=SAMPLES, groups=GROUPS)
    assert abs(float(gradient.mean()) - by_summation(smooth, Poisson, 12.0)) < 0.1
    _, gradient = sampled(StraightThrough(Logistic(1.0)), jump, Poisson, 12.0, samples=SAMPLES, groups=GROUPS)
    assert abs(float(gradient.mean()) - by_summation(jump, Poisson, 12.0) - 2.67) < 0.1


def test_gumbel_softmax_is_biased_on_jumps_and_straight_through_keeps_the_value() -> None:
    exact = by_summation(jump, Poisson, 12.0)
    _, gradient = sampled(GumbelSoftmax(1.0, largest=60), jump, Poisson, 12.0, samples=200, groups=100)
    assert 2.0 < float(gradient.mean()) - exact < 3.2  # the reference: +2.58
    mean, _ = sampled(GumbelSoftmax(1.0, hard=True, largest=60), jump, Poisson, 12.0, samples=200, groups=100)
    want = (Poisson(torch.tensor([12.0], dtype=torch.float64)).probabilities(61) * jump(torch.arange(61, dtype=torch.float64))).sum()
    assert abs(float(mean.mean() - want)) < 4 * float(mean.std()) / 10


# ----------------------------------------------------------------------------------------------------- counts that interact


def kit(x: Tensor) -> Tensor:
    """Kits of one, two and one parts, a bonus from four kits on, and a charge for what is left over."""
    built = torch.minimum(torch.minimum(x[..., 0], torch.floor(x[..., 1] / 2)), x[..., 2])
    return -9 * built - 6 * (built >= 4) + 0.7 * x.sum(-1)


def test_three_counts_interact() -> None:
    rates = torch.tensor([4.0, 9.0, 5.0], dtype=torch.float64, requires_grad=True)
    law = Poisson(rates)
    p = law.probabilities(40)
    grid = torch.cartesian_prod(*[torch.arange(40, dtype=torch.float64)] * 3).reshape(40, 40, 40, 3)
    exact = torch.autograd.grad((kit(grid) * p[0][:, None, None] * p[1][:, None] * p[2]).sum(), rates)[0]
    for estimator in (Difference(), Score()):
        leaf = rates.detach().expand(GROUPS, 3).clone().requires_grad_()
        noise = torch.rand(SAMPLES, GROUPS, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        (gradient,) = torch.autograd.grad(estimate(kit, Poisson(leaf), noise, estimator).sum(), leaf)
        error = gradient.std(0) / math.sqrt(GROUPS)
        assert bool(((gradient.mean(0) - exact).abs() <= 4 * error).all()), (estimator, gradient.mean(0), exact, error)


def switches(x: Tensor) -> Tensor:
    """Three gates that interact, defined between 0 and 1 as well."""
    return (1 + x[..., 0]) * (2 - x[..., 1] * x[..., 2]) + x[..., 2].square() * 3 + x[..., 1] * x[..., 0]


@pytest.mark.parametrize("estimator", [Difference(), Score(), DisARM(), Rebar(), ExactExpectation(), ExactExpectation(combinations=4)], ids=repr)
def test_three_gates_interact(estimator: Any) -> None:
    p = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64, requires_grad=True)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    exact = torch.autograd.grad((Bernoulli(p).log_prob(every).sum(-1).exp() * switches(every)).sum(), p)[0]
    leaf = p.detach().expand(GROUPS, 3).clone().requires_grad_()
    law = Bernoulli(leaf)
    noise = torch.rand(SAMPLES, *estimator.uniforms(law), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(estimate(switches, law, noise, estimator).sum(), leaf)
    error = gradient.std(0) / math.sqrt(GROUPS)
    assert bool(((gradient.mean(0) - exact).abs() <= 4 * error + 1e-12).all())
    if estimator == ExactExpectation():
        assert float(error.max()) < 1e-15


def test_one_more_evaluation_a_coupled_count_in_one_call() -> None:
    calls: list[tuple[int, ...]] = []

    def watched(x: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return kit(x)

    estimate(watched, Poisson(torch.full((7, 3), 2.0, dtype=torch.float64)), torch.rand(5, 7, 3, dtype=torch.float64), Difference())
    assert calls == [(5, 7, 3), (3, 5, 7, 3)]
    calls.clear()
    estimate(
        lambda x: (calls.append(tuple(x.shape)), smooth(x))[1], Poisson(torch.ones(7, dtype=torch.float64)), torch.rand(5, 7, dtype=torch.float64), Difference()
    )
    assert calls == [(5, 7), (5, 7)]


def test_the_program_keeps_its_own_gradient_and_laws_may_come_from_a_network() -> None:
    price = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    feature = torch.linspace(-1, 1, 6, dtype=torch.float64)
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    noise = torch.rand(4000, 6, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    value = estimate(lambda x: price * x, Poisson(torch.exp(1 + slope * feature)), noise, Difference()).sum()
    by_price, by_slope = torch.autograd.grad(value, [price, slope])
    rate = torch.exp(1 + 0.5 * feature)
    assert abs(float(by_price - rate.sum())) < 0.3
    assert abs(float(by_slope - 2 * (rate * feature).sum())) < 1e-9  # the difference of a linear cost has no noise


# ----------------------------------------------------------------------------------------------------------------- choices


def test_perturb_and_map_finds_the_best_choice() -> None:
    cost = torch.tensor([3.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    scores = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        optimizer.zero_grad()
        law = Categorical(scores[None])
        estimate(lambda z: (z * cost).sum(-1), law, torch.rand(32, 1, 4, generator=generator, dtype=torch.float64), PerturbAndMAP()).sum().backward()
        optimizer.step()
    assert int(scores.argmax()) == 1
    assert float(torch.softmax(scores.detach(), 0)[1]) > 0.95


def test_perturb_and_map_with_a_large_step_is_the_pull_of_every_sample() -> None:
    """With f linear, z' is the choice at the moved scores: compare with a loop over the samples."""
    cost = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    scores = torch.tensor([[0.1, 0.0, -0.4]], dtype=torch.float64, requires_grad=True)
    noise = torch.rand(64, 1, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    estimate(lambda z: (z * cost).sum(-1), Categorical(scores), noise, PerturbAndMAP(step=2.0)).sum().backward()
    want = torch.zeros(3, dtype=torch.float64)
    for u in noise[:, 0]:
        perturbed = scores.detach()[0] - torch.log(-torch.log(u))
        one, two = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        one[perturbed.argmax()], two[(perturbed - 2.0 * cost).argmax()] = 1, 1
        want += (one - two) / 2.0 / 64
    assert torch.allclose(scores.grad[0], want)


# ---------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda law, u: estimate(smooth, law, u[:, :1], Difference()),
            ShapeError,
            r"noise must have shape .* = \(S, 2\) with S >= 1, got \(8, 1\)",
        ),
        (lambda law, u: estimate(lambda x: x[:1], law, u, Difference()), ShapeError, r"the program must return costs of shape \(\*\(8,\), \*batch\)"),
        (lambda law, u: estimate(smooth, law, u[:1], Score()), InputError, r"Score with leave_one_out needs at least 2 samples, got 1"),
        (lambda law, u: estimate(smooth, law, u, DisARM()), InputError, r"DisARM knows Bernoulli, got Poisson"),
        (lambda law, u: estimate(smooth, law, u, PerturbAndMAP()), InputError, r"PerturbAndMAP knows Categorical, got Poisson"),
        (lambda law, u: estimate(smooth, law, u, "score"), InputError, r"estimator must be an estimator or a reading, got 'score'"),
        (lambda law, u: GumbelSoftmax(0.0), InputError, r"temperature must be a finite number > 0, got 0.0"),
        (lambda law, u: Rebar(-1.0), InputError, r"temperature must be a finite number > 0"),
        (lambda law, u: PerturbAndMAP(step=0.0), InputError, r"step must be a finite number > 0"),
    ],
)
def test_mistakes_are_named(call: Callable[[Law, Tensor], object], error: type[Exception], text: str) -> None:
    law = Poisson(torch.tensor([1.0, 2.0], dtype=torch.float64))
    with pytest.raises(error, match=text):
        call(law, torch.rand(8, 2, dtype=torch.float64))


def test_the_exact_reading_gives_the_value_and_refuses_the_gradient() -> None:
    rate = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    value = estimate(smooth, Poisson(rate), torch.rand(100, 1, dtype=torch.float64), Exact())
    with pytest.raises(Exception, match="reached floor"):
        value.sum().backward()
