"""A small network that moves the levels of an echelon base-stock policy with the state: shared over items, symmetric in stores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.decision.policies.echelon import TINY, allocated, downstream, echelon_position, forecast
from dpsc.decision.policies.quantity import Quantity, items
from dpsc.decision.rationing import Ration, balanced
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, positive_part, round
from dpsc.types import Context, Policy, Relaxation, StockState

LARGEST = 20.0  # scales: what the network is told of a larger stock or demand, which is a forecast near zero rather than news


class NeuralLevels(Policy):
    """Order up to a level that depends on the whole state.

    level_j = S_j + scale_j f(state)_j,   q_j = [level_j - echelon position_j]^+,   suppliers ration.

    f is one network for all leaves (points that supply nobody): a leaf's own stock, pipeline, recent demand and fixed features are encoded; the mean of the
    codes over leaves and the stocks of the hubs (points that supply) make a context that every leaf is told, as in deep sets. Renumbering leaves renumbers
    their orders and changes nothing else; a network trained on 3 stores runs on 50. Hubs' levels are read from the context. The last layer starts at zero, so
    training starts at the echelon base-stock policy with the given levels.

    Args:
        level: `(N,)` echelon levels S to begin with, units.
        supplier: `(N,)` the tree: -1 or the index of the supplier.
        slots: L, pipeline slots of the world that are looked at.
        scale: `(N,)` units, a mean demand a period (a hub's: that of all below it).
        features: `(N, F)` what distinguishes points (lead time, costs, variation), of order one; None for nothing. Hubs' rows are not looked at.
        look_back: periods of `context.observed` that are looked at.
        hidden: width of the code and of the context.
        weight: `(N,)` weights of the ration to begin with, > 0, trained; the scale, untrained, where None.
        ration: see `EchelonBaseStock`.
        whole: whether orders are whole units (given whole stocks).
        relative: whether levels, weights and scale are multiples of a forecast, `context.features[..., 0]`, instead of units; give scale ones.
        generator: of the first weights; zeros, a policy that has yet to be loaded, where None.
    Gradient: exact but for the rounding, which `relax` reads.
    Raises: ShapeError, InputError.
    Source: Zaheer et al. (2017), Deep Sets, arXiv:1703.06114; symmetry-aware policies as in Alvo et al. (2023), arXiv:2306.11246.
    """

    supplier: Tensor
    below: Tensor
    scale: Tensor
    features: Tensor

    def __init__(
        self,
        level: Tensor,
        supplier: Tensor,
        *,
        slots: int,
        scale: Tensor,
        features: Tensor | None = None,
        look_back: int = 0,
        hidden: int = 16,
        weight: Tensor | None = None,
        ration: Ration = balanced,
        whole: bool = True,
        relative: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        points = len(supplier)
        for name, value in (("level", level), ("scale", scale)):
            if value.shape != (points,):
                raise ShapeError(f"{name} must have shape (N,) = ({points},), got {tuple(value.shape)}")
        if features is not None and (features.dim() != 2 or len(features) != points):
            raise ShapeError(f"features must have shape (N, F) with N = {points}, got {tuple(features.shape)}")
        self.slots, self.look_back = checks.at_least("slots", slots, 1), checks.at_least("look_back", look_back, 0)
        checks.at_least("hidden", hidden, 1)
        hubs = supplier[supplier >= 0].unique()
        self.leaves, self.hubs = [i for i in range(points) if i not in hubs.tolist()], hubs.tolist()
        self.register_buffer("supplier", supplier.clone())
        self.register_buffer("below", downstream(supplier))
        self.register_buffer("scale", scale.clone())
        self.register_buffer("features", (level.new_zeros(points, 0) if features is None else features)[self.leaves])
        self.level = Quantity("level", level, scale, whole=False)
        self.weight = None if weight is None else Quantity("weight", weight, scale, whole=False)
        self.ration, self.whole, self.relative = ration, whole, relative
        own = 1 + self.slots + self.look_back
        self.encode = _linear(own + self.features.shape[-1], hidden, level, generator)
        self.gather = _linear(hidden + len(self.hubs) * (1 + self.slots), hidden, level, generator)
        self.leaf = _linear(hidden, 1, level, None)
        self.hub = _linear(hidden, max(len(self.hubs), 1), level, None)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        level, scale = self.level(relax=relax), self.scale
        weight = scale if self.weight is None else self.weight(relax=relax)
        items("level", level, state)
        if len(state.pipeline) < self.slots:
            raise InputError(f"the state must hold at least slots = {self.slots} pipeline slots, got {len(state.pipeline)}")
        if self.relative:
            expected = forecast(context, state.on_hand) + TINY
            level, scale, weight = level * expected, scale * expected, weight * expected
        seen: Sequence[Tensor] = [state.on_hand, *state.pipeline[: self.slots]]
        local = (torch.stack(list(seen), -1) / scale[..., None]).clamp_max(LARGEST)  # (..., S, N, 1 + L)
        leaf, rest = local[..., self.leaves, :], local[..., self.hubs, :].flatten(-2)
        if self.look_back:
            if context.observed is None or len(context.observed) < self.look_back:
                raise InputError(
                    f"the context must hold look_back = {self.look_back} observed periods, got {0 if context.observed is None else len(context.observed)}"
                )
            recent = context.observed[-self.look_back :][..., self.leaves].movedim(0, -1) / scale[..., self.leaves, None]
            leaf = torch.cat([leaf, recent.clamp_max(LARGEST)], -1)
        own = leaf.shape[-1]
        fixed = nn.functional.linear(self.features, self.encode.weight[:, own:], self.encode.bias)
        code = nn.functional.linear(leaf, self.encode.weight[:, :own]) + fixed
        told = self.gather(torch.cat([nn.functional.elu(code).mean(-2), rest], -1))
        shift_leaf = self.leaf(nn.functional.elu(code + told[..., None, :]))[..., 0]
        shift = torch.zeros_like(state.on_hand)
        shift = shift.index_copy(-1, torch.tensor(self.leaves, device=shift.device), shift_leaf)
        if self.hubs:
            shift = shift.index_copy(-1, torch.tensor(self.hubs, device=shift.device), self.hub(nn.functional.elu(told)))
        target = level + scale * shift
        if self.whole:
            target = round(target, relax=relax, scale=scale)
        want = positive_part(target - echelon_position(state, self.below), relax=Exact())
        return allocated(want, state.on_hand, self.supplier, weight, ration=self.ration, relax=relax, whole=self.whole)


def _linear(inputs: int, outputs: int, like: Tensor, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer of the dtype and device of `like`: uniform weights of variance 1 / inputs from a generator, or zeros without one."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        layer.bias.zero_()
        if generator is None:
            layer.weight.zero_()
        else:
            layer.weight.copy_((torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) * 2 - 1) * (3 / max(inputs, 1)) ** 0.5)
    return layer
