"""Lost sales with a lead time as a Markov chain on whole units: the average cost of a rule that rounds at random, and its exact gradient.

State (x_0, ..., x_{L-1}): on hand after today's receipt, then what arrives in 1 ... L - 1 periods. Each period: order z, meet demand D from x_0, lose what is
short, pay h (x_0 - D)^+ + p (D - x_0)^+; the order arrives L periods later. A real order q is placed as floor(q), or one more with the probability of the
remainder (`dpsc.relax.Rounded`), so that every order is whole while the cost is differentiable in q.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError


class ChainMemory(NamedTuple):
    """Where the power iterations stand, `(n,)` each: the share of time in every state, and the cost to go relative to the empty state."""

    share: Tensor
    value: Tensor


class LostSalesChain:
    """All states that orders within the bounds can lead to, and the law that moves between them.

    Attributes:
        states: `(n, L)` units.
        room: `(n,)` largest order in each state.
        period_cost: `(n,)` expected money.

    Args:
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        lead_time: L >= 1 periods.
        holding_cost: h, money a unit left.
        stockout_cost: p, money a unit of lost demand.
        bounds: L + 1 levels that do not fall: an order and the k orders placed before it add up to no more than `bounds[k]`; with all stock, to `bounds[L]`.
        dtype: of the iterations; float32 is enough to train.
    Raises: InputError.
    """

    def __init__(
        self,
        demand_pmf: Tensor,
        *,
        lead_time: int,
        holding_cost: float,
        stockout_cost: float,
        bounds: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        checks.at_least("lead_time", lead_time, 1)
        checks.positive("holding_cost", holding_cost)
        checks.positive("stockout_cost", stockout_cost)
        checks.finite("demand_pmf", checks.floating("demand_pmf", demand_pmf))
        if demand_pmf.dim() != 1 or float(demand_pmf.min()) < 0 or abs(float(demand_pmf.sum()) - 1) > 1e-9:
            raise InputError(f"demand_pmf must be a vector of probabilities that add up to 1, got a sum of {float(demand_pmf.sum())}")
        if len(bounds) != lead_time + 1 or any(b < a for a, b in zip([1, *bounds], bounds, strict=False)):
            raise InputError(f"bounds must be lead_time + 1 = {lead_time + 1} whole levels >= 1 that do not fall, got {list(bounds)}")
        self.lead_time, self.largest, self.highest = lead_time, int(bounds[0]), int(bounds[-1])
        device = demand_pmf.device
        shape = (self.highest + 1, *[self.largest + 1] * (lead_time - 1))
        grid = torch.meshgrid(*[torch.arange(k, device=device) for k in shape], indexing="ij")
        inside = torch.ones(shape, dtype=torch.bool, device=device)
        room, due = torch.full(shape, self.largest, device=device), torch.zeros(shape, dtype=torch.long, device=device)
        for place in range(lead_time - 1, -1, -1):
            due = due + grid[place]
            inside &= due <= (bounds[lead_time - place - 1] if place else self.highest)
            room = torch.minimum(room, bounds[lead_time - place] - due)
        whole = torch.stack([x[inside] for x in grid], -1)
        self.states, self.room = whole.to(dtype), room[inside].to(dtype)

        pmf = demand_pmf.double()
        stock = torch.arange(self.highest + 1, device=device)
        left = stock[:, None] - torch.arange(len(pmf), device=device)
        leftover = torch.zeros(len(stock), len(stock), dtype=torch.float64, device=device)
        leftover.index_put_((stock[:, None].expand_as(left), left.clamp_min(0)), pmf.expand_as(left), accumulate=True)
        self._leftover = leftover.to(dtype)  # [x, y] probability that (x - D)^+ = y
        each = (pmf * (holding_cost * left.clamp_min(0) + stockout_cost * (-left).clamp_min(0))).sum(1).to(dtype)
        self.period_cost = each[whole[:, 0]]

        # A box is stored as (on hand, column of what is due). Before demand, (arriving next, on hand, column of what is due after it and of the order).
        self._columns = (self.largest + 1) ** (lead_time - 1)
        stride = [(self.largest + 1) ** (lead_time - 1 - place) for place in range(1, lead_time)]
        later = sum((whole[:, place + 1] * stride[place - 1] for place in range(1, lead_time - 1)), torch.zeros_like(whole[:, 0]))
        column = sum((whole[:, place] * stride[place - 1] for place in range(1, lead_time)), torch.zeros_like(whole[:, 0]))
        self._at = whole[:, 0] * self._columns + column
        if lead_time == 1:  # the order itself arrives next
            self._before, self._stride = whole[:, 0], len(stock)
        else:
            self._before, self._stride = (whole[:, 1] * len(stock) + whole[:, 0]) * self._columns + later, 1

    def start(self) -> ChainMemory:
        """All states equally likely, no cost to go."""
        n = len(self.states)
        return ChainMemory(torch.full_like(self.period_cost, 1 / n), torch.zeros_like(self.period_cost))

    def average_cost(self, order: Tensor, memory: ChainMemory, *, sweeps: int = 1) -> tuple[Tensor, ChainMemory]:
        """Average cost a period of the rule that orders `order`, rounded at random.

        With P the law of one period under the rule, the shares solve pi P = pi and the costs to go v + cost = c + P v. Both are followed by `sweeps` power
        iterations from `memory`: one a training step is enough, because the rule moves slowly and the chain forgets within some lead times.

        Args:
            order: `(n,)` real orders in [0, room], units.
            memory: of the step before, or `start()`.
            sweeps: power iterations.
        Returns: money a period, and the memory for the next call.
        Gradient: pi(x) times what one more unit costs to go, E v(next | floor(q) + 1) - E v(next | floor(q)): exact once the iterations have settled.
        Raises: InputError for orders outside their room.
        """
        checks.same_shape("order", order, "room", self.room)
        low, part, more = self._split(order.detach())
        share, value = memory
        slope = torch.zeros_like(value)
        for _ in range(checks.at_least("sweeps", sweeps, 1)):
            ahead = self._ahead(value)
            a, b = ahead[self._before + low], ahead[self._before + low + more]
            slope = b - a
            value = self.period_cost + a + part * slope
            value = value - value[0]
            share = self._moved(share, low, part, more)
        cost = share @ self.period_cost
        return cost + (share * slope * (order - order.detach())).sum(), ChainMemory(share, value)

    def projected_stock(self) -> Tensor:
        """Expected stock on hand just before today's order arrives, `(n,)` units.

        Source: van Jaarsveld & Arts (2024), projected inventory level policies, doi:10.1287/opre.2021.0032.
        """
        return self.table(self.states)

    def table(self, states: Tensor) -> Tensor:
        """`projected_stock` of any whole states `(m, L)` of the box 0 ... highest, 0 ... largest order."""
        count = self.highest + 1
        stock = torch.arange(count, device=states.device)
        expected = self._leftover @ stock.to(self._leftover.dtype)
        for _ in range(self.lead_time - 1):  # one period earlier: leftover plus what arrives
            expected = torch.stack(
                [(self._leftover @ expected[(stock + due).clamp_max(count - 1)].reshape(count, -1)).reshape(expected.shape) for due in range(self.largest + 1)],
                1,
            )
        return expected[tuple(states.long().unbind(-1))]

    def _split(self, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets of floor(q) and of one more in the box before demand, and the probability of one more."""
        if bool((order < 0).any()) or bool((order > self.room).any()) or not bool(torch.isfinite(order).all()):
            bad = ((order < 0) | (order > self.room) | ~torch.isfinite(order)).nonzero()[0, 0]
            raise InputError(f"order must lie in [0, room], got {float(order[bad])} in state {self.states[bad].tolist()}, room {float(self.room[bad])}")
        low = torch.minimum(order.floor(), self.room - 1).clamp_min(0)
        return low.long() * self._stride, order - low, (self.room > 0).long() * self._stride

    def _ahead(self, value: Tensor) -> Tensor:
        """E v(next) of every cell of the box before demand, flat."""
        count = self.highest + 1
        box = torch.zeros(count * self._columns, dtype=value.dtype, device=value.device)
        box[self._at] = value
        box = box.view(count, self._columns)
        ahead = torch.zeros(self.largest + 1, count, self._columns, dtype=value.dtype, device=value.device)
        for due in range(self.largest + 1):  # on hand + due <= highest in all states that occur
            fits = count - due
            torch.matmul(self._leftover[:fits, :fits], box[due:], out=ahead[due, :fits])
        return ahead.view(-1)

    def _moved(self, share: Tensor, low: Tensor, part: Tensor, more: Tensor) -> Tensor:
        """The shares one period later: the transpose of `_ahead`."""
        count = self.highest + 1
        flow = torch.zeros((self.largest + 1) * count * self._columns, dtype=share.dtype, device=share.device)
        flow.index_add_(0, self._before + low, share * (1 - part))
        flow.index_add_(0, self._before + low + more, share * part)
        flow = flow.view(self.largest + 1, count, self._columns)
        box = torch.zeros(count, self._columns, dtype=share.dtype, device=share.device)
        for due in range(self.largest + 1):
            fits = count - due
            box[due:] += self._leftover[:fits, :fits].mT @ flow[due, :fits]
        moved = box.view(-1)[self._at]
        return moved / moved.sum()
