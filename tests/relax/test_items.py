"""Differences of many items at once: exact for the blurred program, the same as one parameter at a time, and the same number of evaluations for any number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.instances.replenishment import EXTENDED_RSQ, articles, gradient_points, paths
from dpsc.relax import Exact, ItemDifferences, audit
from dpsc.relax.audit import Gradient
from dpsc.simulate.replenishment import PARAMETERS, cost


def newsvendor(demand: Tensor, *, holding: float = 1.0, stockout: float = 4.0):  # type: ignore[no-untyped-def]
    def program(theta: Mapping[str, Tensor]) -> tuple[Tensor]:
        order = theta["order"].round()[..., None, :]
        return (holding * (order - demand).clamp_min(0) + stockout * (demand - order).clamp_min(0),)

    return program


def test_unbiased_for_the_blurred_program_by_summation() -> None:
    rate, at, width = 5.0, 6.3, 2.0
    k = torch.arange(200, dtype=torch.float64)
    probability = torch.exp(k * math.log(rate) - rate - torch.lgamma(k + 1))

    def expected(order: float) -> float:
        return float((newsvendor(k[:, None])({"order": torch.tensor([order], dtype=torch.float64)})[0][:, 0] * probability).sum())

    exact = (expected(at + width) - expected(at - width)) / (2 * width)
    groups = 400
    demand = torch.poisson(torch.full((500, groups), rate, dtype=torch.float64), generator=torch.Generator().manual_seed(0))
    theta = {"order": torch.full((groups,), at, dtype=torch.float64, requires_grad=True)}
    (value,) = ItemDifferences({"order": width}).evaluate(newsvendor(demand), theta)
    (gradient,) = torch.autograd.grad(value.mean(0).sum(), theta["order"])
    assert abs(float(gradient.mean()) - exact) <= 4 * float(gradient.std()) / math.sqrt(groups)
    assert float(gradient.std()) / math.sqrt(groups) < 0.05 * abs(exact)  # four errors are a test


@pytest.mark.parametrize(("at", "slope"), [(-0.5, 0.0), (0.0, 1 / 3), (1.0, 1 / 3), (2.7, 0.0)])
def test_a_jump_has_the_density_of_the_blur(at: float, slope: float) -> None:
    theta = {"x": torch.tensor([at], dtype=torch.float64, requires_grad=True)}
    (value,) = ItemDifferences({"x": 1.5}).evaluate(lambda t: ((t["x"] > 1.1).double()[None],), theta)
    assert value.tolist() == [[float(at > 1.1)]]
    assert torch.autograd.grad(value.sum(), theta["x"])[0].tolist() == pytest.approx([slope])


def test_one_sided_at_a_bound() -> None:
    theta = {"x": torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)}
    (value,) = ItemDifferences({"x": 2.0}, lower={"x": 0.0}, upper={"x": 4.0}).evaluate(lambda t: (t["x"][None] ** 2,), theta)
    assert torch.autograd.grad(value.sum(), theta["x"])[0].tolist() == pytest.approx([(2.5**2 - 0) / 2.5, (4.0**2 - 1) / 3.0])


def replenishment(count: int, futures: int, trigger: str = "position"):  # type: ignore[no-untyped-def]
    of = articles(count)
    drawn, unit = paths(of, futures, seed=5), 2 / of.scale
    how = ItemDifferences({"kick_week": 1.0, **{n: unit for n in PARAMETERS[1:]}}, lower={"kick_week": 0.0, "kick_order": 0.0, "order_quantity": 0.0})
    return how, lambda theta: (cost(theta, drawn, articles=of, relax=Exact(), trigger=trigger),)


@pytest.mark.parametrize("trigger", ["position", "idle"])
def test_the_same_as_one_parameter_at_a_time(trigger: str) -> None:
    how, program = replenishment(3, 16, trigger)
    generator = torch.Generator().manual_seed(2)
    theta = {n: (0.2 + 3 * torch.rand(2, 3, generator=generator, dtype=torch.float64)).requires_grad_() for n in PARAMETERS}
    (value,) = how.evaluate(program, theta)
    assert torch.equal(value, program(theta)[0])
    weight = torch.rand(value.shape, generator=generator, dtype=torch.float64)  # any function of the outputs: a percentile, a shared resource
    found = dict(zip(PARAMETERS, torch.autograd.grad((weight * value).sum(), list(theta.values())), strict=True))
    plain = {n: x.detach() for n, x in theta.items()}
    for name in PARAMETERS:
        low, high = how._ends(name, plain[name])
        for row in range(2):
            for item in range(3):
                ends = []
                for end in (high, low):
                    moved = plain[name].clone()
                    moved[row, item] = end[row, item]
                    ends.append(float((weight * program({**plain, name: moved})[0]).sum()))
                slope = (ends[0] - ends[1]) / float(high[row, item] - low[row, item])
                assert float(found[name][row, item]) == pytest.approx(slope, rel=1e-9, abs=1e-9)


def test_as_many_evaluations_for_a_hundred_items_as_for_one() -> None:
    counts = []
    for items in (1, 100):
        how, program = replenishment(items, 4)
        calls = 0

        def counted(theta: Mapping[str, Tensor], program: Any = program) -> tuple[Tensor]:
            nonlocal calls
            calls += 1
            return program(theta)

        theta = {n: torch.full((items,), v, dtype=torch.float64, requires_grad=True) for n, v in zip(PARAMETERS, (1.0, 3.0, 2.0, 3.0), strict=True)}
        how.evaluate(counted, theta)[0].sum().backward()
        counts.append(calls)
        assert calls == how.evaluations()
    assert counts == [9, 9]


def test_close_to_the_published_gradients_with_few_futures() -> None:
    how, program = replenishment(3, 1024)
    for point, known in zip(gradient_points(), EXTENDED_RSQ.known["gradients"], strict=False):
        theta = {n: point[:, i].clone().requires_grad_() for i, n in enumerate(PARAMETERS)}
        found = torch.stack(torch.autograd.grad(how.evaluate(program, theta)[0].mean(0).sum(), list(theta.values())), -1)
        assert float(torch.nn.functional.cosine_similarity(found.flatten(), torch.tensor(known, dtype=torch.float64).flatten(), dim=0)) > 0.95


def test_the_audit_knows_it() -> None:
    how = ItemDifferences({"order": 2.0})
    assert isinstance(how, Gradient)
    demand = torch.poisson(torch.full((64, 5), 5.0, dtype=torch.float64), generator=torch.Generator().manual_seed(0))

    def program(theta: Mapping[str, Tensor], future: Tensor, *, relax: Any) -> Tensor:
        return newsvendor(future)(theta)[0]

    at = {"order": torch.linspace(2.0, 9.0, 5, dtype=torch.float64)}
    row = audit(program, at, {"items": how}, futures=[demand[:32], demand[32:]], steps={"order": 2.0}).row("items")
    assert row.cosine == pytest.approx(1)
    assert row.bias < 1e-12


def test_items_that_meet_inside_the_program_are_found() -> None:
    how, program = replenishment(4, 4)
    theta = {n: torch.full((4,), v, dtype=torch.float64) for n, v in zip(PARAMETERS, (1.0, 3.0, 2.0, 3.0), strict=True)}
    how.confirm(program, theta)
    shared = {"x": torch.ones(4, dtype=torch.float64)}
    with pytest.raises(InputError, match="item 0 of output 1 depends on the parameters of other items"):
        ItemDifferences({"x": 1.0}).confirm(lambda t: (t["x"][None], (t["x"] - t["x"].mean())[None]), shared)


def test_what_does_not_fit_is_named() -> None:
    one = {"x": torch.ones(2, dtype=torch.float64, requires_grad=True)}
    with pytest.raises(InputError, match="width of x must be > 0, got 0"):
        ItemDifferences({"x": 0.0}).evaluate(lambda t: (t["x"][None],), one)[0].sum().backward()
    with pytest.raises(InputError, match=r"x at \(0,\) is 1.0, which leaves no room between 1.0 and 1.0"):
        ItemDifferences({"x": 1.0}, lower={"x": 1.0}, upper={"x": 1.0}).evaluate(lambda t: (t["x"][None],), one)[0].sum().backward()
    with pytest.raises(ShapeError, match=r"output 0 must have shape \(..., S, N\) for parameters \(2,\), got \(2,\)"):
        ItemDifferences({"x": 1.0}).evaluate(lambda t: (t["x"],), one)
    with pytest.raises(ShapeError, match=r"width of x must broadcast with \(2,\), got \(3,\)"):
        ItemDifferences({"x": torch.ones(3)}).evaluate(lambda t: (t["x"][None],), one)[0].sum().backward()
    with pytest.raises(InputError, match="width"):
        ItemDifferences({"y": 1.0}).evaluate(lambda t: (t["x"][None],), one)
    with pytest.raises(InputError, match="a bounded block"):
        ItemDifferences({"x": 1.0}, lower={"y": 0.0}).evaluate(lambda t: (t["x"][None],), one)
    (value,) = ItemDifferences({"x": 1.0}).evaluate(lambda t: (t["x"][None] ** 2,), one)
    (slope,) = torch.autograd.grad(value.sum(), one["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        torch.autograd.grad(slope.sum(), one["x"])
