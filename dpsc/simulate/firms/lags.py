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

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.simulate.firms.extension import Extension, Moment, Shipped
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Parameters
from dpsc.simulate.firms.step import Flow, Rules, State


def checked_lags(network: Network, lag: Tensor) -> Tensor:
    """Lags of the edges, `(E,)` integers >= 0. Raises: ShapeError, DtypeError, InputError."""
    if lag.shape != (network.edges,):
        raise ShapeError(f"lag must have shape (E,) = ({network.edges},), got {tuple(lag.shape)}")
    if lag.is_floating_point() or lag.dtype == torch.bool:
        raise DtypeError(f"lag must hold integers (whole steps), got dtype {lag.dtype}")
    if len(lag) and int(lag.min()) < 0:
        raise InputError(f"lag must be >= 0 steps, got {int(lag.min())} on edge {int(lag.argmin())}")
    return lag.to(network.supplier.device)


@dataclass(frozen=True, eq=False)
class Lags(Extension):
    """Goods under way; orders are placed last. A run keeps `under_way` `(T, M, B)`, units on their way to each firm; its own state is the pipeline.

    Attributes:
        lag: `(E,)` whole steps >= 0 of each edge.
    """

    lag: Tensor
    ships = True

    def prepared(self, rules: Rules) -> Rules:
        """The same; refused where orders come first. Raises: InputError."""
        if rules.order_first:
            raise InputError("transport lags go with orders that are placed last: Rules(order_first=False), got order_first=True")
        return rules

    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """Every edge has lag times its usual delivery under way."""
        lag = checked_lags(network, self.lag)
        slot = torch.arange(int(lag.max()) if len(lag) else 0, device=lag.device)[:, None]
        usual = network.trade.expand_as(firms.order)
        return (torch.where((slot < lag)[..., None], usual, torch.zeros_like(usual)),)

    def ship(self, own: tuple[Tensor, ...], network: Network, flow: Flow) -> Shipped:
        """What arrives leaves the pipeline, what was delivered enters it."""
        (pipeline,), lag = own, self.lag.to(network.supplier.device)
        nothing = flow.delivered.new_zeros(())
        if not len(pipeline):
            return Shipped(nothing, nothing, own)
        arrived = pipeline[0] + torch.where((lag == 0)[:, None], flow.delivered, nothing)
        slot = torch.arange(len(pipeline), device=lag.device)[:, None, None]
        moved = torch.cat([pipeline[1:], torch.zeros_like(pipeline[:1])])
        pipeline = moved + torch.where(slot == (lag - 1)[:, None], flow.delivered, nothing)
        usual = network.received((lag * network.coefficient * network.output[network.buyer])[:, None])
        return Shipped(network.received(arrived - flow.delivered), network.received(pipeline.sum(0)) - usual, (pipeline,))

    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """Nothing more."""
        return own

    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Units under way to each firm."""
        return {"under_way": network.held(network.received(own[0].sum(0)))}
