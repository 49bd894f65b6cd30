"""Differences of many items at once: the gradient of a program full of jumps, at a price that does not grow with the number of items.

Where the outputs of an item depend on that item's parameters only, moving one block of parameters of *all* items together moves every item alone. Two exact
evaluations a block then give the central differences of every parameter of every item, as many as there may be; what happens to the outputs afterwards (a
percentile over futures, a shared warehouse, a network) is differentiated as usual, by the chain rule.
Source: central differences under common random numbers, Glasserman & Yao (1992), doi:10.1287/mnsc.38.6.884; the smoothing that they are exact for is that of
Ermoliev & Norkin (1997), On nonsmooth and discontinuous problems of stochastic systems optimization, doi:10.1016/S0377-2217(96)00287-1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax.readings import Exact

Outputs = tuple[Tensor, ...]
ItemProgram = Callable[[dict[str, Tensor]], Outputs]


@dataclass(frozen=True)
class ItemDifferences:
    """The exact program forward; backward, central differences of it, block by block for all items at once.

    The slope of an output f in a parameter is [f(theta + h) - f(theta - h)] / 2h on the same futures: without error the derivative of E f(theta + h U), U
    uniform on (-1, 1), the exact program blurred by h along that parameter alone. For whole numbers that is what "gradient" can mean: the change that a
    step of h makes, whatever jumps lie between. At a bound the difference is one-sided.

    Args:
        width: block -> h > 0, a number or `(N,)`, in units of the block; at least the distance between jumps (two units, one week).
        lower: block -> smallest value of the parameter.
        upper: block -> largest value.
    """

    width: Mapping[str, float | Tensor]
    lower: Mapping[str, float] | None = None
    upper: Mapping[str, float] | None = None

    def evaluations(self) -> int:
        """How often one value and gradient evaluate the program: once, and twice a block."""
        return 1 + 2 * len(self.width)

    def part(self, items: Tensor | slice) -> ItemDifferences:
        """The same for some of the items."""
        return replace(self, width={name: h[items] if isinstance(h, Tensor) and h.dim() else h for name, h in self.width.items()})

    def evaluate(self, program: ItemProgram, parameters: Mapping[str, Tensor]) -> Outputs:
        """The exact outputs, differentiable in the parameters.

        Args:
            program: block -> `(..., N)` to a tuple of outputs `(..., S, N)`, read exactly; output n may depend on the parameters of item n only
                (`confirm` looks). It is called again in the backward pass and gets no gradient for anything else that it reads.
            parameters: block -> `(..., N)`.
        Returns: what the program returns.
        Gradient: central differences in the parameters; twice differentiated, it raises.
        Raises: InputError for unknown blocks, widths that are not positive or bounds that leave no room; ShapeError for outputs that do not fit.
        """
        checks.exact_names("width", self.width, parameters)
        for name in (*(self.lower or {}), *(self.upper or {})):
            checks.one_of("a bounded block", name, parameters)
        names = tuple(parameters)
        shape = parameters[names[0]].shape
        for name in names:
            checks.floating(f"parameter {name}", parameters[name])
            if parameters[name].shape != shape:
                raise ShapeError(f"parameter {name} must have the shape of {names[0]}, {tuple(shape)}, got {tuple(parameters[name].shape)}")
        found: Outputs = _Differenced.apply(self, program, names, *parameters.values())
        return found

    def confirm(self, program: ItemProgram, parameters: Mapping[str, Tensor]) -> None:
        """Move the parameters of every second item, and see that the other items' outputs stay.

        Raises: InputError naming an item that has noticed.
        """
        with torch.no_grad():
            before = program(dict(parameters))
            moved = {}
            for name, x in parameters.items():
                low, high = self._ends(name, x.detach())
                odd = torch.arange(x.shape[-1], device=x.device) % 2 == 1
                moved[name] = torch.where(odd, torch.where(high > x, high, low), x)
            after = program(moved)
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            changed = ((a != b) & ~(a.isnan() & b.isnan())).flatten(0, -2).any(0) & ~odd
            if bool(changed.any()):
                raise InputError(
                    f"item {int(changed.nonzero()[0, 0])} of output {i} depends on the parameters of other items, which item differences cannot see"
                )

    def gradient(self, program: Callable[..., Tensor], parameters: Mapping[str, Tensor], future: Any, *, index: int = 0) -> dict[str, Tensor]:
        """Block -> gradient of the mean cost, for the audit; the program returns costs `(..., S, N)`."""
        leaves = {name: x.detach().clone().requires_grad_() for name, x in parameters.items()}
        with torch.enable_grad():
            (cost,) = self.evaluate(lambda theta: (program(theta, future, relax=Exact()),), leaves)
            found = torch.autograd.grad(cost.mean(), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    def _ends(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where the difference of a block begins and ends."""
        h = torch.as_tensor(self.width[name]).to(x)
        if not bool((h > 0).all()):
            raise InputError(f"the width of {name} must be > 0, got {float(h.min())}")
        try:
            low, high = x - h, x + h
        except RuntimeError:
            raise ShapeError(f"the width of {name} must broadcast with {tuple(x.shape)}, got {tuple(h.shape)}") from None
        if low.shape != x.shape:
            raise ShapeError(f"the width of {name} must broadcast with {tuple(x.shape)}, got {tuple(h.shape)}")
        if self.lower and name in self.lower:
            low = low.clamp_min(self.lower[name])
        if self.upper and name in self.upper:
            high = high.clamp_max(self.upper[name])
        if not bool((high > low).all()):
            where = tuple((~(high > low)).nonzero()[0].tolist())
            raise InputError(f"{name} at {where} is {float(x[where])}, which leaves no room between {float(low[where])} and {float(high[where])}")
        return low, high


class _Differenced(torch.autograd.Function):
    """Exact outputs; backward, the program again at both ends of every block."""

    @staticmethod
    def forward(ctx: Any, how: ItemDifferences, program: ItemProgram, names: tuple[str, ...], *values: Tensor) -> Outputs:
        outputs = tuple(program(dict(zip(names, values, strict=True))))
        shape = values[0].shape
        for i, x in enumerate(outputs):
            if x.dim() != len(shape) + 1 or x.shape[:-2] != shape[:-1] or x.shape[-1:] != shape[-1:]:
                raise ShapeError(f"output {i} must have shape (..., S, N) for parameters {tuple(shape)}, got {tuple(x.shape)}")
        ctx.how, ctx.program, ctx.names = how, program, names
        ctx.save_for_backward(*values)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        at = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        slopes: list[Tensor | None] = []
        for name, needed in zip(ctx.names, ctx.needs_input_grad[3:], strict=True):
            if not needed:
                slopes.append(None)
                continue
            low, high = ctx.how._ends(name, at[name])
            up, down = ctx.program({**at, name: high}), ctx.program({**at, name: low})
            total = torch.zeros_like(at[name])
            for grad, a, b in zip(grads, up, down, strict=True):
                if grad is not None:
                    total = total + (grad * (a - b)).sum(-2)
            slopes.append(total / (high - low))
        return None, None, None, *slopes
