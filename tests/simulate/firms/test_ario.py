"""ARIO on tables: rest, balances, gradients, batches, the fused pass, recovery, rebuilding, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.simulate.firms import ario, native

F64 = torch.float64
REGIONS, PRODUCTS = 3, 4
INDUSTRIES = REGIONS * PRODUCTS


@pytest.fixture(scope="module")
def economy() -> ario.Economy:
    generator = torch.Generator().manual_seed(0)
    flow = torch.rand(INDUSTRIES, INDUSTRIES, generator=generator, dtype=F64) * (torch.rand(INDUSTRIES, INDUSTRIES, generator=generator) < 0.8)
    flow = 100 * flow
    final = 400 * torch.rand(INDUSTRIES, generator=generator, dtype=F64) + 300
    return ario.Economy.of(flow, final, flow.sum(1) + final, products=PRODUCTS)


def hit(value: float, *industries: int) -> Tensor:
    impact = torch.zeros(INDUSTRIES, dtype=F64)
    impact[list(industries)] = value
    return impact


PARAMETERS = {
    "table's shares": ario.Parameters(0.9, 10, 10),
    "capacity's shares": ario.Parameters(0.9, 10, 10, alternative=True),
    "base model": ario.Parameters(1.0, 1.0, 30, overproduction=ario.sticky),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_at_rest_nothing_moves(economy: ario.Economy, name: str) -> None:
    for fused in (False, *([True] if native.available() else [])):
        flow = ario.rollout(economy, PARAMETERS[name], horizon=300, fused=fused)
        assert float((flow.output / economy.output - 1).abs().max()) < 1e-12
        assert float(flow.unmet.abs().max() / economy.final_demand.max()) < 1e-12


@pytest.mark.parametrize("name", PARAMETERS)
def test_goods_are_conserved(economy: ario.Economy, name: str) -> None:
    parameters, loss = PARAMETERS[name], ario.capacity_loss(40, hit(0.6, 0, 5), occurrence=2, duration=10, time=10)
    state = ario.start(economy, parameters)
    for t in range(40):
        before = state
        orders = before.favour * economy.to_suppliers(before.pull)
        state, flow = ario.step(state, economy, parameters, loss=loss[t])
        share = flow.output / flow.demand
        received = before.pull * economy.from_suppliers(before.favour * share)
        assert torch.allclose(state.stock - before.stock, received - economy.recipe * flow.output, rtol=0, atol=1e-10)
        assert torch.allclose(flow.output, share * orders + (economy.final_demand - flow.unmet), rtol=1e-12)
        assert torch.allclose(flow.demand, orders + economy.final_demand, rtol=1e-12)
        assert float(state.stock.min()) > -1e-10
        assert float((flow.output - torch.minimum(flow.demand, flow.capacity)).max()) <= 1e-12
    assert float((flow.output / economy.output).min()) < 1.5


@pytest.mark.skipif(not native.available(), reason="the kernels are not there")
@pytest.mark.parametrize("name", PARAMETERS)
def test_one_pass_over_the_table_is_the_step(economy: ario.Economy, name: str) -> None:
    sectors = torch.tensor([0.0, 0.6, 0.4, 0.0], dtype=F64)
    events: dict[str, Any] = {
        "loss": ario.capacity_loss(80, hit(0.5, 1, 6), occurrence=3, duration=10, time=20, recovery=ario.geometric),
        "lost_capital": ario.capital_loss(80, hit(300.0, 2), occurrence=5, duration=5, time=20, recovery=ario.s_shaped),
        "rebuild": [ario.Rebuild(hit(500.0, 8), sectors, occurrence=4, duration=6, time=30)],
    }
    slow = ario.rollout(economy, PARAMETERS[name], horizon=80, fused=False, **events)
    fast = ario.rollout(economy, PARAMETERS[name], horizon=80, fused=True, **events)
    assert float((slow.output / economy.output).min()) < 0.7
    for part, a, b in zip(slow._fields, slow, fast, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13), part
    first = ario.start(economy, PARAMETERS[name], rebuildings=1)
    again = ario.rollout(economy, PARAMETERS[name], horizon=80, fused=True, state=first, **events)
    assert torch.allclose(again.output, fast.output, rtol=1e-12)


def test_a_batch_is_its_columns(economy: ario.Economy) -> None:
    loss = torch.cat([ario.capacity_loss(30, hit(v, 0, 5), occurrence=2, duration=10, time=10) for v in (0.2, 0.5, 0.8)], -1)
    psi = torch.tensor([[0.7, 0.8, 0.9]], dtype=F64)
    together = ario.rollout(economy, ario.Parameters(psi, 10.0, 10), horizon=30, loss=loss).output
    for k in range(3):
        alone = ario.rollout(economy, ario.Parameters(float(psi[0, k]), 10.0, 10), horizon=30, loss=loss[..., k : k + 1]).output
        assert torch.allclose(alone[..., 0], together[..., k], rtol=1e-12)


def test_gradients(economy: ario.Economy) -> None:
    generator = torch.Generator().manual_seed(1)
    flow = 100 * torch.rand(4, 4, generator=generator, dtype=F64)
    final = 100 * torch.rand(4, generator=generator, dtype=F64) + 100
    small = ario.Economy.of(flow, final, flow.sum(1) + final, products=2)
    psi, tau, days, work = (torch.tensor(v, dtype=F64, requires_grad=True) for v in (0.9, 6.0, 5.0, 90.0))
    # At rest demand and capacity tie; a small loss everywhere keeps away from that kink.
    impact = torch.tensor([0.5, 0.06, 0.08, 0.1], dtype=F64, requires_grad=True)
    sectors, one = torch.tensor([0.6, 0.4], dtype=F64), torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=F64)

    def output(psi: Tensor, tau: Tensor, days: Tensor, impact: Tensor, work: Tensor) -> Tensor:
        loss = ario.capacity_loss(9, impact, occurrence=-1, duration=6, time=8)
        event = ario.Rebuild(work * one, sectors, occurrence=2, duration=2, time=10)
        return ario.rollout(small, ario.Parameters(psi, tau, days), horizon=9, loss=loss, rebuild=[event], fused=False).output

    assert torch.autograd.gradcheck(output, (psi, tau, days, impact, work), eps=1e-6, atol=1e-6)
    tracked = ario.rollout(economy, ario.Parameters(psi, tau, days), horizon=5)
    assert tracked.output.requires_grad, "a run that is differentiated is not fused"


def test_overproduction_rises_with_scarcity_and_falls_without() -> None:
    alpha, scarcity = torch.tensor([1.0, 1.1, 1.1], dtype=F64), torch.tensor([0.5, 0.0, 0.4], dtype=F64)
    for rule in (ario.smooth, ario.sticky):
        after = rule(alpha, scarcity)
        assert float(after[0]) > 1.0
        assert 1.0 < float(after[1]) < 1.1
    assert float(ario.sticky(alpha, scarcity)[2]) == pytest.approx(1.1 + 0.15 * 0.4 / 365)
    assert float(ario.smooth(alpha, scarcity)[2]) == pytest.approx(1.1 + (0.15 * 0.4 - 0.1 * 0.6) / 365)


def test_recovery_curves() -> None:
    e = torch.tensor([0.0, 10.0, 20.0], dtype=F64)
    assert ario.line(e, 20.0).tolist() == [1.0, 0.5, 0.0]
    assert torch.allclose(ario.geometric(e, 20.0), 0.95**e)
    assert float(ario.fast_geometric(e, 20.0)[2]) < 0.05
    assert float(ario.s_shaped(e, 20.0)[1]) == pytest.approx(0.5)
    late, at_once = (rule(12, hit(0.4, 1), occurrence=2, duration=3, time=4)[:, 1, 0].tolist() for rule in (ario.capacity_loss, ario.capital_loss))
    assert at_once == pytest.approx([0, 0, 0.4, 0.4, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0, 0], abs=1e-12)
    assert late[1:] == pytest.approx(at_once[:-1])


def test_collapse_is_part_of_the_model(economy: ario.Economy) -> None:
    loss = ario.capacity_loss(1500, hit(0.3, 0, 1, 2), occurrence=5, duration=10, time=30)

    def end(psi: float, tau: float, days: float) -> float:
        output = ario.rollout(economy, ario.Parameters(psi, tau, days, overproduction=ario.sticky), horizon=1500, loss=loss).output
        return float(output[-1].sum() / output[0].sum())

    assert end(0.8, 60, 90) > 0.99
    assert end(1.0, 5, 30) > 0.99
    assert end(1.0, 60, 20) < 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"flow": torch.zeros(5, 4)}, ShapeError, r"flow must be \(N, N\) and final_demand \(N, ...\) with N = 4"),
        ({"products": 3}, ShapeError, r"must have regions x products industries, got N = 4 and 3 products"),
        ({"final_demand": torch.tensor([1.0, 1.0, 1.0, -1.0])}, InputError, r"final_demand, summed, must be >= 0, got -1; 1 entries are negative"),
        ({"output": torch.ones(4)}, InputError, r"output must be the sum of flows and final demand up to 1e-6 of its maximum"),
        ({"flow": torch.full((4, 4), torch.nan)}, InputError, r"flow must be finite, got 16 of 16"),
    ],
)
def test_tables_that_do_not_fit_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    good = {"flow": torch.ones(4, 4), "final_demand": torch.full((4,), 6.0), "output": torch.full((4,), 10.0), "products": 2}
    ario.Economy.of(**good)
    with pytest.raises(error, match=message):
        ario.Economy.of(**(good | change))


def test_events_and_parameters_that_do_not_fit_are_named(economy: ario.Economy) -> None:
    with pytest.raises(InputError, match=r"psi must be > 0, got 0.0"):
        ario.rollout(economy, ario.Parameters(psi=0.0), horizon=2)
    with pytest.raises(ShapeError, match=r"loss must have shape \(T, N, B\) = \(3, 12, B\), got \(2, 12, 1\)"):
        ario.rollout(economy, ario.Parameters(), horizon=3, loss=torch.zeros(2, 12, 1, dtype=F64))
    with pytest.raises(InputError, match="sectors must add up to 1, got 0.5"):
        ario.rollout(economy, ario.Parameters(), horizon=3, rebuild=[ario.Rebuild(hit(1.0, 0), torch.tensor([0.5, 0, 0, 0]), 0, 1, 10)])
    with pytest.raises(ShapeError, match=r"impact must have shape \(N,\) = \(12,\), got \(3,\)"):
        ario.rollout(economy, ario.Parameters(), horizon=3, rebuild=[ario.Rebuild(torch.ones(3), torch.tensor([1.0, 0, 0, 0]), 0, 1, 10)])


def test_empty_industries_are_passive() -> None:
    flow, final = torch.zeros(4, 4, dtype=F64), torch.tensor([5.0, 5.0, 0.0, 5.0], dtype=F64)
    flow[0, 1] = flow[1, 0] = 2.0
    economy = ario.Economy.of(flow, final, flow.sum(1) + final, products=2)
    made = ario.rollout(economy, ario.Parameters(), horizon=20, loss=torch.full((20, 1, 1), 0.3, dtype=F64)).output
    assert bool(torch.isfinite(made).all())
    assert float(made[:, 2].abs().max()) == 0
