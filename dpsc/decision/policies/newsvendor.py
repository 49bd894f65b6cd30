"""The quantile newsvendor: order up to a quantile of the demand that the order must cover."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax import Exact, positive_part, round
from dpsc.types import Context, Policy, Relaxation, StockState


class QuantileNewsvendor(Policy):
    """Order up to a quantile of the demand over the protection interval.

    q = [F^{-1}(a) - IP]^+, where F is the sample of sums over `protection` successive observed periods (or what `forecast` returns) and a = sigmoid(raw) is
    trained from the critical ratio.

    Args:
        service: `(..., N)` quantile a to begin with, in (0, 1): p / (p + h).
        protection: periods that an order must cover: the lead time, plus one where demand follows the order.
        forecast: context -> `(M, ..., S, N)` samples of demand over the protection interval; None for the sums in `context.observed`.
        whole: whether the level is rounded.
    Gradient: the quantile is interpolated between order statistics, so it is exact in a almost everywhere; `relax` reads the rounding.
    Raises: InputError for a service outside (0, 1), or fewer observed periods than the protection interval.
    Source: the newsvendor applied to forecast quantiles, as the benchmark of Alvo et al. (2023), arXiv:2306.11246.
    """

    def __init__(self, service: Tensor, protection: int, *, forecast: Callable[[Context], Tensor] | None = None, whole: bool = True) -> None:
        super().__init__()
        checks.floating("service", service)
        if not bool(((service > 0) & (service < 1)).all()):
            raise InputError(f"service must lie strictly between 0 and 1, got {service.tolist()}")
        self.raw = nn.Parameter(torch.logit(service).detach().clone())
        self.protection, self.forecast, self.whole = checks.at_least("protection", protection, 1), forecast, whole

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        samples = self._sums(context) if self.forecast is None else self.forecast(context)
        ordered = samples.sort(0).values
        place = (torch.sigmoid(self.raw)[..., None, :] * (len(ordered) - 1)).expand(ordered.shape[1:])
        below = place.detach().floor().clamp(0, len(ordered) - 1).long()
        above = (below + 1).clamp_max(len(ordered) - 1)
        low, high = ordered.gather(0, below[None])[0], ordered.gather(0, above[None])[0]
        level = low + (place - below) * (high - low)
        if self.whole:
            level = round(level, relax=relax)
        return positive_part(level - state.position, relax=Exact())

    def _sums(self, context: Context) -> Tensor:
        """Every sum over `protection` successive observed periods."""
        if context.observed is None or len(context.observed) < self.protection:
            seen = 0 if context.observed is None else len(context.observed)
            raise InputError(f"the context must hold at least protection = {self.protection} observed periods, got {seen}")
        return context.observed.unfold(0, self.protection, 1).sum(-1)
