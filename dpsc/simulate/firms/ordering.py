"""What firms order, and from whom.

An ordering is a function `(network, seen) -> (E, B)` orders, units >= 0.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.simulate.firms.network import Network


class Seen(NamedTuple):
    """What a firm knows when it orders.

    Attributes:
        demand: `(M, B)` units asked for in the step before.
        output: `(M, B)` units made last.
        use: `(K, B)` units of each input used last.
        stock: `(K, B)` units on hand.
        target: `(K, B)` units aimed at.
        adjustment_time: `(M or 1, B or 1)` steps.
        fill_rate: `(M, B)` share of its demand that each firm served last, as a supplier.
    """

    demand: Tensor
    output: Tensor
    use: Tensor
    stock: Tensor
    target: Tensor
    adjustment_time: Tensor
    fill_rate: Tensor


class Ordering(Protocol):
    """The signature of an ordering."""

    def __call__(self, network: Network, seen: Seen) -> Tensor:
        """Orders of a step.

        Args:
            network: recipes and suppliers.
            seen: what each firm knows.
        Returns: `(E, B)` units >= 0 asked of the supplier of each edge.
        """
        ...


def inventory_gap(network: Network, seen: Seen) -> Tensor:
    """O = [A D + (target - S) / tau]^+: what demand will take, and a part of the gap. Suppliers of one product share as in the recipe.

    Gradient: exact sub-gradient of the positive part.
    Source: Henriet, Hallegatte & Tabourier (2012), doi:10.1016/j.jedc.2011.09.001.
    """
    return network.ordered(_wanted(network, seen), network.share)


def replace_use(network: Network, seen: Seen) -> Tensor:
    """O = [A x + (target - S) / tau]^+: what was used, and a part of the gap.

    Gradient: exact sub-gradient of the positive part.
    Source: Hallegatte (2014), doi:10.1111/risa.12090.
    """
    gap = (seen.target - seen.stock) / seen.adjustment_time.expand(network.firms, -1)[network.owner]
    return network.ordered((seen.use + gap).clamp_min(0), network.share)


class Switching:
    """Suppliers of one product are weighted by how well they serve: shares ~ (share in the recipe) (fill rate)^sensitivity.

    With sensitivity 0 it is `inventory_gap`; as it grows, orders move to those who deliver. Nobody is dropped for good: a supplier that fills nothing keeps
    a fill rate of `least`. A network made without `product` has one supplier an input, and nothing to switch.

    Args:
        sensitivity: number, `(M,)` or `(M, B)` of the buyer, >= 0; learnable.
        least: smallest fill rate that counts.
    Gradient: exact, also in the sensitivity.
    """

    def __init__(self, sensitivity: float | Tensor, *, least: float = 1e-3) -> None:
        low = float(torch.as_tensor(sensitivity).detach().min())
        if not low >= 0:
            raise InputError(f"sensitivity must be >= 0, got {low:g}")
        self.sensitivity, self.least = sensitivity, checks.positive("least", least)

    def __call__(self, network: Network, seen: Seen) -> Tensor:
        """Orders."""
        from dpsc.simulate.firms.parameters import widened

        keen = widened("sensitivity", self.sensitivity, network).expand(network.firms, -1)
        score = network.share * torch.exp(keen[network.buyer] * seen.fill_rate.clamp_min(self.least).log()[network.supplier])
        share = score / network.received(score)[network.input] if not network.own_stocks else torch.ones_like(score)
        return network.ordered(_wanted(network, seen), share)


def _wanted(network: Network, seen: Seen) -> Tensor:
    gap = (seen.target - seen.stock) / seen.adjustment_time.expand(network.firms, -1)[network.owner]
    return (network.recipe[:, None] * seen.demand[network.owner] + gap).clamp_min(0)
