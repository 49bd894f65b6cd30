"""Lost sales with a lead time: the optimal average cost, and that of any integer rule, by relative value iteration on the whole lattice.

The state is (x_0, ..., x_{L-1}): on hand after today's receipt, then what arrives in 1 ... L - 1 periods. Each period: order z, meet demand D from x_0, lose
what is short, pay h (x_0 - D)^+ + p (D - x_0)^+; the order arrives L periods later.
Source: Zipkin (2008), doi:10.1287/opre.1070.0471, for the model and the bounds that cut the lattice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, SolveError
from dpsc.search.average_cost import probability


@dataclass(frozen=True)
class LostSales:
    """The model.

    Args:
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        lead_time: L >= 1 periods.
        holding_cost: h >= 0, money a unit left.
        stockout_cost: p > 0, money a unit of lost demand.
    """

    demand_pmf: Tensor
    lead_time: int
    holding_cost: float
    stockout_cost: float

    def __post_init__(self) -> None:
        probability(self.demand_pmf)
        checks.at_least("lead_time", self.lead_time, 1)
        checks.positive("stockout_cost", self.stockout_cost)
        checks.positive("holding_cost", self.holding_cost)

    def bounds(self) -> list[int]:
        """Newsvendor levels of 1 ... L + 1 periods: no more than the k-th is worth having on hand and due within the periods that k covers."""
        ratio = self.stockout_cost / (self.stockout_cost + self.holding_cost)
        pmf = self.demand_pmf.double()
        total, levels = torch.ones(1, dtype=torch.float64), []
        for _ in range(self.lead_time + 1):
            total = torch.nn.functional.conv1d(total[None, None], pmf.flip(0)[None, None], padding=len(pmf) - 1)[0, 0]
            levels.append(int(torch.searchsorted(total.cumsum(0), torch.tensor(ratio - 1e-12, dtype=torch.float64))))
        return levels

    def optimum(self, *, tolerance: float = 1e-5, iterations: int = 10_000) -> tuple[float, float]:
        """Smallest average cost a period, and the width of the bracket it was found in.

        Raises: SolveError if the bracket does not close.
        """
        level = self.bounds()
        largest, top = level[0], level[-1]
        shape = (top + 1, *[largest + 1] * (self.lead_time - 1))
        index = torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")
        inside, tail = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.long)
        for place in range(self.lead_time - 1, -1, -1):
            tail = tail + index[place]
            inside &= tail <= (level[self.lead_time - place - 1] if place else top)
        order = torch.arange(largest + 1)
        allowed = tail[..., None] + order <= top if self.lead_time == 1 else torch.ones(1, dtype=torch.bool)
        return self._iterate(shape, inside, lambda after: torch.where(allowed, after, torch.inf).amin(-1), largest, tolerance, iterations)

    def cost(
        self, rule: Callable[[Tensor], Tensor], *, highest: int, largest_order: int, tolerance: float = 1e-6, iterations: int = 20_000
    ) -> tuple[float, float]:
        """Exact average cost of an integer rule from the empty system on, and the width of the bracket.

        Args:
            rule: states `(n, L)` float64 -> whole orders `(n,)`, 0 ... `largest_order`.
            highest: largest stock on hand that the rule can lead to; of a rule that orders up to S, S.
            largest_order: the rule's.
            tolerance: width of the bracket.
            iterations: at most.
        Raises: InputError for orders that are not whole, or outside of their range, anywhere on the lattice, and for a stock above `highest`; SolveError if
            the bracket does not close, for example because the rule has more than one long-run behaviour.
        """
        from scipy import sparse

        shape = (checks.at_least("highest", highest, 1) + 1, *[checks.at_least("largest_order", largest_order, 1) + 1] * (self.lead_time - 1))
        states = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in shape]).reshape(-1, self.lead_time)
        order = rule(states)
        wrong = (order != order.round()) | (order < 0) | (order > largest_order)
        if order.shape != states.shape[:1] or bool(wrong.any()):
            where = f" in state {states[wrong.nonzero()[0, 0]].tolist()}" if order.shape == states.shape[:1] else f" of shape {tuple(order.shape)}"
            raise InputError(f"the rule must return whole orders in [0, {largest_order}], one a state, got others{where}")
        whole, order = states.long(), order.long()
        columns = len(states) // shape[0]
        # The state after a leftover of y: (y + x_1, x_2, ..., z), or (y + z) with a lead time of one. Its place is y columns after that of y = 0.
        arriving = order if self.lead_time == 1 else whole[:, 1]
        later = torch.zeros_like(order)
        for slot in range(2, self.lead_time):
            later = (later * shape[-1]) + whole[:, slot]
        first = arriving * columns + (0 if self.lead_time == 1 else later * shape[-1] + order)
        leftover = self._leftover(shape[0])
        at, reached, blocks = torch.zeros(1, dtype=torch.long), torch.zeros(len(states), dtype=torch.bool), []
        reached[0] = True
        while len(at):
            size = whole[at, 0] + 1  # leftovers 0 ... x_0
            row = torch.repeat_interleave(torch.arange(len(at)), size)
            left = torch.arange(int(size.sum())) - torch.repeat_interleave(size.cumsum(0) - size, size)
            demand = whole[at, 0][row] - left
            possible = (demand < len(self.demand_pmf)) | (left == 0)
            row, left = row[possible], left[possible]
            over = arriving[at][row] + left > highest
            if bool(over.any()):
                raise InputError(f"highest must bound the stock on hand, got {highest} and more in the period after state {whole[at[row[over][0]]].tolist()}")
            after = first[at][row] + left * columns
            blocks.append((at[row], after, leftover[whole[at, 0][row], left]))
            after = after.unique()
            at = after[~reached[after]]
            reached[at] = True
        origin, target, chance = (torch.cat(part) for part in zip(*blocks, strict=True))
        place = torch.cumsum(reached, 0) - 1
        count = int(reached.sum())
        move = sparse.csr_matrix((chance.numpy(), (place[origin].numpy(), place[target].numpy())), shape=(count, count))
        period = self._period(shape[0])[whole[reached, 0]].numpy()
        value, width = period * 0, float("inf")
        for _ in range(iterations):
            fresh = period + move @ value
            change = fresh - value
            value = fresh - fresh[0]
            width = float(change.max() - change.min())
            if width < tolerance:
                return float(0.5 * (change.max() + change.min())), width
        raise SolveError(f"relative value iteration did not close its bracket to {tolerance} in {iterations} iterations, got {width}")

    def _period(self, count: int) -> Tensor:
        """Expected cost of a period that starts with 0 ... count - 1 on hand, `(count,)`."""
        left = torch.arange(count)[:, None] - torch.arange(len(self.demand_pmf))
        return (self.demand_pmf.double() * (self.holding_cost * left.clamp_min(0) + self.stockout_cost * (-left).clamp_min(0))).sum(1)

    def _leftover(self, count: int) -> Tensor:
        """[x, y]: probability that x on hand leave y, `(count, count)`."""
        left = torch.arange(count)[:, None] - torch.arange(len(self.demand_pmf))
        leftover = torch.zeros(count, count, dtype=torch.float64)
        return leftover.index_put_((torch.arange(count)[:, None].expand_as(left), left.clamp_min(0)), self.demand_pmf.double().expand_as(left), accumulate=True)

    def _iterate(
        self, shape: tuple[int, ...], inside: Tensor, choose: Callable[[Tensor], Tensor], largest: int, tolerance: float, iterations: int
    ) -> tuple[float, float]:
        """Relative value iteration; `choose` turns costs to go `(*shape, orders)` into `(*shape)`."""
        count = shape[0]
        stock, leftover = torch.arange(count), self._leftover(count)
        period = self._period(count).reshape(-1, *[1] * (len(shape) - 1))
        value = torch.zeros(shape, dtype=torch.float64)
        order = torch.arange(largest + 1)
        width = float("inf")
        for _ in range(iterations):
            if self.lead_time == 1:  # the order itself is on hand next
                after = leftover @ value[(stock[:, None] + order).clamp_max(count - 1)]
            else:  # next (leftover + x_1, x_2, ..., z): one product for each x_1
                after = torch.stack(
                    [(leftover @ value[(stock + due).clamp_max(count - 1)].reshape(count, -1)).reshape(value.shape) for due in range(shape[1])], 1
                )
            fresh = period + choose(after)
            change = (fresh - value)[inside]
            value = fresh - fresh.flatten()[0]
            width = float(change.max() - change.min())
            if width < tolerance:
                return float(0.5 * (change.max() + change.min())), width
        raise SolveError(f"relative value iteration did not close its bracket to {tolerance} in {iterations} iterations, got {width}")


def capped_base_stock(level: float, largest: float) -> Callable[[Tensor], Tensor]:
    """Order up to a level, but never more than `largest` at once; a rule for `LostSales.cost`."""
    return lambda states: (level - states.sum(-1)).clamp(0, largest)
