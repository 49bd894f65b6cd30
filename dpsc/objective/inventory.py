"""What a period of an inventory world costs: rates times quantities, added up by path or by item, discounted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError

Number = float | Tensor


class Moved(Protocol):
    """What pricing reads of a period: the fields of `dpsc.simulate.world.Flow`, `(..., S, N)` at points and `(..., S, E)` on edges, units."""

    @property
    def on_hand(self) -> Tensor:
        """See the class."""
        ...

    @property
    def backorder(self) -> Tensor:
        """See the class."""
        ...

    @property
    def lost_sales(self) -> Tensor:
        """See the class."""
        ...

    @property
    def sales(self) -> Tensor:
        """See the class."""
        ...

    @property
    def received(self) -> Tensor:
        """See the class."""
        ...

    @property
    def returned(self) -> Tensor:
        """See the class."""
        ...

    @property
    def waste(self) -> Tensor:
        """See the class."""
        ...

    @property
    def shipped(self) -> Tensor:
        """See the class."""
        ...

    @property
    def placed(self) -> Tensor | None:
        """See the class."""
        ...

    @property
    def in_transit(self) -> Tensor:
        """See the class."""
        ...


@dataclass(frozen=True)
class Costs:
    """Rates, `(N,)` at points and `(E,)` on edges, or one number for all; 0 is not computed.

    Args:
        holding: money a unit on hand at the end of a period.
        backorder: money a unit that waits at the end of a period.
        lost_sale: money a unit of unmet demand that is lost.
        inbound: money a unit received.
        outbound: money a unit sold.
        returned: money a unit that comes back.
        waste: money a unit that expires.
        revenue: money earned with a unit sold; it counts as a negative cost.
        order: money an order placed on an edge, whatever its size.
        purchase: money a unit shipped on an edge.
        in_transit: money a unit on its way at the end of a period.
        overstock: money a unit on hand or on its way after the last period.
        discount: factor a period, in (0, 1].
    """

    holding: Number = 0.0
    backorder: Number = 0.0
    lost_sale: Number = 0.0
    inbound: Number = 0.0
    outbound: Number = 0.0
    returned: Number = 0.0
    waste: Number = 0.0
    revenue: Number = 0.0
    order: Number = 0.0
    purchase: Number = 0.0
    in_transit: Number = 0.0
    overstock: Number = 0.0
    discount: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            plain = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
            if not bool(torch.isfinite(plain).all()):
                raise InputError(f"{field.name} must be finite, got {value}")
        if not 0 < self.discount <= 1:
            raise InputError(f"discount must lie in (0, 1], got {self.discount}")


QUANTITIES: dict[str, Callable[[Moved], Tensor | None]] = {
    "holding": lambda flow: flow.on_hand,
    "inbound": lambda flow: flow.received,
    "order": lambda flow: flow.placed,
    "outbound": lambda flow: flow.sales,
    "returned": lambda flow: flow.returned,
    "lost_sale": lambda flow: flow.lost_sales,
    "backorder": lambda flow: flow.backorder,
    "waste": lambda flow: flow.waste,
    "purchase": lambda flow: flow.shipped,
    "in_transit": lambda flow: flow.in_transit,
}


def _terms(flow: Moved, costs: Costs, period: int, periods: int | None) -> Iterator[tuple[str, Tensor, Number]]:
    """Name, quantity and rate of everything that costs something in a period."""
    for name, quantity in QUANTITIES.items():
        rate = getattr(costs, name)
        if isinstance(rate, Tensor) or rate != 0:
            units = quantity(flow)
            if units is None:
                raise InputError("costs have a fixed order cost, but the world does not count orders: World(count_orders=True)")
            yield name, units, rate
    if isinstance(costs.revenue, Tensor) or costs.revenue != 0:
        yield "revenue", flow.sales, -costs.revenue
    if isinstance(costs.overstock, Tensor) or costs.overstock != 0:
        if periods is None:
            raise InputError("overstock is charged after the last period, so pricing must know how many there are: periods=T")
        if period == periods - 1:
            yield "overstock", flow.on_hand, costs.overstock
            yield "overstock", flow.in_transit, costs.overstock


def _summed(units: Tensor, rate: Number) -> Tensor:
    """`(..., S)`: one product where the rates are a plain vector."""
    if isinstance(rate, Tensor) and rate.dim():
        return units @ rate if rate.dim() == 1 and len(rate) == units.shape[-1] else (units * rate).sum(-1)
    return units.sum(-1) * rate


def path_cost(flow: Moved, period: int = 0, *, costs: Costs, periods: int | None = None) -> Tensor:
    """What a period costs on every path, all points and edges together.

    Args:
        flow: of the period.
        period: t, for the discount and the overstock.
        costs: rates.
        periods: T, needed where there is a cost of overstock.
    Returns: `(..., S)` money.
    Gradient: exact, in flow and rates.
    """
    total: Tensor | None = None
    for _, units, rate in _terms(flow, costs, period, periods):
        part = _summed(units, rate)
        total = part if total is None else total + part
    if total is None:
        return flow.on_hand.new_zeros(flow.on_hand.shape[:-1])
    return total if costs.discount == 1 else costs.discount**period * total


def item_cost(flow: Moved, period: int = 0, *, costs: Costs, periods: int | None = None) -> Tensor:
    """What a period costs on every path and for every item, for worlds in which every point has one supplier (E = N).

    Args: see `path_cost`.
    Returns: `(..., S, N)` money.
    Raises: ShapeError where edges and points do not correspond.
    """
    total: Tensor | None = None
    for name, units, rate in _terms(flow, costs, period, periods):
        if units.shape[-1] != flow.on_hand.shape[-1]:
            raise ShapeError(f"item_cost needs one supplier a point, got {name} of {units.shape[-1]} edges and {flow.on_hand.shape[-1]} points; use path_cost")
        part = units * rate
        total = part if total is None else total + part
    if total is None:
        return torch.zeros_like(flow.on_hand)
    return total if costs.discount == 1 else costs.discount**period * total


def breakdown(flow: Moved, *, costs: Costs) -> dict[str, Tensor]:
    """The cost of a whole rollout by what it is spent on.

    Args:
        flow: of `(T, ..., S, N)`, as `rollout` returns it without a price.
        costs: rates.
    Returns: name -> `(..., S)` money, discounted and added up over the periods; only what is charged.
    """
    periods = flow.on_hand.shape[0]
    factor = costs.discount ** torch.arange(periods, dtype=flow.on_hand.dtype, device=flow.on_hand.device)
    found: dict[str, Tensor] = {}
    for name, units, rate in _terms(flow, costs, periods - 1, periods):
        money = _summed(units, rate)
        # Overstock is charged once, at the end.
        part = factor[-1] * money[-1] if name == "overstock" else (money * factor.reshape(-1, *[1] * (money.dim() - 1))).sum(0)
        found[name] = part if name not in found else found[name] + part
    return found
