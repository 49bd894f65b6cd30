"""Orders under minimum quantities that share a budget and containers: an integer plan, and a bound that proves how good it is.

min sum_i c_i(q_i) + K n over whole q_i in {0} or M_i ... Q and whole n >= 0, subject to sum p_i q_i <= B and f W n <= sum v_i q_i <= W n.
With prices lambda >= 0 of money and mu of volume the problem falls apart into items, and sum_i min_q [c_i(q) + (lambda p_i + mu v_i) q] - lambda B +
n (K - W mu) (f W instead of W where mu < 0) bounds every plan with n containers from below. Its maximum over the prices is convex in n, so the bound over
all n is found by walking n until it rises. Plans come from the same prices: whatever is ambiguous under them is settled by a small integer program.
Source: Everett (1963), doi:10.1287/opre.11.3.399; Fisher (1981), doi:10.1287/mnsc.27.1.1, for the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

ENUMERATE_BELOW = 5000  # items; more of them make the rounding of a container invisible
HALVINGS = 60


class Containers(NamedTuple):
    """What moves the orders: volume W of one, its cost K, and the smallest fill f on average."""

    volume: float
    cost: float
    smallest_fill: float = 0.0


@dataclass(frozen=True)
class BoundedOrders:
    """An integer plan with its proof.

    Attributes:
        decision: `(N,)` whole orders, units.
        containers: how many, 0 without containers.
        value: cost of the plan, money.
        bound: no plan costs less.
        budget_price: lambda, money saved by one more unit of budget, at the bound.
        volume_price: mu, money a unit of volume, at the bound.
        spent: sum of p q.
        filled: sum of v q.
    """

    decision: Tensor
    containers: int
    value: float
    bound: float
    budget_price: float
    volume_price: float
    spent: float
    filled: float

    @property
    def gap_pct(self) -> float:
        """100 (value / bound - 1)."""
        return 100 * (self.value / self.bound - 1) if self.bound else 0.0


@dataclass(frozen=True, eq=False)
class OrderPlan:
    """The problem: costs of every whole order, and what they share.

    Args:
        cost: `(N, Q + 1)` expected cost of ordering 0 ... Q units, the fixed cost of an order included; convex from 1 on.
        minimum_order: `(N,)` smallest order M, whole, 0 <= M <= Q.
        price: `(N,)` money a unit, > 0.
        budget: B >= 0, money.
        volume: `(N,)` volume a unit, > 0; with `containers`.
        containers: None where volume is free.
    Raises: InputError, ShapeError.
    """

    cost: Tensor
    minimum_order: Tensor
    price: Tensor
    budget: float
    volume: Tensor | None = None
    containers: Containers | None = None

    def __post_init__(self) -> None:
        checks.finite("cost", checks.floating("cost", self.cost))
        if self.cost.dim() != 2 or self.cost.shape[1] < 2 or self.cost.shape[0] < 1:
            raise ShapeError(f"cost must have shape (N, Q + 1) with N >= 1 and Q >= 1, got {tuple(self.cost.shape)}")
        if (self.containers is None) != (self.volume is None):
            raise InputError("volume and containers belong together, got only one of them")
        for name, value, low in (("minimum_order", self.minimum_order, 0.0), ("price", self.price, None), ("volume", self.volume, None)):
            if value is None:
                continue
            checks.finite(name, checks.floating(name, value))
            checks.same_shape(name, value, "the items of cost", self.cost[:, 0])
            if low is None and float(value.min()) <= 0:
                raise InputError(f"{name} must be > 0, got {float(value.min())} for item {int(value.argmin())}")
        smallest, largest = self.minimum_order, self.cost.shape[1] - 1
        wrong = (smallest != smallest.round()) | (smallest < 0) | (smallest > largest)
        if bool(wrong.any()):
            item = int(wrong.nonzero()[0, 0])
            raise InputError(f"minimum_order must be whole and lie in [0, {largest}], got {float(smallest[item])} for item {item}")
        slack = 1e-9 * self.cost.abs().amax(1)
        bent = self.cost[:, 1:].diff(dim=1).diff(dim=1).amin(1) < -slack if largest >= 3 else torch.zeros_like(slack, dtype=torch.bool)
        if bool(bent.any()):
            raise InputError(f"cost must be convex from an order of 1 on, got a bend the other way for item {int(bent.nonzero()[0, 0])}")
        if not (isinstance(self.budget, (int, float)) and self.budget >= 0):
            raise InputError(f"budget must be >= 0, got {self.budget!r}")
        if self.containers is not None:
            checks.positive("containers.volume", self.containers.volume)
            if not self.containers.cost >= 0:
                raise InputError(f"containers.cost must be >= 0, got {self.containers.cost!r}")
            if not 0 <= self.containers.smallest_fill <= 1:
                raise InputError(f"containers.smallest_fill must lie in [0, 1], got {self.containers.smallest_fill!r}")

    def solve(self) -> BoundedOrders:
        """A plan and a bound.

        Returns: the best plan found; its value is the cost of whole, allowed orders within budget and containers, the bound holds for every such plan.
        """
        return _Solver(self).solve()

    def check(self, decision: Tensor, containers: int) -> tuple[float, list[str]]:
        """Cost of a plan, and what it breaks, computed from the definition alone."""
        wrong = []
        q, largest = decision, self.cost.shape[1] - 1
        if not torch.equal(q, q.round()):
            wrong.append("orders that are not whole")
        if bool(((q != 0) & (q < self.minimum_order)).any()) or bool(((q < 0) | (q > largest)).any()):
            wrong.append("orders below their minimum or above the largest")
        if float((self.price * q).sum()) > self.budget * (1 + 1e-12):
            wrong.append("budget")
        value = float(self.cost.gather(1, q.clamp(0, largest).long()[:, None]).sum())
        if self.containers is not None:
            assert self.volume is not None
            filled, one = float((self.volume * q).sum()), self.containers
            if not one.smallest_fill * one.volume * containers * (1 - 1e-12) <= filled <= one.volume * containers * (1 + 1e-12):
                wrong.append("volume")
            value += one.cost * containers
        return value, wrong


class _Solver:
    """Prices, plans and bounds of one problem; everything it keeps is sorted for fast evaluation at a price."""

    def __init__(self, plan: OrderPlan) -> None:
        self.plan = plan
        self.cost = plan.cost.double().contiguous()
        self.smallest = plan.minimum_order.double().clamp_min(1)
        self.slope = torch.cummax(self.cost[:, 1:].diff(dim=1), 1).values.contiguous()  # of the step from q to q + 1, q >= 1; rises
        self.nothing = self.cost[:, 0]
        self.price = plan.price.double()
        self.volume = plan.volume.double() if plan.volume is not None else torch.zeros_like(self.price)
        one = plan.containers
        self.size, self.fee, self.fill = (one.volume, one.cost, one.smallest_fill) if one is not None else (0.0, 0.0, 0.0)

    def respond(self, budget_price: float, volume_price: float) -> tuple[Tensor, Tensor]:
        """Best order of every item at these prices, and its cost with them; no order wins a tie."""
        each = budget_price * self.price + volume_price * self.volume
        q = torch.searchsorted(self.slope, (-each)[:, None])[:, 0] + 1.0
        q = torch.maximum(q, self.smallest)
        ordered = self.cost.gather(1, q.long()[:, None])[:, 0] + each * q
        take = ordered < self.nothing
        return torch.where(take, q, torch.zeros_like(q)), torch.where(take, ordered, self.nothing)

    def best_budget_price(self, volume_price: float) -> tuple[float, float]:
        """argmax over lambda of the dual at a given mu, and its value without the container terms."""

        def over(budget_price: float) -> bool:
            return float(self.price @ self.respond(budget_price, volume_price)[0]) > self.plan.budget

        if not over(0.0):
            return 0.0, float(self.respond(0.0, volume_price)[1].sum())
        low, high = 0.0, 1.0
        while over(high):
            low, high = high, 2 * high
            if high > 1e15:
                break
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            low, high = (middle, high) if over(middle) else (low, middle)
        return high, float(self.respond(high, volume_price)[1].sum()) - high * self.plan.budget

    def bound(self, containers: int | None) -> tuple[float, float, float]:
        """Largest lower bound found with n containers (None: with any number), and the prices that prove it."""
        if not self.size:
            price, value = self.best_budget_price(0.0)
            return value, price, 0.0
        if containers is None:  # a whole number of containers costs at least its volume's share of them
            mu = self.fee / self.size
            price, value = self.best_budget_price(mu)
            return value, price, mu

        def dual(mu: float) -> tuple[float, float]:
            price, value = self.best_budget_price(mu)
            return value + containers * (self.fee - self.size * (mu if mu >= 0 else self.fill * mu)), price

        width = 1.0 + float((self.nothing / self.volume).max())
        low, high = -width, width
        golden = 0.5 * (5**0.5 - 1)
        one, two = high - golden * (high - low), low + golden * (high - low)
        first, second = dual(one), dual(two)
        best = max((*first, one), (*second, two))
        for _ in range(80):  # any prices prove a bound, so stopping early costs only sharpness
            if first[0] >= second[0]:
                high, two, second = two, one, first
                one = high - golden * (high - low)
                first = dual(one)
                best = max(best, (*first, one))
            else:
                low, one, first = one, two, second
                two = low + golden * (high - low)
                second = dual(two)
                best = max(best, (*second, two))
            if high - low < 1e-10 * width:
                break
        return best

    def solve(self) -> BoundedOrders:
        free, price, mu = self.bound(None)
        order, _ = self.respond(price, mu)
        found = self._packed(order, price, mu)
        if not self.size:
            if len(self.price) <= ENUMERATE_BELOW:
                found = min(found, self._settle(price, mu, None, found[0] - free), key=lambda plan: plan[0])
            return self._result(found, free, price, mu)
        if len(self.price) > ENUMERATE_BELOW:
            return self._result(found, free, price, mu)
        n = max(round(float(self.volume @ order) / self.size), 0)
        bounds: dict[int, tuple[float, float, float]] = {}

        def at(k: int) -> float:
            if k not in bounds:
                bounds[k] = self.bound(k)
            return bounds[k][0]

        while n > 0 and at(n - 1) < at(n):
            n -= 1
        while at(n + 1) < at(n):
            n += 1
        for k in (n, n - 1, n + 1):  # convex in n: further away the bound is higher still
            if k >= 0 and at(k) < found[0]:
                found = min(found, self._settle(bounds[k][1], bounds[k][2], k, found[0] - at(k)), key=lambda plan: plan[0])
        return self._result(found, max(free, at(n)), *bounds[n][1:])

    def _result(self, found: tuple[float, Tensor, int], bound: float, price: float, mu: float) -> BoundedOrders:
        _, order, n = found
        value, wrong = self.plan.check(order, n)
        assert not wrong, wrong
        return BoundedOrders(order.to(self.plan.cost.dtype), n, value, min(bound, value), price, mu, float(self.price @ order), float(self.volume @ order))

    def _packed(self, order: Tensor, price: float, mu: float) -> tuple[float, Tensor, int]:
        """A plan within the budget, with as many containers as it needs; orders fall away, cheapest first, if they are too empty."""
        fallback = (float(self.nothing.sum()), torch.zeros_like(order), 0)
        if not self.size:
            return (float(self.cost.gather(1, order.long()[:, None]).sum()), order, 0)
        for _ in range(50):
            filled = float(self.volume @ order)
            n = int(numpy.ceil(filled / self.size - 1e-12))
            if filled >= self.fill * self.size * n:
                return (float(self.cost.gather(1, order.long()[:, None]).sum()) + self.fee * n, order, n)
            mu = mu * 1.02 + 1e-3 if n > 1 else mu * 2 + 1e-2
            order, _ = self.respond(max(price, self.best_budget_price(mu)[0]), mu)
        return fallback

    def _settle(self, price: float, mu: float, containers: int | None, slack: float) -> tuple[float, Tensor, int]:
        """Integer program over the orders whose reduced cost does not already exceed the slack: what was left out cannot be in a better plan."""
        from scipy import optimize, sparse

        each = (price * self.price + mu * self.volume)[:, None]
        q = torch.arange(self.cost.shape[1], dtype=torch.float64)
        reduced = self.cost + each * q
        allowed = (q == 0) | (q >= self.plan.minimum_order.double()[:, None])
        reduced = torch.where(allowed, reduced, torch.inf)
        reduced = reduced - reduced.amin(1, keepdim=True)
        # All that matter when they are few; otherwise the most promising, and the proof rests on the bound alone.
        cut = min(slack, float(torch.sort(reduced.flatten()).values[min(20 * len(each), reduced.numel() - 1)]))
        item, option = (reduced <= cut).nonzero(as_tuple=True)
        cost = self.cost[item, option].numpy()
        rows, columns, ones = item.numpy(), numpy.arange(len(item)), numpy.ones(len(item))
        spend, space = self.price[item].numpy() * option.numpy(), self.volume[item].numpy() * option.numpy()
        limits = [
            optimize.LinearConstraint(sparse.csr_matrix((ones, (rows, columns)), shape=(len(each), len(item))), 1, 1),
            optimize.LinearConstraint(spend[None], -numpy.inf, self.plan.budget),
        ]
        if containers is not None:
            limits.append(optimize.LinearConstraint(space[None], self.fill * self.size * containers, self.size * containers))
        found = optimize.milp(cost, integrality=ones, bounds=optimize.Bounds(0, 1), constraints=limits, options={"time_limit": 20.0, "mip_rel_gap": 1e-7})
        if found.x is None:
            return (numpy.inf, torch.zeros_like(self.price), 0)
        chosen = found.x > 0.5
        order = torch.zeros_like(self.price)
        order[item[chosen]] = option[chosen].double()
        n = containers or 0
        value, wrong = self.plan.check(order, n)
        return (numpy.inf if wrong else value, order, n)
