"""What the data can tell: against dense linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpsc.calibrate import (
    Counted,
    Growth,
    Linearised,
    Observations,
    PeriodRows,
    effective_by_period,
    effective_from_jacobian,
    effective_parameters,
    laplace_spread,
    silent,
)
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from dpsc.types import Relaxation
from tests.calibrate.linear import NOISE, D, K, T, data, matrix, posterior, simulate

J = matrix() / NOISE


def bent(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
    """Positive series of the linear simulator, with a Jacobian that depends on the point."""
    return 1 + simulate(coordinates, relax=relax).square()


@pytest.mark.parametrize("rows", [3, 10], ids=["fewer data than parameters", "more data"])
def test_linearised_spread_is_that_of_the_exact_posterior(rows: int) -> None:
    j = J[:rows]
    expected = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + j.mT @ j).diagonal().sqrt()
    torch.testing.assert_close(laplace_spread(j), expected, atol=1e-12, rtol=0)
    if rows == 10:
        torch.testing.assert_close(laplace_spread(j), posterior(data(0)[1])[1].diagonal().sqrt(), atol=1e-12, rtol=0)
    assert silent(j).tolist() == [False] * (D - 1) + [True]


def test_effective_number_is_the_trace_of_the_resolution() -> None:
    resolution = torch.linalg.solve(torch.eye(D, dtype=torch.float64) + J.mT @ J, J.mT @ J)
    assert effective_from_jacobian(J) == pytest.approx(float(resolution.trace()))
    assert effective_from_jacobian(J) < D - 1


# ------------------------------------------------------------------------------------------------------------- products


def holes(seen: Observations) -> Observations:
    values = seen.values.clone()
    values[1, 0] = values[3:, 1] = float("nan")
    return Observations(values, NOISE)


@pytest.mark.parametrize("change", [lambda seen: seen, holes, lambda seen: Observations(seen.values, NOISE, freedom=3.0)], ids=["all", "holes", "Student's t"])
def test_products_are_those_of_the_jacobian_and_are_counted(change: Callable[[Observations], Observations]) -> None:
    truth, seen = data(0)
    seen = change(seen)
    u = truth + 0.3
    counted = Counted(bent)
    line = Linearised(counted, seen, u, relax=Exact())
    objective = lambda v: seen.misfit(bent(v[:, None], relax=Exact()))[0]  # noqa: E731
    jacobian = line.rows(batch=4)
    generator = torch.Generator().manual_seed(3)
    v, w = (torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in (D, line.count))
    torch.testing.assert_close(line.forward(v), jacobian @ v, atol=1e-10, rtol=0)
    torch.testing.assert_close(line.backward(w), jacobian.mT @ w, atol=1e-10, rtol=0)
    torch.testing.assert_close(line.backward(line.residual), torch.func.grad(objective)(u), atol=1e-10, rtol=0)
    assert line.misfit == pytest.approx(float(objective(u)))
    assert line.count == seen.count == len(jacobian)
    assert line.evaluations == counted.evaluations == seen.count + 2 + 2 + 1 + 1


@pytest.mark.parametrize("view", [None, Growth(2)], ids=["level", "growth"])
def test_rows_of_a_period_need_no_later_period(view: Growth | None) -> None:
    truth, seen = data(0)
    seen = Observations(2 + seen.values.abs(), NOISE, **({} if view is None else {"view": view}))
    rows = PeriodRows(lambda periods: lambda u, *, relax: bent(u, relax=relax)[:periods], seen, truth, relax=Exact(), begin=1)
    whole = Linearised(bent, seen, truth, relax=Exact()).rows()
    found = [rows(t) for t in range(T)]
    first = K if view is None else 0
    torch.testing.assert_close(torch.cat(found)[first:], whole[first:], atol=1e-12, rtol=0)
    assert bool((found[0] == 0).all())
    assert rows.products == len(whole) - first
    assert rows.evaluations == pytest.approx(sum(K * (t + 1) / T for t in range(1 if view is None else 2, T)))


# --------------------------------------------------------------------------------------------- effective number, in time


def test_a_whole_sweep_is_exact() -> None:
    blocks = J.view(T, K, D)
    found = effective_by_period(lambda t: blocks[t], periods=T)
    assert found.number == pytest.approx(effective_from_jacobian(J), abs=1e-12)
    assert (found.standard_error, found.lower, found.upper) == (0.0, found.number, found.number)
    for t in range(T):
        assert float(found.added[: t + 1].sum()) == pytest.approx(effective_from_jacobian(blocks[: t + 1].reshape(-1, D)), abs=1e-12)
    assert torch.equal(found.rows, J)


def test_a_short_sweep_continues_what_fades() -> None:
    """Independent rows whose strength falls geometrically: what they add is known."""
    periods, series = 40, 3
    strength = 10 * 0.9 ** torch.arange(periods, dtype=torch.float64)
    count = (strength.square() / (1 + strength.square())).sum()

    def rows(period: int) -> Tensor:
        out = torch.zeros(series, periods * series, dtype=torch.float64)
        out[torch.arange(series), period * series + torch.arange(series)] = strength[period]
        return out

    found = effective_by_period(rows, periods=periods, until=32)
    assert abs(found.number - series * float(count)) < 2 * found.standard_error < 2.0
    assert found.lower < found.number < found.upper
    assert len(found.rows) == 32 * series


# ------------------------------------------------------------------------------------------ effective number, by products


def products() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return lambda v: J @ v, lambda w: J.mT @ w


def test_conjugate_gradients_are_exact_but_for_their_signs() -> None:
    """Of a J'J that is diagonal no sign vector sees the difference, and silent coordinates drop out."""
    scales = torch.tensor([100.0, 10.0, 1.0, 0.1, 0.0], dtype=torch.float64)[:, None]
    found = effective_parameters(lambda v: scales * v, lambda w: scales * w, observations=5, dimension=5, steps=20, tolerance=1e-12)
    assert found.number == pytest.approx(float((scales**2 / (1 + scales**2)).sum()), abs=1e-9)
    assert found.products <= 4 + 2 * 5


