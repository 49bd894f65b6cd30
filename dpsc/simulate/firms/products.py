"""Firms with several products: every product is a node of the network, and the nodes of one firm share its capacity.

    y_l = min(D_l, min_j S_jl / (A_jl needed))              what product l could be, but for capacity
    C_f = sum over products l of f of z_l cap_l             capacity of the firm, in units of output at rest
    x_l = y_l min(1, C_f / sum over l of f of y_l)          capacity goes where it is wanted

so that a firm whose one product is not wanted, or lacks an input, makes more of the others; alone each of them would be bound by its own capacity.

Limits: one product a firm is `leontief` (z on capacity); a firm with room for everything is not bound; equal shortfalls share capacity as demand does.
Gradient: exact sub-gradients of the minima, quotient rule of the share.
Source: our own; shared capacity as in multi-product network models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.production import Limits, Produced
from dpsc.simulate.firms.smallest import smallest
from dpsc.types import Relaxation


class SharedCapacity:
    """A production: products of one firm share its capacity.

    Args:
        firm: `(M,)` integers >= 0, the firm that makes each product (node of the network).
    """

    def __init__(self, firm: Tensor) -> None:
        if firm.dim() != 1 or firm.is_floating_point() or firm.dtype == torch.bool:
            raise ShapeError(f"firm must be (M,) integers, got {firm.dtype} of shape {tuple(firm.shape)}")
        if len(firm) and int(firm.min()) < 0:
            raise InputError(f"firm must be >= 0, got {int(firm.min())}")
        self.firm = firm.long()
        self.count = int(firm.max()) + 1 if len(firm) else 0

    def __call__(self, network: Network, limits: Limits, *, relax: Relaxation) -> Produced:
        """Output and use of inputs."""
        if len(self.firm) != network.firms:
            raise ShapeError(f"firm must have shape (M,) = ({network.firms},), one entry a product, got ({len(self.firm)},)")
        wanted = smallest(network, (limits.demand,), limits.by_stock(network), relax=relax)
        room = self._of_firm((limits.productivity * limits.capacity).expand_as(wanted))
        total = self._of_firm(wanted)
        asked = total > 0
        share = torch.where(asked, (room / torch.where(asked, total, torch.ones_like(total))).clamp_max(1), torch.ones_like(total))
        output = wanted * share[self.firm]
        return Produced(output, network.recipe[:, None] * output[network.owner])

    def _of_firm(self, value: Tensor) -> Tensor:
        return value.new_zeros(self.count, value.shape[1]).index_add(0, self.firm, value)
