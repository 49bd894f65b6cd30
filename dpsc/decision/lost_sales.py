"""Orders under lost sales with a lead time: the capped base-stock rule, and a small network that corrects it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.relax import round as rounded
from dpsc.types import Relaxation

LIMIT = 6.0  # standard deviations at which features are cut: beyond, the network would extrapolate


def capped_order(position: Tensor, level: Tensor, cap: Tensor) -> Tensor:
    """Order up to a level, but never more than a cap: q = min([S - IP]^+, r).

    Args:
        position: `(...)` all stock on hand and due, units.
        level: S, units; broadcasts.
        cap: r >= 0, units; broadcasts.
    Returns: `(...)` units.
    Gradient: exact sub-gradient in level and cap.
    Source: Xin (2021), doi:10.1287/opre.2020.2019.
    """
    return torch.minimum((level - position).clamp_min(0), cap)


class CorrectedCappedOrder(nn.Module):
    """A capped base-stock rule plus a network of its state: q = [min([S - IP]^+, r) + f(features)]^+.

    The features are everything in the pipeline, its total, the capped order itself and, where it is known, the stock projected to the day the order arrives,
    all standardised. The last layer starts small, so training starts at the capped rule.

    Args:
        level: S, units.
        cap: r, units.
        states: `(n, L)` states whose mean and spread standardise the features.
        projected: `(n,)` stock expected to be on hand when an order of today arrives, units; None to do without it, here and in every call.
        weight: `(n,)` importance of the states, such as their share of time.
        width: of the two hidden layers.
        seed: of the weights.
    Shapes: `(..., L)`, `(...)` -> `(...)` units.
    """

    level: Tensor
    cap: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, level: float, cap: float, *, states: Tensor, projected: Tensor | None, weight: Tensor, width: int, seed: int) -> None:
        super().__init__()
        self.projects = projected is not None
        checks.at_least("width", width, 1)
        self.register_buffer("level", torch.tensor(level, dtype=states.dtype, device=states.device))
        self.register_buffer("cap", torch.tensor(cap, dtype=states.dtype, device=states.device))
        features = self._features(states, projected)
        share = (weight / weight.sum())[:, None]
        mean = (features * share).sum(0)
        self.register_buffer("mean", mean)
        self.register_buffer("spread", ((features - mean).square() * share).sum(0).sqrt().clamp_min(0.05))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [nn.Linear(features.shape[1], width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)]
        with torch.no_grad():
            assert isinstance(layers[-1], nn.Linear)
            layers[-1].weight.mul_(0.1)
            layers[-1].bias.zero_()
        self.network = nn.Sequential(*layers).to(states)

    def _features(self, states: Tensor, projected: Tensor | None) -> Tensor:
        position = states.sum(-1)
        known = [position] if projected is None else [position, projected]
        return torch.cat([states, torch.stack([*known, capped_order(position, self.level, self.cap)], -1)], -1)

    def forward(self, states: Tensor, projected: Tensor | None, *, room: Tensor, relax: Relaxation) -> Tensor:
        """The order, rounded as `relax` reads it, cut to the room; whole when read exactly."""
        features = self._features(states, projected)
        seen = ((features - self.mean) / self.spread).clamp(-LIMIT, LIMIT)
        order = (features[..., -1] + self.network(seen)[..., 0]).clamp_min(0)
        return torch.minimum(rounded(torch.minimum(order, room), relax=relax), room)
