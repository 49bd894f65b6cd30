"""The smallest of a firm's limits: demand, capacity and every input; a minimum over a ragged list, with the three readings of `dpsc.relax`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax.kernels import Kernel, Logistic
from dpsc.relax.operations.operation import Soft
from dpsc.simulate.firms.network import Network
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class Smallest(Soft):
    """min over the firm's own limits `(F, M, B)` and the limits of its inputs `(K, B)`; all >= 0.

    Temperature 1 / beta is in units of the logarithm: only ratios of limits matter.
    """

    network: Network | None = None

    name: ClassVar[str] = "smallest"
    jumps: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def hard(self, own: Tensor, stock: Tensor) -> Tensor:
        """The minimum; its sub-gradient is shared evenly among limits that tie."""
        low = self._low(own, stock)
        return self._weighted(low, own, stock, (own == low).to(own.dtype), (stock == low[self._owner]).to(own.dtype))

    def soft(self, kernel: Kernel, own: Tensor, stock: Tensor) -> Tensor:
        """(sum v^-beta)^(-1 / beta): at or below the minimum, by a factor of at least k^(-1 / beta) for k limits."""
        beta, low = 1 / self._temperature(kernel), self._low(own, stock)
        safe = torch.where(low > 0, low, torch.ones_like(low))
        inside = ((own / safe).clamp_min(1e-30) ** -beta).sum(0) + self._held((stock / safe[self._owner]).clamp_min(1e-30) ** -beta)
        return torch.where(low > 0, safe * inside ** (-1 / beta), low * inside)

    def through(self, kernel: Kernel, own: Tensor, stock: Tensor) -> Tensor:
        """What straight-through differentiates: the mean with weights ~ exp(-beta log(v / min v)), held constant, so that they always add up to one."""
        beta, low = 1 / self._temperature(kernel), self._low(own, stock)
        tiny, a, b = torch.finfo(low.dtype).tiny, own.detach(), stock.detach()  # detached from forward mode as well
        weights = [(low.clamp_min(tiny) / a.clamp_min(tiny)) ** beta, (low.clamp_min(tiny)[self._owner] / b.clamp_min(tiny)) ** beta]
        return self._weighted(low, own, stock, *weights)

    @property
    def _owner(self) -> Tensor:
        assert self.network is not None
        return self.network.owner

    def _held(self, value: Tensor) -> Tensor:
        assert self.network is not None
        return self.network.held(value)

    def _low(self, own: Tensor, stock: Tensor) -> Tensor:
        assert self.network is not None
        with torch.no_grad():
            return torch.minimum(own.detach().amin(0), self.network.lowest(stock.detach()))

    def _weighted(self, low: Tensor, own: Tensor, stock: Tensor, of_own: Tensor, of_stock: Tensor) -> Tensor:
        """`low`, with the gradient of the weighted mean."""
        with torch.no_grad():
            total = of_own.sum(0) + self._held(of_stock)
            of_own, of_stock = of_own / total, of_stock / total[self._owner]
        if not torch.is_grad_enabled():
            return low
        zero = torch.zeros((), dtype=low.dtype, device=low.device)  # an infinite limit has no weight, and 0 * infinity is not a number
        mean = (of_own * torch.where(of_own > 0, own, zero)).sum(0) + self._held(of_stock * torch.where(of_stock > 0, stock, zero))
        return low + (mean - mean.detach())

    def _temperature(self, kernel: Kernel) -> float | Tensor:
        if not isinstance(kernel, Logistic):
            raise InputError(f"the smallest of a firm's limits is smoothed by Logistic(1 / beta) only, got {type(kernel).__name__}")
        return kernel.temperature


def smallest(network: Network, own: Sequence[Tensor], stock: Tensor, *, relax: Relaxation) -> Tensor:
    """The smallest of a firm's limits.

    Args:
        network: says which inputs are whose.
        own: limits `(M, B)` of the firm itself (demand, capacity), at least one.
        stock: `(K, B)` limits by its inputs.
        relax: `Exact` (sub-gradient, ties share it evenly), `StraightThrough(Logistic(1 / beta))`, `Smoothed(Logistic(1 / beta))`.
    Returns: `(M, B)`; a firm without inputs has its own limits only.
    """
    return relax.read(Smallest(network=network), torch.stack(torch.broadcast_tensors(*own)), stock)
