"""Serial systems with backorders: the optimal echelon base-stock levels, and the exact cost of any others, by the recursion of Clark and Scarf.

Stage 1 faces the customer, stage n orders from an unlimited supplier; every stage raises its echelon position to its level as far as the stock upstream
allows. With echelon holding costs e_i = h_i - h_{i+1} and D_i the demand that stage i must cover, C_i(y) = E[e_i (y - D_i) + G_{i-1}(y - D_i)], where
G_0(x) = (p + h_1) [-x]^+ and G_i(x) = C_i(min(x, S_i)) is what a stage costs that may find its supplier empty; S_i minimises C_i.
Source: Clark & Scarf (1960), doi:10.1287/mnsc.6.4.475; Snyder & Shen (2019), chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class SerialCost:
    """`cost` a period of the echelon base-stock `levels`, stage 1 first."""

    cost: float
    levels: tuple[float, ...]


def serial_cost(
    *,
    mean_demand: float,
    deviation: float,
    clipped: bool,
    holding_cost: Sequence[float],
    lead_time: Sequence[float],
    stockout_cost: float,
    order_first: bool,
    charge_pipeline: bool = False,
    levels: Sequence[float] | None = None,
    step: float = 0.01,
    law: str = "normal",
    tail: float = 0.0,
) -> SerialCost:
    """Exact average cost of a serial system under normal or Poisson demand.

    Args:
        mean_demand: a period, units.
        deviation: standard deviation, units; that of Poisson demand is the root of its mean, whatever is given.
        clipped: whether negative demand becomes 0.
        holding_cost: h_1 > h_2 > ... > 0, money a unit on hand at the end of a period.
        lead_time: L_i > 0 periods; whole ones where demand is clipped. Under continuous review, a fraction covers the demand of that time.
        stockout_cost: p > 0, money a unit backordered at stage 1.
        order_first: the order of a period: receive, order, demand (stage 1 covers L_1 + 1 demands) or receive, demand, order (L_1).
        charge_pipeline: whether units on their way from stage i + 1 to i cost h_{i+1}.
        levels: echelon base-stock levels to price; the best ones where None.
        step: of the grid, units; the error falls with its square. Poisson demand has a step of 1.
        law: "normal" or "poisson", of demand.
        tail: of Poisson demand over a lead time, the probability that is counted at its quantile instead of beyond; 0 is exact, more is a convention.
    Returns: cost and levels (on the grid).
    Raises: InputError.
    """
    from scipy import signal

    checks.one_of("law", law, ("normal", "poisson"))
    h, lead = (
        [float(x) for x in holding_cost],
        [float(checks.at_least("lead_time", int(x), 1) if clipped else checks.positive("lead_time", x)) for x in lead_time],
    )
    stages = len(h)
    if len(lead) != stages or not stages or (levels is not None and len(levels) != stages):
        raise InputError(f"holding_cost, lead_time and levels must have one entry a stage, got {stages}, {len(lead)} and {len(levels or h)}")
    if any(a <= b for a, b in zip(h, [*h[1:], 0.0], strict=True)):
        raise InputError(f"holding_cost must fall from stage to stage and stay > 0, got {h}")
    for name, value in (("deviation", deviation), ("stockout_cost", stockout_cost), ("step", step), ("mean_demand", mean_demand)):
        checks.positive(name, value)
    if law == "poisson":
        step, deviation = 1.0, mean_demand**0.5
    covered = [lead[0] + int(order_first), *lead[1:]]
    laws = [_covered(mean_demand, deviation, clipped, periods, step, law, tail) for periods in covered]
    start, one = _covered(mean_demand, deviation, clipped, 1.0, step, law)
    mean = float(one @ (step * numpy.arange(start, start + len(one))))

    reach = int(numpy.ceil((mean_demand * sum(covered) + 10 * deviation * sum(covered) ** 0.5 + 10) / step))
    grid = step * numpy.arange(-reach, reach + 1)
    passed_on = (stockout_cost + h[0]) * numpy.maximum(-grid, 0.0)
    found: list[float] = []
    total = 0.0
    for stage in range(stages):
        low, weight = laws[stage]  # the covered demand is (low, low + 1, ...) steps
        high = low + len(weight) - 1
        each = (h[stage] - (h[stage + 1] if stage + 1 < stages else 0.0)) * grid + passed_on
        # The grid minus the demand leaves the grid: go on with the slopes of its ends.
        before, behind = max(high, 0), max(-low, 0)
        wide = numpy.concatenate(
            [each[0] + (each[1] - each[0]) * numpy.arange(-before, 0), each, each[-1] + (each[-1] - each[-2]) * numpy.arange(1, behind + 1)]
        )
        expected = signal.fftconvolve(wide, weight, mode="valid")[before - high :][: len(grid)]
        at = int(expected.argmin()) if levels is None else int(numpy.abs(grid - levels[stage]).argmin())
        found.append(float(grid[at]))
        total = float(expected[at])
        passed_on = numpy.where(numpy.arange(len(grid)) <= at, expected, expected[at])
    # Echelon costs are counted on stock before the last demand, and hold the pipeline: take both back.
    if order_first and stages > 1:
        total -= h[1] * mean
    if not charge_pipeline:
        total -= sum(h[i + 1] * mean * lead[i] for i in range(stages - 1))
    return SerialCost(total, tuple(found))


def _covered(mean: float, deviation: float, clipped: bool, periods: float, step: float, law: str, tail: float = 0.0) -> tuple[int, numpy.ndarray]:
    """Demand of some periods on the grid: its first value, in steps, and the probabilities of it and those after it."""
    from scipy import signal, stats

    if law == "poisson":
        last = int(stats.poisson(mean * periods).ppf(1 - (tail or 1e-13))) + (0 if tail else 1)
        weight = stats.poisson(mean * periods).pmf(numpy.arange(last + 1))
        weight[-1] += 1 - weight.sum()
        return 0, weight
    spread, centre = deviation * (1 if clipped else periods**0.5), mean * (1 if clipped else periods)
    first, last = 0 if clipped else int(numpy.floor((centre - 8 * spread) / step)), int(numpy.ceil((centre + 8 * spread) / step))
    edges = (numpy.arange(first, last) + 0.5) * step
    one = numpy.diff(numpy.concatenate([[0.0], stats.norm(centre, spread).cdf(edges), [1.0]]))
    weight = one
    for _ in range(round(periods) - 1 if clipped else 0):
        weight = numpy.maximum(signal.fftconvolve(weight, one), 0.0)
    return first, weight / weight.sum()
