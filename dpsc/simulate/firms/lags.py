"""Goods under way: an edge takes whole steps from supplier to buyer.

    arrived_e(t) = delivered_e(t - lag_e)
    S_k(t+1) = S_k(t) + sum of what arrived - use
    O_e = [A D + (n A x0 - S - (Q - Q0)) / tau]^+

Q is what is under way to the stock, Q0 = sum of lag_e A_e x0 what is under way at rest: a firm that did not count it would order the same goods again and
again. The pipeline is `(L, E, B)`, slot 0 arriving next, L the longest lag.

Limits: lags 0 are the plain step to the last digit; without a shock the start is kept for any lags; a failure of a supplier reaches the buyer's stock as
many steps later.
Goods are conserved: what was delivered is used, in stock or under way.
Gradient: as in the plain step; a lag is an integer and has none.
Source: our own; compare Inoue & Todo (2019), doi:10.1038/s41893-019-0351-x, and shipping times in Acclimate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.relax import Exact
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Parameters
from dpsc.simulate.firms.step import Flow, Rules, Shock, place, serve
from dpsc.simulate.firms.step import State as FirmState
from dpsc.simulate.firms.step import start as start_firms
from dpsc.types import Relaxation


class State(NamedTuple):
    """Between two steps: the firms, and what is under way, `(L, E, B)` units, slot 0 arriving next."""

    firms: FirmState
    pipeline: Tensor


def checked_lags(network: Network, lag: Tensor) -> Tensor:
    """Lags of the edges, `(E,)` integers >= 0. Raises: ShapeError, DtypeError, InputError."""
    if lag.shape != (network.edges,):
        raise ShapeError(f"lag must have shape (E,) = ({network.edges},), got {tuple(lag.shape)}")
    if lag.is_floating_point() or lag.dtype == torch.bool:
        raise DtypeError(f"lag must hold integers (whole steps), got dtype {lag.dtype}")
    if len(lag) and int(lag.min()) < 0:
        raise InputError(f"lag must be >= 0 steps, got {int(lag.min())} on edge {int(lag.argmin())}")
    return lag.to(network.supplier.device)


def start(network: Network, parameters: Parameters, lag: Tensor, *, batch: int = 1) -> State:
    """At rest: every edge has lag times its usual delivery under way."""
    lag = checked_lags(network, lag)
    firms = start_firms(network, parameters, batch=batch)
    slot = torch.arange(int(lag.max()) if len(lag) else 0, device=lag.device)[:, None]
    return State(firms, torch.where((slot < lag)[..., None], firms.order, torch.zeros_like(firms.order)))


def step(
    state: State, network: Network, parameters: Parameters, shock: Shock, *, lag: Tensor, rules: Rules | None = None, relax: Relaxation | None = None
) -> tuple[State, Flow]:
    """Serve, ship, receive, order.

    Args:
        state: of `start`, with the same lags.
        network: who supplies whom.
        parameters: of the firms.
        shock: of this step.
        lag: `(E,)` whole steps.
        rules: parts; orders are placed last.
        relax: reading of the minima.
    Returns: state and flow; `flow.delivered` is what left the suppliers.
    """
    rules, relax = rules or Rules(), relax or Exact()
    if rules.order_first:
        raise InputError("transport lags go with orders that are placed last: Rules(order_first=False), got order_first=True")
    firms, flow = serve(state.firms, network, parameters, shock, rules=rules, relax=relax)
    if not len(state.pipeline):
        return State(place(firms, network, parameters, shock, rules=rules), state.pipeline), flow
    at_once = (lag == 0)[:, None]
    arrived = state.pipeline[0] + torch.where(at_once, flow.delivered, torch.zeros_like(flow.delivered))
    slot = torch.arange(len(state.pipeline), device=lag.device)[:, None, None]
    moved = torch.cat([state.pipeline[1:], torch.zeros_like(state.pipeline[:1])])
    pipeline = moved + torch.where(slot == (lag - 1)[:, None], flow.delivered, torch.zeros_like(flow.delivered))
    stock = firms.stock + network.received(arrived - flow.delivered)
    usual = network.received((lag * network.coefficient * network.output[network.buyer])[:, None])
    surplus = network.received(pipeline.sum(0)) - usual
    placed = place(firms._replace(stock=stock + surplus), network, parameters, shock, rules=rules)
    return State(placed._replace(stock=stock), pipeline), flow
