"""Multipliers: newsvendors whose fill rate and cycle service level are prescribed, with known stocks and known prices."""

from __future__ import annotations

import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from dpsc.errors import ExactJumpError, InputError, ShapeError
from dpsc.objective import Multipliers, constrained, cycle_service, fill_rate
from dpsc.relax import Exact, Normal, Smoothed, StraightThrough
from dpsc.training import fit

MEAN, DEVIATION, HOLDING = torch.tensor([50.0, 20.0], dtype=torch.float64), torch.tensor([8.0, 6.0], dtype=torch.float64), 0.18
SAMPLES = 4000
DEMAND = MEAN + DEVIATION * torch.special.ndtri((torch.arange(SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES)[:, None]  # the law itself, to three digits


def standard_loss(z: float) -> float:
    return float(scipy.stats.norm.pdf(z) - z * scipy.stats.norm.sf(z))


def learn(violation, multipliers: Multipliers, steps: int = 600) -> Tensor:
    """The stock that costs least to hold while the constraint is kept."""
    level = MEAN.clone().requires_grad_()

    def program(_: object, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        holding = HOLDING * (level - DEMAND).clamp_min(0).mean(0).sum()
        return holding, {"service": violation(level)}

    optimizer = torch.optim.Adam([level], lr=0.5)
    fit(constrained(program, multipliers), optimizer=optimizer, batches=lambda _: [None], epochs=steps, rate=lambda done: (1 - done) ** 2 + 1e-3)
    return level.detach()


def test_prescribed_fill_rate() -> None:
    """E (D - S)^+ = (1 - beta) mu; the price is the slope of the holding cost over that of the fill rate, h F mu / (1 - F)."""
    beta = 0.98
    multipliers = Multipliers({"service": (2,)}, penalty=1000.0)
    level = learn(lambda s: beta - fill_rate(torch.minimum(DEMAND, s), DEMAND, dims=(0,)), multipliers)
    for i, (mu, sd) in enumerate(zip(MEAN.tolist(), DEVIATION.tolist(), strict=True)):
        z = scipy.optimize.brentq(lambda z, mu=mu, sd=sd: sd * standard_loss(z) - (1 - beta) * mu, -3, 5)
        assert abs(float(level[i]) - (mu + z * sd)) < 0.02 * sd
        below = float(scipy.stats.norm.cdf(z))
        assert abs(float(multipliers["service"][i]) / (HOLDING * below * mu / (1 - below)) - 1) < 0.03


def test_prescribed_cycle_service() -> None:
    """P(D <= S) = alpha; the price is h F / f."""
    alpha, reading = 0.9, Smoothed(Normal(0.1))
    multipliers = Multipliers({"service": (2,)}, penalty=100.0, rate=0.03)
    level = learn(lambda s: alpha - cycle_service(DEMAND - s, dims=(0,), relax=reading, scale=DEVIATION), multipliers)
    z = float(scipy.stats.norm.ppf(alpha))
    torch.testing.assert_close((level - MEAN) / DEVIATION, torch.full_like(MEAN, z), rtol=0, atol=0.02)
    price = HOLDING * alpha / (scipy.stats.norm.pdf(z) / DEVIATION)
    assert ((multipliers["service"] / price - 1).abs() < 0.03).all()
    reached = cycle_service(DEMAND - level, dims=(0,), relax=Exact())
    torch.testing.assert_close(reached, torch.full_like(MEAN, alpha), rtol=0, atol=0.004)


def test_a_constraint_that_does_not_bind_is_free() -> None:
    multipliers = Multipliers({"service": ()}, penalty=10.0)
    level = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    loss = constrained(lambda _, __: ((level - 1) ** 2, {"service": level - 2}), multipliers)
    fit(loss, optimizer=torch.optim.SGD([level], lr=0.05), batches=lambda _: [None], epochs=200)
    assert abs(float(level.detach()) - 1) < 1e-4
    assert float(multipliers["service"]) == 0


def test_the_price_of_a_quadratic_program() -> None:
    """min (x - 3)^2 subject to x <= 1: x = 1, price 4."""
    multipliers = Multipliers({"limit": ()}, penalty=2.0, rate=0.5)
    x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    loss = constrained(lambda _, __: ((x - 3) ** 2, {"limit": x - 1}), multipliers)
    fit(loss, optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda _: [None], epochs=200)
    assert abs(float(x.detach()) - 1) < 1e-4
    assert abs(float(multipliers["limit"]) - 4) < 1e-3


def test_gradient_of_the_augmented_lagrangian() -> None:
    multipliers = Multipliers({"a": (3,)}, penalty=2.0)
    multipliers.ascend({"a": torch.tensor([4.0, 0.0, -1.0])})
    g = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: multipliers((x * x).sum(), {"a": x}), (g,))
    other = Multipliers({"a": (3,)}, penalty=2.0)
    other.load_state_dict(multipliers.state_dict())
    assert torch.equal(other["a"], multipliers["a"])


def test_service_measures() -> None:
    demand, sales = torch.tensor([[10.0, 0.0], [30.0, 0.0]]), torch.tensor([[10.0, 0.0], [20.0, 0.0]])
    assert fill_rate(sales, demand, dims=(0,)).tolist() == [0.75, 1.0]  # a ratio of totals, not (1 + 2/3) / 2
    shortage = torch.tensor([-1.0, 0.0, 2.0, -3.0])
    assert float(cycle_service(shortage, dims=(0,), relax=Exact())) == 0.75
    tracked = shortage.clone().requires_grad_()
    cycle_service(tracked, dims=(0,), relax=StraightThrough(Normal(0.5))).backward()
    assert (tracked.grad < 0).all()
    with pytest.raises(ExactJumpError):
        cycle_service(shortage.requires_grad_(), dims=(0,), relax=Exact()).backward()


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="shapes must name at least one constraint"):
        Multipliers({}, penalty=1.0)
    with pytest.raises(InputError, match="penalty must be a finite number > 0, got 0"):
        Multipliers({"a": ()}, penalty=0)
    of = Multipliers({"fill rate": ()}, penalty=1.0)
    with pytest.raises(InputError, match="missing fill rate; unknown fill_rate"):
        of(torch.tensor(1.0), {"fill_rate": torch.tensor(0.0)})
    with pytest.raises(ShapeError, match=r"the violation of fill rate must have the shape of its multiplier, \(\), got \(2,\)"):
        of(torch.tensor(1.0), {"fill rate": torch.zeros(2)})
    with pytest.raises(InputError, match="constraint must be one of fill rate; got 'fill'"):
        of["fill"]
