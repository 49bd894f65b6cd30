"""The contract of every operation under every reading: one line an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc import relax as rooms
from dpsc.errors import DtypeError, ExactJumpError, InputError, ShapeError
from dpsc.relax import Cauchy, Exact, Logistic, Normal, Ramp, Smoothed, StraightThrough, operations

KERNELS: dict[str, Callable[[float], Any]] = {"ramp": Ramp, "logistic": Logistic, "normal": Normal, "cauchy": Cauchy}


@dataclass(frozen=True)
class Case:
    """How to call an operation on one vector of non-negative numbers, away from its thresholds and on them."""

    call: Callable[..., Tensor]
    jumps: bool = True  # a kinked operation has an exact sub-gradient instead
    lattice: bool = True  # takes lattice=
    mean: bool = False  # smooths a minimum, so that a Cauchy kernel is refused
    primitive: bool = False  # its soft gradient at given inputs does not depend on the reading


BREAKS, PRICES = torch.tensor([2.0, 5.0], dtype=torch.float64), torch.tensor([3.0, 2.5, 2.0], dtype=torch.float64)
OTHER = torch.tensor([0.3, 4.1, 2.2, 0.9, 3.3, 1.7], dtype=torch.float64)

CASES = {
    "floor": Case(lambda x, **k: operations.floor(x, **k), primitive=True),
    "round": Case(lambda x, **k: operations.round(x, **k), primitive=True),
    "step": Case(lambda x, **k: operations.step(x - 2, **k), primitive=True),
    "equal": Case(lambda x, **k: operations.equal(x, 2.0, **{"lattice": 1.0, **k}), primitive=True),
    "choose": Case(lambda x, **k: operations.choose(x + OTHER.to(x.dtype), **k), lattice=False, primitive=True),
    "minimum": Case(lambda x, **k: operations.minimum(x, OTHER.to(x.dtype), **k), jumps=False, lattice=False, mean=True, primitive=True),
    "maximum": Case(lambda x, **k: operations.maximum(x, OTHER.to(x.dtype), **k), jumps=False, lattice=False, mean=True, primitive=True),
    "positive_part": Case(lambda x, **k: operations.positive_part(x - 2.5, **k), jumps=False, lattice=False, mean=True, primitive=True),
    "at_least": Case(lambda x, **k: operations.at_least(x, 4.0, **k)),
    "pack": Case(lambda x, **k: operations.pack(x, 3.0, **k)),
    "pack_up": Case(lambda x, **k: operations.pack(x, 3.0, up=True, **k)),
    "order_gate": Case(lambda x, **k: operations.order_gate(x, **k), primitive=True),
    "all_units_cost": Case(lambda x, **k: operations.all_units_cost(x, BREAKS.to(x.dtype), PRICES.to(x.dtype), **k)),
    "incremental_cost": Case(lambda x, **k: operations.incremental_cost(x, BREAKS.to(x.dtype), PRICES.to(x.dtype), **k), jumps=False, lattice=False, mean=True),
    "water_fill": Case(lambda x, **k: operations.water_fill(0.6 * x.sum(-1), x, OTHER.to(x.dtype) + 0.1 * x, **k), lattice=False),
    "top_k": Case(lambda x, **k: operations.top_k(x + OTHER.to(x.dtype), 2, **k), lattice=False),
}

POINT = torch.tensor([0.31, 1.22, 1.87, 2.68, 3.43, 6.13], dtype=torch.float64)  # away from every threshold, in no order of anything
LATTICE = torch.arange(6, dtype=torch.float64)

every_case = pytest.mark.parametrize("name", CASES)
every_pair = pytest.mark.parametrize(("name", "kernel"), [(n, k) for n, c in CASES.items() for k in KERNELS if not (c.mean and k == "cauchy")])
primitive_pairs = pytest.mark.parametrize(
    ("name", "kernel"), [(n, k) for n, c in CASES.items() for k in KERNELS if c.primitive and not (c.mean and k == "cauchy")]
)


def bits(x: Tensor) -> Tensor:
    """The very bits, so that -0 and 0 differ."""
    return x.detach().contiguous().view(torch.int64 if x.dtype == torch.float64 else torch.int32)


def test_the_list_is_complete() -> None:
    """Every public operation has a case; `pack` has two."""
    public = {name for name in operations.__all__ if not isinstance(getattr(operations, name), type)}
    assert public == {name for name in CASES if name != "pack_up"}
    assert public <= set(rooms.__all__)


@every_pair
def test_straight_through_is_bit_equal_to_exact(name: str, kernel: str) -> None:
    case = CASES[name]
    for dtype in (torch.float64, torch.float32):
        for x in (POINT, LATTICE, torch.linspace(0, 9, 6, dtype=torch.float64), torch.tensor([0.0, -0.0, 2.0, 2.0, 5.0, 1e6], dtype=torch.float64)):
            exact = case.call(x.to(dtype), relax=Exact())
            through = case.call(x.to(dtype).clone().requires_grad_(), relax=StraightThrough(KERNELS[kernel](0.3)))
            assert through.dtype == dtype
            assert torch.equal(bits(exact), bits(through))


@every_pair
def test_smoothed_converges_to_exact_away_from_thresholds(name: str, kernel: str) -> None:
    case = CASES[name]
    exact = case.call(POINT, relax=Exact())
    errors = [float((case.call(POINT, relax=Smoothed(KERNELS[kernel](t))) - exact).abs().max()) for t in (1.0, 1e-2, 1e-4, 1e-8)]
    assert errors[-1] <= (1e-6 if kernel == "cauchy" else 1e-12)
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.lattice])
def test_with_its_lattice_smoothed_converges_on_thresholds_too(name: str) -> None:
    case = CASES[name]
    exact = case.call(LATTICE, relax=Exact())
    kernel = Logistic(1e-3)
    assert torch.allclose(case.call(LATTICE, relax=Smoothed(kernel), lattice=1.0), exact, rtol=0, atol=1e-9)
    if name != "equal":
        assert not torch.allclose(case.call(LATTICE, relax=Smoothed(kernel), lattice=0.0), exact, rtol=0, atol=1e-2) or name in ("round", "pack")


@every_pair
def test_the_smoothed_gradient_is_that_of_the_smoothed_value(name: str, kernel: str) -> None:
    case = CASES[name]
    reading = Smoothed(KERNELS[kernel](0.7))
    assert torch.autograd.gradcheck(lambda x: case.call(x, relax=reading), (POINT.clone().requires_grad_(),), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.primitive])
def test_second_derivatives_of_the_smoothed_value(name: str) -> None:
    reading = Smoothed(Logistic(0.7))
    x = POINT.clone().requires_grad_()
    if name == "choose":
        assert torch.autograd.gradgradcheck(lambda x: CASES[name].call(x, relax=reading), (x,))
        return
    (first,) = torch.autograd.grad(CASES[name].call(x, relax=reading).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    h = 1e-5

    def slope(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(CASES[name].call(at, relax=reading).sum(), at)[0]

    assert torch.allclose(second, (slope(POINT + h) - slope(POINT - h)) / (2 * h), atol=1e-6)


@primitive_pairs
def test_straight_through_has_the_gradient_of_the_smoothed_value(name: str, kernel: str) -> None:
    case = CASES[name]
    gradients = []
    for reading in (Smoothed, StraightThrough):
        x = POINT.clone().requires_grad_()
        weight = torch.linspace(1, 2, len(POINT), dtype=torch.float64)
        gradients.append(torch.autograd.grad((case.call(x, relax=reading(KERNELS[kernel](0.4))) * weight).sum(), x)[0])
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-12)


@every_case
def test_an_exact_jump_refuses_a_backward_pass_and_a_kink_has_its_subgradient(name: str) -> None:
    case = CASES[name]
    x = POINT.clone().requires_grad_()
    value = case.call(x, relax=Exact()).sum()
    if case.jumps:
        with pytest.raises(ExactJumpError, match=r"which jumps and is read exactly.*pass relax=StraightThrough"):
            value.backward()
    else:
        (slope,) = torch.autograd.grad(value, x)
        h = 1e-4
        up, down = case.call(POINT + h, relax=Exact()), case.call(POINT - h, relax=Exact())
        assert torch.allclose(slope, (up - down) / (2 * h), atol=1e-8)


def test_the_refusal_names_the_operation() -> None:
    with pytest.raises(ExactJumpError, match="reached floor,"):
        operations.floor(POINT.clone().requires_grad_(), relax=Exact()).sum().backward()
    with pytest.raises(ExactJumpError, match="reached water_fill,"):
        CASES["water_fill"].call(POINT.clone().requires_grad_(), relax=Exact()).sum().backward()


@every_case
def test_vmap_and_leading_dimensions_are_loops(name: str) -> None:
    batch = torch.stack([POINT, LATTICE, POINT.flip(0) + 0.05])
    for reading in (Exact(), Smoothed(Normal(0.4)), StraightThrough(Logistic(0.4))):
        loop = torch.stack([CASES[name].call(x, relax=reading) for x in batch])
        assert torch.allclose(CASES[name].call(batch, relax=reading), loop, rtol=1e-13, atol=1e-13)
        if name not in ("water_fill", "top_k"):  # their level is found by a loop that looks at values
            assert torch.allclose(torch.func.vmap(lambda x, r=reading: CASES[name].call(x, relax=r))(batch), loop, rtol=1e-13, atol=1e-13)
    empty = CASES[name].call(batch[:0], relax=Smoothed(Logistic(0.4)))
    assert empty.shape[0] == 0


CHECKED = ("at_least", "pack", "pack_up", "order_gate", "water_fill", "top_k")  # look at their quantities; the others hand a NaN on


@every_case
def test_nan_never_disappears(name: str) -> None:
    x = POINT.clone()
    x[3] = torch.nan
    for reading in (Exact(), StraightThrough(Logistic(0.5)), Smoothed(Logistic(0.5))):
        if name in CHECKED:
            with pytest.raises(InputError, match="nan"):
                CASES[name].call(x, relax=reading)
        else:
            assert bool(CASES[name].call(x, relax=reading).isnan().any())


@pytest.mark.parametrize("name", ["floor", "at_least"])  # compiling takes seconds: one primitive and one composition stand for all
def test_compiled_readings_are_bit_equal(name: str) -> None:
    for reading in (Exact(), StraightThrough(Logistic(0.4))):
        compiled = torch.compile(lambda x, r=reading: CASES[name].call(x, relax=r), fullgraph=True, backend="aot_eager")
        assert torch.equal(bits(compiled(POINT)), bits(CASES[name].call(POINT, relax=Exact())))
    x, y = POINT.clone().requires_grad_(), POINT.clone().requires_grad_()
    compiled(x).sum().backward()
    CASES[name].call(y, relax=reading).sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ what each one is

numbers = st.floats(-50, 50)


@pytest.mark.parametrize("kernel", ["ramp", "logistic", "normal"])
@given(a=numbers, b=numbers, temperature=st.floats(1e-3, 1e3))
def test_a_smoothed_minimum_never_exceeds_the_hard_one(kernel: str, a: float, b: float, temperature: float) -> None:
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    reading = Smoothed(KERNELS[kernel](temperature))
    assert operations.minimum(x, y, relax=reading) <= torch.minimum(x, y)
    assert operations.maximum(x, y, relax=reading) >= torch.maximum(x, y)


@given(x=st.floats(-1e3, 1e3), temperature=st.floats(1e-2, 1e4))
def test_a_smoothed_staircase_is_between_its_neighbours_and_becomes_a_line(x: float, temperature: float) -> None:
    at = torch.tensor(x, dtype=torch.float64)
    for kernel in KERNELS.values():
        soft = operations.floor(at, relax=Smoothed(kernel(temperature)))
        assert at.floor() - 1 - 1e-9 <= soft <= at.floor() + 1 + 1e-9
        assert abs(operations.round(at, relax=Smoothed(kernel(temperature))) - at) <= 0.5 + 1e-9
    assert abs(operations.round(at, relax=Smoothed(Ramp(1.0))) - at) < 1e-9  # interpolation
    assert abs(operations.floor(at, relax=Smoothed(Logistic(1e4))) - (at - 0.5)) < 1e-6


def test_hard_values() -> None:
    exact, t = {"relax": Exact()}, lambda *x: torch.tensor(x, dtype=torch.float64)
    assert operations.round(t(0.5, 1.5, 2.5, -0.5), **exact).tolist() == [0, 2, 2, 0]
    assert operations.step(t(-1e-300, 0, 1), **exact).tolist() == [0, 1, 1]
    assert operations.at_least(t(0, 249.9, 250, 490, 600), 500.0, **exact).tolist() == [0, 0, 500, 500, 600]
    assert operations.at_least(t(0, 3), 0.0, **exact).tolist() == [0, 3]
    assert operations.pack(t(0, 6, 7, 17, 18), 12.0, **exact).tolist() == [0, 0, 12, 12, 24]
    assert operations.pack(t(0, 1, 12, 13), 12.0, up=True, **exact).tolist() == [0, 12, 12, 24]
    assert operations.order_gate(t(0, 1e-12, 5), **exact).tolist() == [0, 1, 1]
    assert operations.equal(t(2, 3, 4), 3.0, **exact).tolist() == [0, 1, 0]
    assert operations.all_units_cost(t(1, 2, 5), BREAKS, PRICES, **exact).tolist() == [3, 5, 10]
    assert operations.incremental_cost(t(1, 2, 5, 6), BREAKS, PRICES, **exact).tolist() == [3, 6, 13.5, 15.5]
    assert operations.choose(t(1, 3, 3), **exact).tolist() == [0, 1, 0]
    assert operations.top_k(t(1, 3, 3, 2, 3), 2, **exact).tolist() == [0, 1, 1, 0, 0]
    assert operations.water_fill(t(7)[0], t(3, 3, 3), t(1, 3, 2), **exact).tolist() == [1, 3, 3]
    assert operations.water_fill(t(4)[0], t(3, 3), t(1, 1), **exact).tolist() == [3, 1]


@pytest.mark.parametrize("lattice", [0.5, 0.25, torch.tensor(0.5, dtype=torch.float64)])
def test_half_to_even_converges_on_its_ties(lattice: Any) -> None:
    x = torch.arange(-12, 13, dtype=torch.float64) * float(lattice)
    exact = operations.round(x, relax=Exact())
    assert torch.allclose(operations.round(x, relax=Smoothed(Normal(1e-3)), lattice=lattice), exact, rtol=0, atol=1e-12)
    assert not torch.allclose(operations.round(x, relax=Smoothed(Normal(1e-3))), exact, rtol=0, atol=0.4)
    fine = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    soft = operations.round(fine, relax=Smoothed(Normal(0.2)), lattice=lattice)
    assert bool((soft.diff() >= 0).all())
    assert float(soft.diff().abs().max()) < 5e-3  # continuous


def test_the_soft_calendar_adds_up_to_one() -> None:
    week = torch.arange(-60, 61, dtype=torch.float64)
    for kernel in (Ramp(1.0), Logistic(0.5), Normal(2.0)):
        assert abs(float(operations.equal(week, 0.37, relax=Smoothed(kernel)).sum()) - 1) < 1e-12


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(0, 1.2), st.floats(1e-3, 10))
def test_water_is_neither_made_nor_lost(pairs: list[tuple[float, float]], share: float, temperature: float) -> None:
    demand, priority = (torch.tensor(x, dtype=torch.float64) for x in zip(*pairs, strict=True))
    supply = share * demand.sum()
    for reading in (Exact(), StraightThrough(Logistic(temperature)), *(Smoothed(k(temperature)) for k in (Ramp, Logistic, Normal))):
        given_out = operations.water_fill(supply, demand, priority, relax=reading)
        assert bool((given_out >= 0).all())
        assert bool((given_out <= demand * (1 + 1e-12)).all())
        expected = torch.minimum(supply, demand.sum())
        assert abs(float(given_out.sum() - expected)) <= 1e-10 * max(1.0, float(demand.sum()))


def test_choice_of_two_is_a_step_under_every_kernel() -> None:
    scores = torch.tensor([[0.3, 1.0], [2.0, -1.0]], dtype=torch.float64)
    for kernel in KERNELS.values():
        weight = operations.choose(scores, relax=Smoothed(kernel(0.9)))
        assert torch.allclose(weight[:, 0], operations.step(scores[:, 0] - scores[:, 1], relax=Smoothed(kernel(0.9))))


def test_scale_is_the_unit_of_temperature() -> None:
    x = torch.tensor([0.4, -0.9], dtype=torch.float64)
    scale = torch.tensor([3.0, 7.0], dtype=torch.float64)
    assert torch.allclose(operations.step(x, relax=Smoothed(Normal(0.2)), scale=scale), operations.step(x / scale, relax=Smoothed(Normal(0.2))))


# -------------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Logistic(0.0), InputError, r"temperature must be a finite number > 0, got 0.0"),
        (lambda: Ramp(float("nan")), InputError, r"temperature must be a finite number > 0, got nan"),
        (lambda: Normal(-1), InputError, r"temperature must be .* got -1.0"),
        (lambda: Smoothed(0.3), InputError, r"Smoothed must be given a kernel, such as Logistic\(0.25\), got 0.3"),  # type: ignore[arg-type]
        (lambda: operations.at_least(POINT, -1.0, relax=Exact()), InputError, r"minimum_order must be a number >= 0, got -1.0"),
        (lambda: operations.at_least(-POINT, 1.0, relax=Exact()), InputError, r"the quantity of at_least must be >= 0, got -0.31 at index \(0,\)"),
        (lambda: operations.at_least(POINT * torch.nan, 1.0, relax=Smoothed(Ramp())), InputError, r"the quantity of at_least must be >= 0, got nan"),
        (lambda: operations.at_least(POINT, POINT - 1, relax=Exact()), InputError, r"minimum_order must be >= 0, got -0.69 at index \(0,\)"),
        (lambda: operations.pack(POINT, 0.0, relax=Exact()), InputError, r"the size of a pack must be a number > 0, got 0.0"),
        (lambda: operations.pack(POINT, POINT * 0, relax=Exact()), InputError, r"the size of a pack must be > 0, got 0.0 at index \(0,\)"),
        (lambda: operations.order_gate(POINT - 1, relax=Exact()), InputError, r"the quantity of order_gate must be >= 0, got -0.69"),
        (lambda: operations.floor(POINT, relax=Exact(), scale=0.0), InputError, r"floor: scale must be a finite number > 0, or a tensor"),
        (lambda: operations.step(POINT, relax=Exact(), lattice=-1.0), InputError, r"step: lattice must be a finite number >= 0"),
        (lambda: operations.step(POINT, relax=Exact(), scale=POINT - 1), InputError, r"step: scale must be > 0 everywhere, got -0.69"),
        (lambda: operations.equal(POINT, relax=Exact(), lattice=0.0), InputError, r"equal \(lattice\): scale must be a finite number > 0"),
        (lambda: operations.floor(3, relax=Exact()), DtypeError, r"floor must be given a torch.Tensor, got int"),  # type: ignore[arg-type]
        (lambda: operations.floor(torch.arange(3), relax=Exact()), DtypeError, r"the input of floor must be a floating-point tensor, got dtype torch.int64"),
        (
            lambda: operations.minimum(POINT, POINT[:2], relax=Exact()),
            ShapeError,
            r"must broadcast, got input 0 of minimum: \(6,\), input 1 of minimum: \(2,\)",
        ),
        (lambda: operations.minimum(POINT, 1.0, relax=Smoothed(Cauchy(1.0))), InputError, r"minimum needs a kernel with a mean"),
        (lambda: operations.top_k(POINT, 7, relax=Exact()), InputError, r"k must be at most K"),
        (lambda: operations.water_fill(POINT[0] - 1, POINT, POINT, relax=Exact()), InputError, r"supply must be >= 0, got -0.69"),
        (lambda: operations.all_units_cost(POINT, BREAKS.flip(0), PRICES, relax=Exact()), InputError, r"breaks must increase, got \[5.0, 2.0\]"),
        (lambda: operations.all_units_cost(POINT, BREAKS, BREAKS, relax=Exact()), ShapeError, r"prices must have one entry more than breaks"),
        (lambda: rooms.Anneal(Smoothed, Ramp, 0.0, 1.0), InputError, r"start must be a finite number > 0, got 0.0"),
        (lambda: rooms.Anneal(Smoothed, Ramp, 1.0, 0.1)(1.5), InputError, r"fraction must lie in \[0, 1\], got 1.5"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_schedules() -> None:
    schedule = rooms.Anneal(StraightThrough, Logistic, 1.0, 0.01)
    assert schedule(0.0) == StraightThrough(Logistic(1.0))
    assert abs(schedule.temperature(0.5) - 0.1) < 1e-15
    assert rooms.Anneal(Smoothed, Ramp, 1.0, 0.5, rooms.linear).temperature(0.5) == 0.75
    assert rooms.Anneal(Smoothed, Ramp, 1.0, 0.5, rooms.cosine).temperature(1.0) == 0.5
