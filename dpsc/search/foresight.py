"""A lower bound for one warehouse and many stores with lost sales: perfect foresight, with a charge on it.

The long-run average cost of the network (holding at the warehouse and at the stores, lost sales; lead times; any policy that orders from what it has seen)
has no exact optimum that anyone can compute. Let everyone see the future, but pay lambda for every unit ordered, where lambda_t may depend on the
future and has conditional mean zero given the past up to t. A policy without foresight chooses its order q_t from that past, so E lambda_t q_t = 0: on average
it pays nothing. Hence, for every such lambda,

    cost of any policy = E [its cost + sum lambda q] >= E [min over all paths of orders, chosen with foresight, of the same].

With foresight the problem falls apart into units, because all costs are linear and no unit stands in another one's way: the units that serve d_it take the
cheapest route through the network, or are lost. With h, p the costs of holding and of a lost sale, L lead times, w_t the cheapest way to have a unit at the
warehouse in period t (on hand, before shipping) and m_it at store i (before demand),

    w_t  = min(w_{t-1} + h_w,  lambda^w_{t - L_w}),        m_it = min(m_{i,t-1} + h_i,  w_{t - L_i} + lambda^i_{t - L_i}),
    bound a period = E sum_i d_it min(p_i, m_it).

A unit that is never sold costs h_i > 0 for ever, so it is never bought in the long run: the terms at the end of a long horizon are bounded by the largest
stock, and vanish in the average. (Declining to sell, which the relaxation allows, lowers the minimum at most.) A short warehouse is in the bound through
lambda^w, which charges for foresight about the demand of the next L_w periods, pooled over stores. With lambda = 0 this is the just-in-time bound, zero.

By linear-programming duality the best lambda makes the bound equal to the optimum; here lambda is a sum of surprises (functions of one period's demand less
their mean) times coefficients, a small network of the state of a reference policy, trained to raise the bound. Whatever the network says, the bound is valid;
it is estimated on fresh futures, with sum lambda q of the reference policy (mean zero) subtracted, which takes away most of the variance.
Source: Rockafellar & Wets (1976), doi:10.1007/BF01580677 (non-anticipativity); Brown, Smith & Sun (2010), doi:10.1287/opre.1090.0796 (information relaxation);
Brown & Smith (2014), doi:10.1287/opre.2014.1289 (penalties that are linear in the decisions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.errors import InputError, ShapeError


class Reference(NamedTuple):
    """Futures, and what a reference policy did in them; in period t everything but `demand` and `surprise` is known before the demand of t.

    Attributes:
        demand: `(T, S, N)` units, independent from period to period.
        surprise: `(T, S, N, J)` functions of the period's demand (and of what was known) less their means given what was known; see `surprises`.
        on_hand: `(T, S, N)` units at the stores before demand.
        state: `(T, S, N, F)` what the coefficients of a store may look at, of order one.
        context: `(T, S, G)` what all coefficients may look at.
        shipped: `(T, S, N)` units sent to each store.
        ordered: `(T, S)` units ordered by the warehouse; None without one.
        empty: `(T, S)` bool, whether the warehouse has nothing left after shipping; None without one.
    """

    demand: Tensor
    surprise: Tensor
    on_hand: Tensor
    state: Tensor
    context: Tensor
    shipped: Tensor
    ordered: Tensor | None = None
    empty: Tensor | None = None


def surprises(
    demand: Tensor, on_hand: Tensor, *, points: Tensor, excess: Callable[[Tensor], Tensor], tail: Callable[[Tensor], Tensor], scale: Tensor
) -> Tensor:
    """Functions of demand with mean zero: (d - c)^+ at fixed points and at the stock on hand, and whether there is a shortage, each less its mean.

    Args:
        demand: `(T, S, N)` units.
        on_hand: `(T, S, N)` units >= 0, known before.
        points: `(J, N)` units >= 0; 0 gives demand itself.
        excess: c `(..., N)` >= 0 -> E (d - c)^+, `(..., N)` units.
        tail: c `(..., N)` >= 0 -> P(d > c).
        scale: `(N,)` units that make the functions of order one.
    Returns: `(T, S, N, J + 2)`.
    """
    fixed = [((demand - c).clamp_min(0) - excess(c)) / scale for c in points]
    moving = ((demand - on_hand).clamp_min(0) - excess(on_hand)) / scale
    return torch.stack([*fixed, moving, (demand > on_hand).to(demand.dtype) - tail(on_hand)], -1)


class ForesightBound(nn.Module):
    """The bound of the module's docstring, with charges that can be trained.

    `-bound(reference).mean()` is a loss for `fit`; its value on fresh futures is the bound.

    Args:
        lead_time: `(N,)` whole periods >= 1 to the stores.
        holding_cost: `(N,)` > 0, money a unit at a store at the end of a period.
        lost_sale: `(N,)` money a unit.
        warehouse_lead_time: whole periods >= 1 from outside to the warehouse; None where stores are supplied from outside.
        warehouse_holding_cost: > 0 money a unit.
        features: `(F, G, J)` of the reference.
        hidden: width of the two networks.
        generator: of their first weights.
        start: periods; the first routes are as cheap as if a unit had been bought at minus so many periods' holding cost. Too low a start only lowers the
            bound, and is forgotten within the burn-in.
    Raises: InputError, ShapeError.
    """

    holding_cost: Tensor
    lost_sale: Tensor

    def __init__(
        self,
        *,
        lead_time: Tensor,
        holding_cost: Tensor,
        lost_sale: Tensor,
        features: tuple[int, int, int],
        warehouse_lead_time: int | None = None,
        warehouse_holding_cost: float = 0.0,
        hidden: int = 32,
        generator: torch.Generator | None = None,
        start: float = 20.0,
    ) -> None:
        super().__init__()
        for name, value in (("holding_cost", holding_cost), ("lost_sale", lost_sale)):
            checks.same_shape(name, value, "lead_time", lead_time)
            if not bool((value > 0).all()):
                raise InputError(f"{name} must be > 0, got {value.amin().item()}")
        if not bool((lead_time == lead_time.round()).all()) or int(lead_time.min()) < 1:
            raise InputError(f"lead_time must hold whole periods >= 1, got {lead_time.tolist()}")
        if warehouse_lead_time is not None:
            checks.at_least("warehouse_lead_time", warehouse_lead_time, 1)
            checks.positive("warehouse_holding_cost", warehouse_holding_cost)
        self.lead_times = [int(x) for x in lead_time.tolist()]
        self.register_buffer("holding_cost", holding_cost.clone())
        self.register_buffer("lost_sale", lost_sale.clone())
        self.warehouse_lead_time, self.warehouse_holding_cost, self.start = warehouse_lead_time, warehouse_holding_cost, checks.positive("start", start)
        f, g, j = features
        self.longest, self.functions = max(self.lead_times), j
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.own, self.told = _linear(f, hidden, holding_cost, generator), _linear(g, hidden, holding_cost, generator)
        self.store = _linear(hidden, (self.longest + 1) * 2 * j, holding_cost, None)
        self.pooled = _linear(g, hidden, holding_cost, generator)
        self.warehouse = _linear(hidden, ((warehouse_lead_time or 0) + 1) * j, holding_cost, None)

    def charges(self, reference: Reference) -> tuple[Tensor, Tensor | None]:
        """lambda of a unit sent to each store in each period, `(T, S, N)`, and of a unit ordered by the warehouse, `(T, S)`, money.

        A store's charge adds up the surprises while the unit is on its way and, once it has arrived, until the reference policy next runs out at that store;
        the warehouse's, until the warehouse is next empty. Whether to go on is known before the next surprise, so every term has conditional mean zero.
        """
        r = reference
        if r.surprise.shape[-1] != self.functions or r.demand.shape[-1] != len(self.lead_times):
            raise ShapeError(f"the reference must have N = {len(self.lead_times)} stores and J = {self.functions} functions, got {tuple(r.surprise.shape)}")
        mean = r.surprise.mean(-2)  # (T, S, J)
        code = nn.functional.elu(self.own(r.state) + self.told(r.context)[..., None, :])
        weight = self.store(code).unflatten(-1, (self.longest + 1, 2, self.functions))
        news = (weight[..., 0, :] * r.surprise[..., None, :]).sum(-1) + (weight[..., 1, :] * mean[..., None, None, :]).sum(-1)  # (T, S, N, longest + 1)
        in_stock = _until(news[..., 0], r.demand > r.on_hand, before=False)
        parts = []
        for n, lead in enumerate(self.lead_times):
            parts.append(_ahead(in_stock[..., n], lead) + sum(_ahead(news[..., n, lead - k], k) for k in range(lead)))
        sent = torch.stack(parts, -1)
        if self.warehouse_lead_time is None:
            return sent, None
        if r.empty is None or r.ordered is None:
            raise InputError("the reference of a network with a warehouse must have ordered and empty, got None")
        lead = self.warehouse_lead_time
        coefficient = self.warehouse(nn.functional.elu(self.pooled(r.context))).unflatten(-1, (lead + 1, self.functions))
        pooled = (coefficient * mean[..., None, :]).sum(-1)  # (T, S, lead + 1)
        stocked = _until(pooled[..., 0], r.empty, before=True)
        return sent, _ahead(stocked, lead) + sum(_ahead(pooled[..., lead - k], k) for k in range(lead))

    def forward(self, reference: Reference, *, burn_in: int, look_ahead: int) -> Tensor:
        """The bound, a period.

        Args:
            reference: T > burn_in + look_ahead periods.
            burn_in: first periods, in which the routes rise to their course; not counted.
            look_ahead: last periods, which only the charges look at; not counted.
        Returns: `(S,)` money a period, one a future; their mean is the bound.
        Gradient: exact almost everywhere (routes change at kinks).
        """
        r = reference
        periods = r.demand.shape[0]
        first, last = checks.at_least("burn_in", burn_in, 1), periods - checks.at_least("look_ahead", look_ahead, 1)
        longest = self.longest + (self.warehouse_lead_time or 0)
        if first < longest or last <= first:
            raise InputError(
                f"the reference must have more than burn_in + look_ahead periods and burn_in >= {longest}, got {periods}, {burn_in} and {look_ahead}"
            )
        sent, bought = self.charges(r)
        supplied: list[Tensor] = []
        at_store = -self.start * self.holding_cost.expand_as(r.demand[0])
        at_warehouse = torch.full_like(r.demand[0, :, 0], -self.start * self.warehouse_holding_cost if bought is not None else 0.0)
        total = torch.zeros_like(at_warehouse)
        for t in range(last):
            if bought is not None:
                assert self.warehouse_lead_time is not None
                at_warehouse = at_warehouse + self.warehouse_holding_cost
                if t >= self.warehouse_lead_time:
                    at_warehouse = torch.minimum(at_warehouse, bought[t - self.warehouse_lead_time])
            supplied.append(at_warehouse[:, None] + sent[t])
            at_store = at_store + self.holding_cost
            if t >= self.longest:
                arriving = torch.stack([supplied[t - lead][:, n] for n, lead in enumerate(self.lead_times)], -1)
                at_store = torch.minimum(at_store, arriving)
            if t >= first:
                total = total + (r.demand[t] * torch.minimum(at_store, self.lost_sale)).sum(-1) - (sent[t - self.longest] * r.shipped[t - self.longest]).sum(-1)
                if bought is not None:
                    assert r.ordered is not None
                    total = total - bought[t - longest] * r.ordered[t - longest]
        return total / (last - first)


def _ahead(values: Tensor, periods: int) -> Tensor:
    """values[t + periods], zero beyond the end: a sum of surprises that is cut there still has mean zero."""
    return values if periods == 0 else torch.cat([values[periods:], torch.zeros_like(values[:periods])])


def _until(news: Tensor, stop: Tensor, *, before: bool) -> Tensor:
    """The sum of `news` from each period on to the one that stops it, which counts too unless it stops `before` its own news."""
    going, out = torch.zeros_like(news[0]), []
    go = (~stop).to(news.dtype)
    for t in reversed(range(len(news))):
        going = go[t] * (news[t] + going) if before else news[t] + go[t] * going
        out.append(going)
    return torch.stack(out[::-1])


def _linear(inputs: int, outputs: int, like: Tensor, generator: torch.Generator | None) -> nn.Linear:
    """Small random weights from a generator, or zeros without one (so that training starts at lambda = 0)."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        layer.bias.zero_()
        if generator is None:
            layer.weight.zero_()
        else:
            layer.weight.copy_((torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) * 2 - 1) * (3 / max(inputs, 1)) ** 0.5)
    return layer
