"""Awkward networks run, impossible ones are refused by name before the first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.simulate import firms
from dpsc.simulate.firms import native

F64 = torch.float64


def of(edges: list[tuple[int, int, float]], final: list[float], **more: Any) -> firms.Network:
    supplier, buyer, a = zip(*edges, strict=True) if edges else ((), (), ())
    return firms.Network.of(
        torch.tensor(supplier, dtype=torch.int64), torch.tensor(buyer, dtype=torch.int64), torch.tensor(a, dtype=F64), torch.tensor(final, dtype=F64), **more
    )


def runs(network: firms.Network, n: Any = 3.0, hit: int = 0, size: float = 1.0, rate: float = 0.0) -> Tensor:
    """A shock to one firm, forward and backward, every result finite."""
    shock = torch.zeros(network.firms, dtype=F64)
    shock[hit] = size
    inventory = torch.full((network.firms, 1), float(n), dtype=F64, requires_grad=True)
    shock.requires_grad_()
    made = firms.rollout(network, firms.Parameters(inventory), productivity=1 - firms.exponential(30, onset=3, size=shock, rate=rate))
    grads = torch.autograd.grad(made.output.sum() + made.final.sum(), [inventory, shock])
    for value in (made.output, made.final, *made.state, *grads):
        assert bool(torch.isfinite(value).all())
    return made.output.detach()[..., 0]


def test_a_single_firm_without_anyone() -> None:
    output = runs(of([], [2.0]), size=0.5)
    assert float(output[0]) == 2.0
    assert float(output[-1]) == pytest.approx(1.2)


def test_a_firm_that_buys_from_itself() -> None:
    network = of([(0, 0, 0.5), (0, 1, 0.2)], [1.0, 1.0])
    assert float(network.output[0]) == pytest.approx(2.4)
    assert torch.allclose(firms.rollout(network, firms.Parameters(3.0), horizon=50).output[-1, :, 0], network.output)
    assert float(runs(network, size=0.6).min()) < 2.0


def test_firms_without_inputs_customers_or_any_demand() -> None:
    network = of([(0, 1, 0.5)], [1.0, 1.0, 0.0])  # firm 2 has nothing at all
    output = runs(network, hit=2)
    assert float(output[:, 2].abs().max()) == 0
    assert torch.allclose(output[:, :2], network.output[:2].expand(30, 2))


def test_duplicate_edges_add_and_zeros_are_dropped() -> None:
    twice = of([(0, 1, 0.2), (0, 1, 0.3), (1, 0, 0.0)], [1.0, 1.0])
    assert (twice.edges, twice.coefficient.tolist()) == (1, [0.5])
    shuffled = of([(2, 1, 0.1), (1, 0, 0.3), (0, 1, 0.2)], [1.0, 1.0, 1.0])
    assert (shuffled.supplier.tolist(), shuffled.buyer.tolist()) == ([1, 0, 2], [0, 1, 1])


@pytest.mark.parametrize("n", [0.0, 0.3])
def test_less_than_a_step_of_stock(n: float) -> None:
    output = runs(of([(0, 1, 0.5)], [1.0, 1.0]), n=n, size=0.1)
    assert float(output[0, 1]) == pytest.approx(n)


def test_an_empty_sector_is_zero() -> None:
    network = of([(0, 1, 0.5)], [1.0, 1.0], sector=torch.tensor([0, 2]))
    assert network.by_sector(network.output[:, None])[:, 0].tolist() == [1.5, 0.0, 1.0]
    assert network.by_sector(torch.ones(4, 2, 3), sectors=5).shape == (4, 5, 3)


def test_a_star_with_one_supplier() -> None:
    count = 400
    network = of([(0, k, 0.4) for k in range(1, count)], [1.0] * count)
    output = runs(network, n=2.0)
    assert float(output[-1, 0]) == 0
    assert float(output[-1, 1:].abs().max()) == 0


def test_a_chain_a_thousand_deep() -> None:
    count = 1000
    network = of([(k, k + 1, 0.9) for k in range(count - 1)], [1.0] * count)
    exact = (1 - 0.9 ** torch.arange(count, 0, -1, dtype=F64)) / 0.1
    assert torch.allclose(network.output, exact, rtol=1e-13)
    output = runs(network, n=2.0)
    fell = (output < network.output * (1 - 1e-9)).double().argmax(0)
    assert fell[:4].tolist() == [3, 5, 7, 9]


def test_unit_coefficients_without_a_cycle_are_viable() -> None:
    assert of([(k, k + 1, 1.0) for k in range(300)], [1.0] * 301).output[0] == 301.0


@pytest.mark.parametrize("loop", [[(0, 1, 1.0), (1, 0, 1.0)], [(0, 0, 1.0)], [(0, 1, 2.0), (1, 2, 0.9), (2, 0, 0.7)]])
def test_an_economy_that_needs_more_than_it_makes_is_refused(loop: list[tuple[int, int, float]]) -> None:
    with pytest.raises(InputError, match=r"the technology must have a spectral radius below 1, got about 1"):
        of(loop, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("loop", [0.99, 0.9995, 0.999999])
def test_an_economy_that_just_holds_is_solved(loop: float) -> None:
    network = of([(0, 1, loop), (1, 0, 1.0), (0, 2, 0.4), (2, 1, 0.0)], [1.0, 0.5, 1.0])
    exact = torch.linalg.solve(torch.eye(3, dtype=F64) - network.dense(), network.final_demand)
    assert torch.allclose(network.output, exact, rtol=1e-9)
    assert torch.allclose(firms.rollout(network, firms.Parameters(3.0), horizon=30).output[-1, :, 0], network.output, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"final_demand": torch.tensor([1.0, -0.5], dtype=F64)}, InputError, r"final_demand must be >= 0 \(a net withdrawal.*got -0.5 at index 1, 1 negative"),
        ({"final_demand": torch.tensor([1.0, torch.nan], dtype=F64)}, InputError, r"final_demand must be finite, got 1 of 2 entries"),
        ({"final_demand": torch.zeros(0, dtype=F64)}, ShapeError, r"final_demand must have shape \(M,\) with M >= 1"),
        ({"coefficient": torch.tensor([-0.1], dtype=F64)}, InputError, r"coefficient must be >= 0 .*got -0.1 at index 0"),
        ({"coefficient": torch.tensor([1])}, DtypeError, "coefficient must be a floating-point tensor"),
        ({"supplier": torch.tensor([5])}, InputError, r"supplier must lie in \[0, M = 2\), got \[5, 5\]"),
        ({"buyer": torch.tensor([0.5])}, InputError, r"buyer must hold integers, got dtype"),
        ({"buyer": torch.tensor([0, 1])}, ShapeError, r"buyer must have the shape of coefficient, \(1,\), got \(2,\)"),
        ({"output": torch.tensor([3.0, 1.0], dtype=F64)}, InputError, r"output must satisfy x = A x \+ c up to 1e-09 of its maximum, got an error of"),
        ({"sector": torch.tensor([0, -1])}, InputError, r"sector must hold integers >= 0"),
        ({"sector": ["Farms", "Mills"]}, DtypeError, r"sector must be a tensor of integers, one a firm, got list"),
        ({"sector": torch.tensor([True, False])}, InputError, r"sector must hold integers >= 0, got torch.bool"),
        ({"supplier": [0]}, DtypeError, r"supplier must be a tensor of integers, one an edge, got list"),
        ({"product": torch.tensor([0])}, ShapeError, r"product must have shape \(M,\) = \(2,\), got \(1,\)"),
    ],
)
def test_a_network_that_is_none_is_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    good = {
        "supplier": torch.tensor([0]),
        "buyer": torch.tensor([1]),
        "coefficient": torch.tensor([0.5], dtype=F64),
        "final_demand": torch.ones(2, dtype=F64),
    }
    firms.Network.of(**good)
    with pytest.raises(error, match=message):
        firms.Network.of(**(good | change))


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ({"inventory": -1.0}, InputError, r"inventory must be >= 0, got -1.0"),
        ({"inventory": torch.tensor([torch.nan, 1.0])}, InputError, r"inventory must be >= 0, got nan"),
        ({"inventory": 1.0, "adjustment_time": 0.0}, InputError, r"adjustment_time must be > 0, got 0.0"),
        ({"inventory": 1.0, "capacity": torch.tensor([1])}, DtypeError, r"capacity must be a floating-point tensor or a number"),
        ({"inventory": 1.0, "needed": torch.ones(1, 1, 1)}, ShapeError, r"needed must be a number, \(M,\) or \(M, B\), got \(1, 1, 1\)"),
        ({"inventory": "much"}, DtypeError, r"inventory must be a number or a floating-point tensor, got 'much'"),
    ],
)
def test_parameters_out_of_range_are_named(levels: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        firms.Parameters(**levels)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({}, InputError, r"rollout must be given a shock .* or a horizon, got none"),
        ({"productivity": torch.ones(5, 3, 1)}, ShapeError, r"productivity must have shape \(T, M, B\) or \(T, M\) with M = 2, got \(5, 3, 1\)"),
        ({"transport": torch.ones(5, 3)}, ShapeError, r"transport must have shape \(T, E, B\) or \(T, E\) with E = 1, got \(5, 3\)"),
        ({"productivity": torch.ones(5, 2, 1), "horizon": 6}, ShapeError, r"must have one length T, got productivity: 5, horizon: 6"),
        ({"productivity": -torch.ones(5, 2, 1)}, InputError, r"productivity must be >= 0, got -1"),
        ({"final_demand": torch.full((5, 2, 1), torch.inf)}, InputError, r"final_demand must be finite, got 10 of 10"),
        ({"productivity": torch.ones(5, 2, 3), "final_demand": torch.ones(5, 2, 2)}, ShapeError, r"batches must be 1 or one number B, got \[1, 2, 3\]"),
        ({"transport": torch.full((5, 1), 1.5)}, InputError, r"transport must be a share in \[0, 1\] of what is ordered, got 1.5"),
        ({"horizon": 3, "rules": "paper"}, InputError, r"rules must be a dpsc.simulate.firms.Rules, got 'paper'"),
        ({"horizon": 3, "relax": "exact"}, InputError, r"relax must be a reading, such as dpsc.relax.Exact\(\), got 'exact'"),
        ({"horizon": 0}, InputError, r"horizon must be an integer >= 1, got 0"),
    ],
)
def test_shocks_that_do_not_fit_are_named(how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        firms.rollout(of([(0, 1, 0.5)], [1.0, 1.0]), firms.Parameters(3.0), **how)
    with pytest.raises(ShapeError, match=r"inventory must be a number, \(M,\) or \(M, B\) with M = 2, got \(3,\)"):
        firms.rollout(of([(0, 1, 0.5)], [1.0, 1.0]), firms.Parameters(torch.ones(3)), horizon=3)


KERNELS = {"plain": firms.PLAIN, **({"native": firms.NATIVE} if native.available() else {})}


@pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS)
def test_a_firm_without_inputs_that_makes_nothing(kernels: firms.Kernels) -> None:
    network = of([(0, 1, 0.3), (1, 2, 0.4)], [1.0, 1.0, 1.0])
    z = torch.ones(8, 3, dtype=F64)
    z[2:4, 0] = 0
    made = [
        firms.rollout(network, firms.Parameters(3.0), productivity=z, rules=firms.Rules(shock_on_stock=on), kernels=kernels).output[..., 0]
        for on in (False, True)
    ]
    assert torch.equal(made[0], made[1])  # nobody's stock binds
    assert torch.equal(made[0][2:4, 0], torch.zeros(2, dtype=F64))
    assert float(made[0][4, 0]) > 0


@pytest.mark.parametrize("kernels", [None, *KERNELS.values()], ids=["operator", *KERNELS])
def test_nothing_of_an_infinite_capacity_is_refused(kernels: firms.Kernels | None) -> None:
    network = of([(0, 1, 0.3), (1, 2, 0.4)], [1.0, 1.0, 1.0])
    z = torch.ones(8, 3, dtype=F64)
    z[2:4, 0] = 0
    limits = torch.tensor([float("inf"), 1.2, 1.2], dtype=F64)
    with pytest.raises(InputError, match=r"productivity must be > 0 where capacity is infinite, got 0 in 2 entries, the first at .* \(2, 0, 0\)"):
        firms.rollout(network, firms.Parameters(3.0, capacity=limits), productivity=z, kernels=kernels)
    assert firms.rollout(network, firms.Parameters(3.0, capacity=limits.flip(0)), productivity=z, kernels=kernels).output.isfinite().all()


def test_a_state_of_another_network_is_refused_before_the_first_step() -> None:
    small, large = of([(0, 1, 0.5)], [1.0, 1.0]), of([(0, 1, 0.5), (1, 2, 0.2)], [1.0] * 3)
    for here, there in ((small, large), (large, small)):
        state = firms.rollout(there, firms.Parameters(3.0), horizon=3).state
        for how in ({}, {"rules": firms.Rules(rationing=firms.firms_first)}):
            with pytest.raises(
                ShapeError, match=rf"state.stock must have shape \({here.inputs}, B\), as the network has {here.firms} firms.*got \({there.inputs}, 1\)"
            ):
                firms.rollout(here, firms.Parameters(3.0), horizon=3, state=state, **how)  # type: ignore[arg-type]


def test_shocks_and_orders_that_make_no_sense_are_named() -> None:
    with pytest.raises(InputError, match=r"onset must be finite, got 1 of 1 entries"):
        firms.exponential(5, onset=float("nan"), size=0.5, rate=0.1)
    with pytest.raises(ShapeError, match=r"loss 1.*loss 2"):
        firms.compose(torch.zeros(3, 1, 1), torch.zeros(4, 1, 1))
    with pytest.raises(InputError, match=r"sensitivity must be >= 0, got -1"):
        firms.Switching(-1.0)


def test_a_generator_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="firms must be an integer >= 2, got 1"):
        firms.synthetic(1)
    with pytest.raises(InputError, match=r"input_share must be an interval within \[0, 1\), got \(0.5, 1.0\)"):
        firms.synthetic(10, input_share=(0.5, 1.0))
    with pytest.raises(InputError, match="degree must be >= 1, got 0.5"):
        firms.synthetic(10, degree=0.5)
