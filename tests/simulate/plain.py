"""The inventory world once more, for one path, in plain Python with whole numbers: slow, and written without a look at how tensors would do it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


@dataclass
class Plain:
    """One path. `stock[i]` is a list of [periods of life left, units]; arrivals and returns are kept by the period they are due in."""

    edges: list[tuple[int, dict[int, int]]]
    on_hand: list[int]
    shelf_life: list[float]
    newest: bool
    wait: list[Fraction]
    return_rate: list[Fraction]
    priority: list[int] | None
    pack: list[int] | None
    minimum: list[int] | None
    capacity: list[int] | None
    review: list[int]
    backorder: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        points = len(self.on_hand)
        self.stock: list[list[list[float]]] = [[[self.shelf_life[i], units]] for i, units in enumerate(self.on_hand)]
        self.backorder = [0] * points
        self.arrivals: dict[int, list[int]] = defaultdict(lambda: [0] * len(self.edges))
        self.returns: dict[int, list[int]] = defaultdict(lambda: [0] * points)
        self.log: list[dict[str, Any]] = []

    def held(self, i: int) -> int:
        return int(sum(units for _, units in self.stock[i]))

    def put(self, i: int, units: int) -> None:
        self.stock[i].append([self.shelf_life[i], units])

    def take(self, i: int, units: int) -> None:
        lots = sorted(self.stock[i], key=lambda lot: lot[0], reverse=self.newest)
        for lot in lots:
            out = min(lot[1], units)
            lot[1] -= out
            units -= int(out)
        assert units == 0

    def receive(self, t: int, share: Fraction, at: dict[str, Any]) -> None:
        now = self.log[-1]
        for e, (to, _) in enumerate(self.edges):
            part = math.floor(self.arrivals[t][e] * share)
            self.arrivals[t][e] -= part
            good = math.floor(part * at["yield"][e] + at["yield_uniform"][e])
            self.put(to, good)
            now["received"][to] += good
            now["spoiled"][e] += part - good
        for i in range(len(self.stock)):
            self.put(i, self.returns[t][i])
            now["returned"][i] += self.returns[t][i]
            self.returns[t][i] = 0

    def given(self, i: int, wishes: list[int]) -> list[int]:
        held = self.held(i)
        if self.priority is not None:
            left, result = held, [0] * len(wishes)
            for e in sorted(range(len(wishes)), key=lambda e: (-self.priority[e], e)):  # type: ignore[index]
                result[e] = min(left, wishes[e])
                left -= result[e]
            return result
        total, running, before, result = sum(wishes), 0, 0, []
        for wish in wishes:
            running += wish
            share = running if total <= held else running * held // total
            result.append(share - before)
            before = share
        return result

    def order(self, t: int, at: dict[str, Any]) -> None:
        now, wanted = self.log[-1], []
        for e, quantity in enumerate(at["order"]):
            if self.pack:
                quantity = self.pack[e] * round(Fraction(quantity, self.pack[e]))
            if self.minimum:
                quantity = 0 if 2 * quantity < self.minimum[e] else max(quantity, self.minimum[e])
            if self.capacity:
                quantity = min(quantity, self.capacity[e])
            wanted.append(quantity if at["running"][e] and t % self.review[e] == 0 else 0)
        shipped = list(wanted)
        for i in range(len(self.stock)):
            wishes = [wanted[e] * draws.get(i, 0) for e, (_, draws) in enumerate(self.edges)]
            for e, (units, (_, draws)) in enumerate(zip(self.given(i, wishes), self.edges, strict=True)):
                if i in draws:
                    shipped[e] = min(shipped[e], units // draws[i])
        for e, (_, draws) in enumerate(self.edges):
            for i, units in draws.items():
                self.take(i, shipped[e] * units)
            self.arrivals[t + at["lead_time"][e]][e] += shipped[e]
        now["ordered"], now["shipped"], now["placed"] = wanted, shipped, [int(q > 0) for q in wanted]

    def serve(self, t: int, at: dict[str, Any]) -> None:
        now = self.log[-1]
        for i, demand in enumerate(at["demand"]):
            owed = self.backorder[i] + demand
            sales = min(self.held(i), owed)
            self.take(i, sales)
            new = min(owed - sales, demand)
            lost = new - math.floor(self.wait[i] * new + at["wait_uniform"][i])
            if self.wait[i] in (0, 1):
                lost = int((1 - self.wait[i]) * new)
            self.backorder[i] = owed - sales - lost
            self.returns[t + at["return_lag"][i]][i] += math.floor(self.return_rate[i] * sales + at["return_uniform"][i])
            now["sales"][i], now["lost_sales"][i] = sales, lost

    def expire(self, t: int, at: dict[str, Any]) -> None:
        for i, lots in enumerate(self.stock):
            for lot in lots:
                lot[0] -= 1
                if lot[0] == 0:
                    self.log[-1]["waste"][i] += lot[1]
                    lot[1] = 0

    def period(self, t: int, events: list[str], at: dict[str, Any]) -> None:
        points, edges = len(self.stock), len(self.edges)
        empty = {"received": points, "returned": points, "sales": points, "lost_sales": points, "waste": points, "spoiled": edges}
        self.log.append({name: [0] * size for name, size in empty.items()})
        for event in events:
            if event == "half":
                self.receive(t, Fraction(1, 2), at)
            elif event == "receive":
                self.receive(t, Fraction(1), at)
            else:
                getattr(self, event)(t, at)
        self.log[-1] |= {"on_hand": [self.held(i) for i in range(points)], "backorder": list(self.backorder)}
        for later in range(edges):  # what was not let in stays at the gate
            self.arrivals[t + 1][later] += self.arrivals[t][later]