def test_the_mean_over_signs_is_right_and_the_error_covers_it() -> None:
    forward, backward = products()
    one = [effective_parameters(forward, backward, observations=len(J), dimension=D, steps=30, tolerance=1e-12, seed=seed) for seed in range(60)]
    numbers = torch.tensor([found.number for found in one])
    exact = effective_from_jacobian(J)
    assert abs(float(numbers.mean()) - exact) < 4 * float(numbers.std()) / math.sqrt(60)
    assert float(numbers.std()) < sum(found.standard_error for found in one) / 60  # an upper estimate
    many = effective_parameters(forward, backward, observations=len(J), dimension=D, steps=30, tolerance=1e-12, probes=400, seed=1)
    assert abs(many.number - exact) < 3 * many.standard_error < 0.3
    assert many.products <= 4 + 2 * 400 * 30


def test_with_every_row_known_nothing_is_left_to_chance() -> None:
    forward, backward = products()
    found = effective_parameters(forward, backward, observations=len(J), dimension=D, rows=J, steps=5)
    assert found.number == pytest.approx(effective_from_jacobian(J), abs=1e-9)
    assert found.standard_error < 1e-7
    last = torch.arange(4, len(J))
    some = effective_parameters(forward, backward, observations=len(J), dimension=D, rows=J[last], which=last, steps=40, tolerance=1e-12, probes=200)
    assert abs(some.number - effective_from_jacobian(J)) < 3 * some.standard_error


def test_error_texts() -> None:
    truth, seen = data(0)
    with pytest.raises(ShapeError, match=r"jacobian must have shape \(observations, D\), got \(3,\)"):
        laplace_spread(torch.zeros(3))
    with pytest.raises(InputError, match="probes must be an integer >= 1, got 0"):
        effective_parameters(lambda v: v, lambda w: w, observations=3, dimension=3, probes=0)
    with pytest.raises(ShapeError, match=r"rows must have shape \(R, D\) with D = 3, got \(2, 2\)"):
        effective_parameters(lambda v: v, lambda w: w, observations=3, dimension=3, rows=torch.zeros(2, 2))
    with pytest.raises(ShapeError, match="which must hold the place of each of the 2 rows"):
        effective_parameters(lambda v: v, lambda w: w, observations=3, dimension=3, rows=torch.zeros(2, 3), which=torch.arange(3))
    with pytest.raises(InputError, match="products with the Jacobian must be finite, got 12 of 12 entries of J'w not"):
        effective_parameters(lambda v: v, lambda w: w * float("nan"), observations=3, dimension=3)
    with pytest.raises(InputError, match="until must be at most periods = 5, got 6"):
        effective_by_period(lambda t: J[t : t + 1], periods=5, until=6)
    with pytest.raises(InputError, match="three periods that tell something, got 2 of 2 swept"):
        effective_by_period(lambda t: J[t : t + 1], periods=5, until=2)
    with pytest.raises(ShapeError, match=r"point must have shape \(D,\), got \(6, 1\)"):
        Linearised(bent, seen, truth[:, None], relax=Exact())
    with pytest.raises(ShapeError, match=r"v must have shape \(6,\) or \(6, V\), got \(5,\)"):
        Linearised(bent, seen, truth, relax=Exact()).forward(truth[:5])
    with pytest.raises(InputError, match="the simulation must be finite at the point, got 10 of 10 residuals that are not"):
        _ = Linearised(lambda u, *, relax: bent(u, relax=relax) / 0, seen, truth, relax=Exact()).residual
