"""The gradient audit, and whole programs under the readings: the extended (R, s, Q) policy is the test program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.instances.replenishment import EXTENDED_RSQ, Articles, Paths, articles, gradient_points, paths
from dpsc.relax import Difference, Exact, Logistic, Normal, Perturbation, Poisson, Ramp, Score, Smoothed, StraightThrough, audit, estimate, floor, step
from dpsc.report.audit import gradient_audit
from dpsc.simulate import replenishment
from dpsc.simulate.replenishment import PARAMETERS, cost

START = EXTENDED_RSQ.parameters["start"]


def theta(of: Articles, values: Any = START) -> dict[str, Tensor]:
    return {name: torch.full_like(of.scale, value) for name, value in zip(PARAMETERS, values, strict=True)}


# ----------------------------------------------------------------------------------------------------------- whole programs


@pytest.mark.parametrize("count", [1, 10, 100])
def test_the_program_is_the_published_one(count: int) -> None:
    of = articles(count)
    drawn = paths(of, 256)
    if count in EXTENDED_RSQ.known["check_sums"]:
        sums = tuple(int(x.sum()) for x in (drawn.demand, drawn.lead_time, drawn.return_lag))
        assert sums == EXTENDED_RSQ.known["check_sums"][count]
    p75 = torch.quantile(cost(theta(of), drawn, articles=of, relax=Exact()), 0.75, dim=-2).sum()
    assert abs(float(p75) - EXTENDED_RSQ.known["start_p75"][count]) < 0.006


@pytest.mark.parametrize("trigger", ["position", "idle"])
def test_straight_through_is_bit_equal_for_the_whole_program(trigger: str) -> None:
    of = articles(7)
    drawn = paths(of, 64)
    exact = cost(theta(of), drawn, articles=of, relax=Exact(), trigger=trigger)
    for kernel in (Ramp(1.0), Logistic(0.1), Normal(3.0)):
        leaves = {name: value.clone().requires_grad_() for name, value in theta(of).items()}
        through = cost(leaves, drawn, articles=of, relax=StraightThrough(kernel), trigger=trigger)
        assert torch.equal(exact.view(torch.int64), through.detach().view(torch.int64))


def test_smoothed_converges_at_program_level_with_the_lattice_and_sticks_without(monkeypatch: pytest.MonkeyPatch) -> None:
    of = articles(1)
    drawn = paths(of, 256)
    exact = cost(theta(of), drawn, articles=of, relax=Exact()).mean()

    def error(temperature: float) -> float:
        return abs(float(cost(theta(of), drawn, articles=of, relax=Smoothed(Logistic(temperature))).mean() / exact - 1))

    with_lattice = [error(t) for t in (1e-2, 1e-4, 1e-6, 1e-7)]
    assert with_lattice[0] > 1e-3
    assert with_lattice[-1] < 1e-6
    monkeypatch.setattr(replenishment, "floor", lambda x, *, relax, scale=1.0, lattice=0.0: floor(x, relax=relax, scale=scale))
    without = [error(t) for t in (1e-6, 1e-7, 1e-9)]
    assert min(without) > 1e-3  # the half of an even order stays half open, at any temperature


@pytest.mark.parametrize("relax", [Exact(), StraightThrough(Logistic(0.25)), Smoothed(Logistic(0.25))], ids=["exact", "straight-through", "smoothed"])
def test_units_are_neither_made_nor_lost(relax: Any) -> None:
    of = articles(5)
    drawn = paths(of, 40)
    policy = {
        "kick_week": torch.ones(1, 5, dtype=torch.float64),
        "kick_order": (3 * of.scale).round()[None],
        "reorder_point": 2 * of.scale[None],
        "order_quantity": (3 * of.scale).round()[None],
    }
    zero = torch.zeros(40, 5, dtype=torch.float64)
    state = replenishment.State(zero, zero, (zero,) * 4, (zero,) * 3)
    ordered = sold = returned = zero
    for week in range(12):
        state, flow = replenishment.advance(state, policy, drawn, week, articles=of, relax=relax, trigger="position", cutoff=9)
        ordered, sold, returned = ordered + flow.order, sold + flow.sales, returned + flow.returned
    gap = (ordered + returned - sold - state.on_hand - state.on_order).abs().max()
    assert float(gap) <= (0 if not isinstance(relax, Smoothed) else 1e-10)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trigger": "stock"}, r"trigger must be one of idle, position; got 'stock'"),
        ({"parameters": {"kick_week": torch.ones(1)}}, r"the extended \(R, s, Q\) policy takes the parameters kick_week, .* missing kick_order"),
        ({"paths": paths(articles(1), 4)._replace(lead_time=torch.zeros(12, 4, 1))}, r"lead_time must be >= 1 week, got 0.0"),
    ],
)
def test_mistakes_of_the_world_are_named(change: Mapping[str, Any], text: str) -> None:
    of = articles(1)
    arguments = {"parameters": theta(of), "paths": paths(of, 4), **change}
    with pytest.raises(InputError, match=text):
        cost(**arguments, articles=of, relax=Exact())


# ---------------------------------------------------------------------------------------------------------------- the audit


def at_point(index: int, readings: Mapping[str, Any], count: int = 40_000) -> Any:
    of = articles(3)
    drawn = paths(of, count, seed=3)
    dealt = [Paths(*(x[:, i::4].contiguous() for x in drawn)) for i in range(4)]
    unit = 2 / of.scale
    return audit(
        lambda parameters, future, *, relax: cost(parameters, future, articles=of, relax=relax).sum(-1),
        {name: gradient_points()[index][:, i] for i, name in enumerate(PARAMETERS)},
        readings,
        futures=dealt,
        steps={"kick_week": 1.0, "kick_order": unit, "reorder_point": unit, "order_quantity": unit},
        lower={"kick_week": 0.0, "kick_order": 0.0, "order_quantity": 0.0},
    )


def test_the_audit_of_the_reference_program() -> None:
    found = at_point(0, {"good": StraightThrough(Logistic(0.25)), "narrow": StraightThrough(Normal(0.1)), "edge": StraightThrough(Logistic(0.1))})
    for i, name in enumerate(PARAMETERS):
        want = torch.tensor(EXTENDED_RSQ.known["gradients"][0], dtype=torch.float64)[:, i]
        assert torch.allclose(found.reference[name], want, rtol=1e-7)
    assert found.row("good").cosine > 0.9
    assert found.row("narrow").cosine < 0
    assert found.row("edge").deviation > 1 > found.row("good").deviation  # what looks like a direction at .1 is the luck of a few paths
    assert found.row("edge").cosine < 0.5
    assert found.recommended == "good"
    assert "pointing the wrong way: narrow" in found.advice


def test_one_good_point_proves_nothing() -> None:
    found = at_point(1, {f"{t}": StraightThrough(Logistic(t)) for t in (0.5, 0.25)} | {"soft": Smoothed(Logistic(0.25))}, count=8000)
    assert all(found.row(name).cosine < 0.7 for name in ("0.5", "0.25", "soft"))
    assert "no candidate reaches 0.9" in found.advice


def newsvendor(parameters: Mapping[str, Tensor], uniform: Tensor, *, relax: Any) -> Tensor:
    """Cost of an order against demand that the order itself attracts, by whatever reading or estimator."""
    price = parameters["price"]
    return estimate(lambda d: (price * d - 12).abs() + 8 * (d < 5), Poisson(parameters["rate"]), uniform, relax)


def test_estimators_are_audited_by_the_program_that_hands_them_on() -> None:
    parameters = {"rate": torch.tensor([9.0], dtype=torch.float64), "price": torch.tensor(1.3, dtype=torch.float64)}
    uniforms = [torch.rand(4000, 1, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(8)]
    found = audit(
        newsvendor,
        parameters,
        {"difference": Difference(), "score": Score(), "path": StraightThrough(Ramp(1.0)), "perturbed": Perturbation({"rate": 0.3, "price": 0.02}, pairs=40)},
        futures=uniforms,
        steps={"rate": 0.5, "price": 0.02},
    )
    assert found.row("difference").cosine > 0.98
    assert found.row("difference", "rate").bias < 0.15
    assert found.row("score", "rate").bias < 0.15
    assert found.row("path", "rate").bias > 0.3  # blind to the jump
    assert found.row("perturbed").cost > 20
    assert {row["block"] for row in found.table()} == {"rate", "price", "all"}
    assert set(found.gradients) == {"difference", "score", "path", "perturbed"}
    figure = gradient_audit(found.rows)
    assert len(figure.axes) == 4


def test_perturbation_is_unbiased_for_the_blurred_program_and_a_control_makes_it_quiet() -> None:
    slope, jump = torch.linspace(3, 5, 20, dtype=torch.float64), torch.linspace(-1, 1, 20, dtype=torch.float64)
    x, width = torch.linspace(-0.8, 0.9, 20, dtype=torch.float64), 0.5

    def program(parameters: Mapping[str, Tensor], future: None, *, relax: Any) -> Tensor:
        return (slope * parameters["x"]).sum() + (jump * step(parameters["x"], relax=relax)).sum()

    exact = slope + jump * torch.exp(-0.5 * (x / width) ** 2) / (width * (2 * torch.pi) ** 0.5)
    deviations = []
    for control in (None, StraightThrough(Logistic(1.0))):
        how = Perturbation({"x": width}, pairs=2, control=control)
        found = torch.stack([how.gradient(program, {"x": x}, None, index=i)["x"] for i in range(1500)])
        assert bool(((found.mean(0) - exact).abs() < 4 * found.std(0) / 1500**0.5).all())
        deviations.append(float(found.var(0).sum().sqrt()))
    assert deviations[1] < 0.25 * deviations[0]


def test_differences_of_a_smooth_program_are_its_gradient_and_coordinates_can_be_picked() -> None:
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)

    def program(parameters: Mapping[str, Tensor], future: None, *, relax: Any) -> Tensor:
        return (parameters["x"].square()).sum() + 0 * step(parameters["x"], relax=relax).sum()

    found = audit(program, {"x": x}, {"soft": Smoothed(Logistic(1.0))}, futures=[None], steps={"x": 0.1}, coordinates=7)
    assert found.reference["x"].shape == (7,)
    assert torch.allclose(found.reference["x"], 2 * x[torch.linspace(0, 49, 7).round().long()])
    assert found.row("soft").bias < 1e-12
    one_sided = audit(program, {"x": x}, {"soft": Smoothed(Logistic(1.0))}, futures=[None], steps={"x": 0.1}, lower={"x": -1.0})
    assert abs(float(one_sided.reference["x"][0]) - (-1.9)) < 1e-9


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"candidates": {}}, InputError, r"audit needs parameters, candidates and futures, got 1, 0 and 1 of them"),
        ({"futures": []}, InputError, r"got 1, 1 and 0 of them"),
        ({"steps": {"y": 1.0}}, InputError, r"steps takes the parameters x; missing x"),
        ({"steps": {"x": 0.0}}, InputError, r"the step of x must be > 0, got 0.0"),
        ({"steps": {"x": torch.ones(3)}}, ShapeError, r"the step of x must broadcast with shape \(2,\), got \(3,\)"),
        ({"lower": {"z": 0.0}}, InputError, r"a block of lower must be one of x; got 'z'"),
        ({"lower": {"x": 5.0}, "upper": {"x": 5.0}}, InputError, r"x\[0\] = 1.0 leaves no room between its bounds"),
        ({"program": lambda p, f, *, relax: p["x"].sum() * torch.nan}, InputError, r"the exact cost must be finite, got nan for future 0 with x\[0\] = 1.5"),
    ],
)
def test_mistakes_are_named(change: Mapping[str, Any], error: type[Exception], text: str) -> None:
    arguments: dict[str, Any] = {
        "program": lambda p, f, *, relax: p["x"].square().sum(),
        "parameters": {"x": torch.ones(2, dtype=torch.float64)},
        "candidates": {"soft": Smoothed(Ramp(1.0))},
        "futures": [None],
        "steps": {"x": 0.5},
    }
    call: Callable[..., Any] = audit
    with pytest.raises(error, match=text):
        call(**{**arguments, **change})


def test_an_audit_has_no_unknown_rows() -> None:
    found = audit(lambda p, f, *, relax: p["x"].sum(), {"x": torch.ones(2)}, {"soft": Smoothed(Ramp(1.0))}, futures=[None], steps={"x": 0.5})
    with pytest.raises(InputError, match=r"candidate must be one of soft; got 'sof' \(did you mean soft\?\)"):
        found.row("sof")
    with pytest.raises(InputError, match="an audit figure needs at least one row"):
        gradient_audit([])
