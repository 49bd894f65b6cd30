"""Guaranteed service: how long each stage of a tree may make its customers wait, so that safety stock is cheapest.

Stage k waits for the longest of its suppliers' promises, SI_k, needs T_k to process and promises S_k itself, so it holds stock for a time
SI_k + T_k - S_k >= 0 of bounded demand: h_k z sigma_k sqrt(SI_k + T_k - S_k). Stages that face customers promise at most what is asked of them.
Source: Graves & Willems (2000), doi:10.1287/msom.2.1.68.23267; Snyder & Shen (2019), section 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class ServicePlan:
    """`service_times` S_k promised by every stage, periods, and the `cost` of the safety stock, money a period."""

    service_times: tuple[int, ...]
    cost: float


@dataclass(frozen=True)
class GuaranteedService:
    """The network: a tree, once the direction of its links is forgotten.

    Args:
        links: pairs (supplier, customer) of stages 0 ... N - 1.
        processing_time: `N` whole periods T_k >= 0.
        holding_cost: `N` h_k > 0, money a unit and period.
        deviation: `N` standard deviations of a period's demand at stages that face customers, 0 at the others, units.
        safety_factor: z > 0 of the bounded demand.
        inbound: stage -> service time promised by its outside supplier; 0 where missing.
        outbound: stage that faces customers -> longest service time they accept; 0 where missing.
    Raises: InputError for what is no tree.
    """

    links: Sequence[tuple[int, int]]
    processing_time: Sequence[int]
    holding_cost: Sequence[float]
    deviation: Sequence[float]
    safety_factor: float
    inbound: dict[int, int]
    outbound: dict[int, int]

    def __post_init__(self) -> None:
        n = len(self.processing_time)
        if not n or len(self.holding_cost) != n or len(self.deviation) != n:
            raise InputError(
                f"processing_time, holding_cost and deviation must have one entry a stage, got {n}, {len(self.holding_cost)} and {len(self.deviation)}"
            )
        for time in self.processing_time:
            checks.at_least("processing_time", time, 0)
        checks.positive("safety_factor", self.safety_factor)
        together = list(range(n))
        for a, b in self.links:
            if not (0 <= a < n and 0 <= b < n):
                raise InputError(f"links must join stages 0 ... {n - 1}, got {(a, b)}")
            if together[a] == together[b]:
                raise InputError(f"links must form a tree, got a second way between stages {a} and {b}")
            together = [together[a] if x == together[b] else x for x in together]
        if len(self.links) != n - 1:
            raise InputError(f"links must join all {n} stages into one tree, got {len(self.links)} links")

    @cached_property
    def suppliers(self) -> list[list[int]]:
        """Of every stage."""
        return [[a for a, b in self.links if b == k] for k in range(len(self.processing_time))]

    @cached_property
    def customers(self) -> list[list[int]]:
        """Of every stage, within the network."""
        return [[b for a, b in self.links if a == k] for k in range(len(self.processing_time))]

    @cached_property
    def downstream(self) -> list[int]:
        """The stages, suppliers before their customers."""
        listed: list[int] = []
        while len(listed) < len(self.processing_time):
            listed += [k for k in range(len(self.processing_time)) if k not in listed and all(i in listed for i in self.suppliers[k])]
        return listed

    @cached_property
    def longest(self) -> list[int]:
        """The longest time to be replenished, SI_k + T_k at most."""
        times: dict[int, int] = {}

        def of(k: int) -> int:
            if k not in times:
                times[k] = max([self.inbound.get(k, 0), *(of(i) for i in self.suppliers[k])]) + self.processing_time[k]
            return times[k]

        return [of(k) for k in range(len(self.processing_time))]

    @cached_property
    def price(self) -> list[float]:
        """h_k z sigma_k: money for the square root of a period."""
        variance: dict[int, float] = {}

        def of(k: int) -> float:
            if k not in variance:
                variance[k] = self.deviation[k] ** 2 + sum(of(j) for j in self.customers[k])
            return variance[k]

        return [h * self.safety_factor * of(k) ** 0.5 for k, h in enumerate(self.holding_cost)]

    def cost(self, service_times: Sequence[int]) -> float:
        """Of any promises.

        Raises: InputError for a promise that cannot be kept (longer than the time to be replenished is never needed), or is too long for a customer.
        """
        total = 0.0
        for k, promised in enumerate(service_times):
            incoming = max([self.inbound.get(k, 0), *(service_times[i] for i in self.suppliers[k])])
            net = incoming + self.processing_time[k] - promised
            if net < 0 or promised < 0:
                raise InputError(f"service_times must lie in [0, SI + T], got {promised} at stage {k}, where SI + T = {incoming + self.processing_time[k]}")
            if not self.customers[k] and promised > self.outbound.get(k, 0):
                raise InputError(f"service_times must be at most {self.outbound.get(k, 0)} at stage {k}, which faces customers, got {promised}")
            total += self.price[k] * net**0.5
        return total

    def optimum(self) -> ServicePlan:
        """By dynamic programming over the tree, from its leaves to stage 0: a table of costs over (S_k, SI_k) a stage."""
        top = max(self.longest)
        promised, incoming = numpy.arange(top + 1)[:, None], numpy.arange(top + 1)[None]
        choice = [0] * len(self.processing_time)

        def table(k: int, parent: int) -> numpy.ndarray:
            net = incoming + self.processing_time[k] - promised
            cost = numpy.where(net >= 0, self.price[k] * numpy.maximum(net, 0) ** 0.5, numpy.inf)
            cost = numpy.where(incoming < self.inbound.get(k, 0), numpy.inf, cost)
            if not self.customers[k]:
                cost = numpy.where(promised > self.outbound.get(k, 0), numpy.inf, cost)
            for i in self.suppliers[k]:
                if i != parent:  # the supplier promises no more than SI_k
                    cost = cost + numpy.minimum.accumulate(tables(i, k).min(1))[None]
            for j in self.customers[k]:
                if j != parent:  # the customer counts on S_k or more
                    cost = cost + numpy.minimum.accumulate(tables(j, k).min(0)[::-1])[::-1][:, None]
            return cost

        known: dict[tuple[int, int], numpy.ndarray] = {}

        def tables(k: int, parent: int) -> numpy.ndarray:
            if (k, parent) not in known:
                known[k, parent] = table(k, parent)
            return known[k, parent]

        def follow(k: int, parent: int, allowed: numpy.ndarray) -> None:
            cost = numpy.where(allowed, tables(k, parent), numpy.inf)
            s, si = (int(x) for x in numpy.unravel_index(int(cost.argmin()), cost.shape))
            choice[k] = s
            for i in self.suppliers[k]:
                if i != parent:
                    follow(i, k, promised + 0 * incoming <= si)
            for j in self.customers[k]:
                if j != parent:
                    follow(j, k, incoming + 0 * promised >= s)

        follow(0, -1, numpy.ones((top + 1, top + 1), dtype=bool))
        return ServicePlan(tuple(choice), float(tables(0, -1).min()))
