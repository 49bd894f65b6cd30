"""Orders under lost sales: the capped rule, and the network that starts as one."""

from __future__ import annotations

import torch

from dpsc.decision.lost_sales import CorrectedCappedOrder, capped_order
from dpsc.relax import Exact, Ramp, Smoothed


def test_the_capped_rule_and_its_gradient() -> None:
    position = torch.tensor([0.0, 6.0, 9.5, 12.0], dtype=torch.float64)
    level, cap = torch.tensor(10.0, dtype=torch.float64, requires_grad=True), torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    order = capped_order(position, level, cap)
    assert order.tolist() == [5.0, 4.0, 0.5, 0.0]
    assert torch.autograd.gradcheck(lambda s, r: capped_order(position, s, r), (level, cap))


def rule(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[CorrectedCappedOrder, torch.Tensor, torch.Tensor]:
    states = torch.cartesian_prod(torch.arange(12), torch.arange(5), torch.arange(5)).to(dtype)
    projected = (states.sum(-1) - 6).clamp_min(0)
    return (
        CorrectedCappedOrder(10.0, 4.0, states=states, projected=projected, weight=torch.ones(len(states), dtype=dtype), width=8, seed=seed),
        states,
        projected,
    )


def test_it_starts_near_the_capped_rule_and_stays_whole_and_within_room() -> None:
    of, states, projected = rule()
    room = (11 - states.sum(-1)).clamp(0, 4)
    soft = of(states, projected, room=room, relax=Smoothed(Ramp(1.0)))
    assert (soft - torch.minimum(capped_order(states.sum(-1), of.level, of.cap), room)).abs().max() < 0.3
    whole = of(states, projected, room=room, relax=Exact())
    assert torch.equal(whole, whole.round())
    assert (whole >= 0).all()
    assert (whole <= room).all()


def test_every_weight_has_a_gradient_that_differences_confirm() -> None:
    of, states, projected = rule()
    room = torch.full_like(projected, 4.0)

    def value() -> torch.Tensor:
        return (of(states, projected, room=room, relax=Smoothed(Ramp(1.0))) * torch.linspace(-1, 1, len(states), dtype=torch.float64)).sum()

    value().backward()
    for weight in of.network.parameters():
        at = int(weight.grad.abs().argmax())
        assert float(weight.grad.abs().max()) > 0
        with torch.no_grad():
            flat = weight.view(-1)
            flat[at] += 1e-6
            up = float(value())
            flat[at] -= 2e-6
            down = float(value())
            flat[at] += 1e-6
        assert abs((up - down) / 2e-6 - float(weight.grad.view(-1)[at])) < 1e-4 * max(1.0, abs(float(weight.grad.view(-1)[at])))


def test_seeds_differ_and_repeat_without_touching_the_global_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a, b, c = rule()[0], rule()[0], rule(seed=1)[0]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.network[0].weight, b.network[0].weight)
    assert not torch.equal(a.network[0].weight, c.network[0].weight)
