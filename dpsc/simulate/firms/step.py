"""One step of a network of firms.

Order of events, `order_first` False (the paper): demand placed in the step before is served, stocks are updated, orders are placed. `order_first` True
(Henriet et al. 2012, Pichler et al. 2022): orders are placed, then served, then stocks are updated. It is one loop cut at two places: with a final demand
that does not change the two agree, and a change of final demand is served one step earlier when orders come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.relax import Exact
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.ordering import Ordering, Seen, inventory_gap
from dpsc.simulate.firms.parameters import Parameters
from dpsc.simulate.firms.production import Limits, Production, leontief
from dpsc.simulate.firms.rationing import Rationing, fill_rate, proportional
from dpsc.types import Relaxation


class State(NamedTuple):
    """Between two steps.

    Attributes:
        stock: `(K, B)` S, units of each input on hand.
        order: `(E, B)` O, units ordered and not served yet.
        demand: `(M, B)` D, units asked for: with `order_first` False those to be served next, else those served last.
        final: `(M, B)` the part of them that final demand asked for.
        output: `(M, B)` units made last.
        use: `(K, B)` units used last.
        fill_rate: `(M, B)` share of demand served last.
    """

    stock: Tensor
    order: Tensor
    demand: Tensor
    final: Tensor
    output: Tensor
    use: Tensor
    fill_rate: Tensor


class Flow(NamedTuple):
    """What a step moved, units: `(M, B)` output, demand, delivered to final demand; `(E, B)` delivered over edges; `(K, B)` used."""

    output: Tensor
    demand: Tensor
    final: Tensor
    delivered: Tensor
    use: Tensor


class Shock(NamedTuple):
    """What strikes in a step: `(M, B)` productivity z >= 0, `(M, B)` final demand (None: that of the network), `(E, B)` share of an order that the edge
    lets through (None: all)."""

    productivity: Tensor
    final_demand: Tensor | None = None
    transport: Tensor | None = None


@dataclass(frozen=True)
class Rules:
    """The parts and the conventions of a step.

    Attributes:
        production: `leontief`, `partly_binding(...)`, `CES(...)`, or your own.
        rationing: `proportional`, `firms_first`, `Priority(...)`, `mixed(...)`, or your own.
        ordering: `inventory_gap`, `replace_use`, `Switching(...)`, or your own.
        order_first: which order of events, see the module.
        shock_on_stock: whether z multiplies what stocks allow as well: z min(cap, min S / A), else min(z cap, min S / A).
        moving_target: whether the target stock follows min(D, z cap) (Hallegatte 2014) instead of the output at rest.
    """

    production: Production = leontief
    rationing: Rationing = proportional
    ordering: Ordering = inventory_gap
    order_first: bool = False
    shock_on_stock: bool = True
    moving_target: bool = False

    @property
    def plain(self) -> bool:
        """Whether these are the paper's parts, for which whole runs have a backward pass of their own."""
        return self.production is leontief and self.rationing is proportional and self.ordering is inventory_gap and not self.moving_target


def start(network: Network, parameters: Parameters, *, batch: int = 1) -> State:
    """At rest: stocks at their target n A x0, orders A x0, demand and output x0; B columns.

    Args:
        network: who supplies whom.
        parameters: the stocks.
        batch: B, at least as many as the stocks have columns.
    """
    inventory = parameters.wide("inventory", network).expand(network.firms, -1)
    stock = inventory.index_select(0, network.owner) * network.use
    one = network.output.new_ones(1, max(batch, stock.shape[1]))
    use, demand = network.use * one, network.output[:, None] * one
    order = network.trade * one
    final = network.final_demand[:, None] * one
    return State(stock * one, order, demand, final, demand, use, torch.ones_like(demand))


def step(
    state: State, network: Network, parameters: Parameters, shock: Shock, *, rules: Rules | None = None, relax: Relaxation | None = None
) -> tuple[State, Flow]:
    """Advance by one step; events in the order of the module's docstring.

        f = min(cap, min_j S_j / A_j)     x = min(D, z f)     r = x / D
        S += r O - A x                    O = [A D + (n A x0 - S) / tau]^+     D = c + sum O

    Args:
        state: at the end of the step before.
        network: who supplies whom.
        parameters: stocks, adjustment time, capacity.
        shock: of this step.
        rules: parts and conventions; the paper's by default.
        relax: how the minima of production (and priorities) are read; `Exact()` by default. The positive part of orders keeps its sub-gradient.
    Returns: state and flow. Goods are conserved: deliveries of a firm add up to its output, stocks change by what arrives less what is used.
    Gradient: in all parameters, shocks and the state.
    """
    rules, relax = rules or Rules(), relax or Exact()
    if rules.order_first:
        state = place(state, network, parameters, shock, rules=rules)
    state, flow = serve(state, network, parameters, shock, rules=rules, relax=relax)
    if not rules.order_first:
        state = place(state, network, parameters, shock, rules=rules)
    return state, flow


def serve(state: State, network: Network, parameters: Parameters, shock: Shock, *, rules: Rules, relax: Relaxation) -> tuple[State, Flow]:
    """The half of a step that makes and delivers: x, r and the new stocks. Arguments as in `step`; `rules` has the order of events decided."""
    limits = Limits(
        state.demand,
        parameters.wide("capacity", network) * network.output[:, None],
        shock.productivity,
        state.stock,
        parameters.wide("needed", network),
        rules.shock_on_stock,
    )
    made = rules.production(network, limits, relax=relax)
    rationed = rules.rationing(network, state.order, state.final, made.output, state.demand, relax=relax)
    stock = state.stock + network.received(rationed.delivered) - made.use
    flow = Flow(made.output, state.demand, rationed.final, rationed.delivered, made.use)
    return state._replace(stock=stock, output=made.output, use=made.use, fill_rate=fill_rate(made.output, state.demand)), flow


def place(state: State, network: Network, parameters: Parameters, shock: Shock, *, rules: Rules) -> State:
    """The half of a step that orders: O and the new demand D = c + sum O. Arguments as in `step`."""
    level = network.output[:, None]
    if rules.moving_target:
        level = torch.minimum(state.demand, shock.productivity * parameters.wide("capacity", network) * level)
    target = network.recipe[:, None] * (parameters.wide("inventory", network) * level)[network.owner]
    seen = Seen(state.demand, state.output, state.use, state.stock, target, parameters.wide("adjustment_time", network), state.fill_rate)
    order = rules.ordering(network, seen)
    if shock.transport is not None:
        order = order * shock.transport
    final = network.final_demand[:, None] if shock.final_demand is None else shock.final_demand
    final = final.expand_as(state.demand)
    return state._replace(order=order, demand=network.demanded(order) + final, final=final)
