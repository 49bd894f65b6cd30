"""The three readings of a program: exact, smoothed, straight-through.

A program is written once with the operations of `dpsc.relax`; the reading that is passed in as `relax=` decides what goes forward and what backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpsc.errors import ExactJumpError, InputError
from dpsc.relax.kernels import Kernel
from dpsc.types import Operation


@dataclass(frozen=True)
class Exact:
    """Hard values, hard gradients: sub-gradients at kinks, an error where a backward pass meets a jump.

    Every number that anyone reports is read this way.
    """

    def read(self, operation: Operation, *inputs: Tensor) -> Tensor:
        """The hard value."""
        if not operation.jumps:
            return operation.hard(*inputs)
        if torch.is_grad_enabled() and any(_tracked(x) for x in inputs):
            result: Tensor = _Refusing.apply(operation, *inputs)
            return result
        return operation.hard(*inputs)


@dataclass(frozen=True)
class Smoothed:
    """Soft values, soft gradients: the program is replaced by a smooth one, whose gradient is exact (of the wrong program, by the temperature).

    Args:
        kernel: `Ramp`, `Logistic`, `Normal`, `Cauchy`, or your own. `Smoothed(Ramp(1.0))` is linear interpolation between integers.
    """

    kernel: Kernel

    def __post_init__(self) -> None:
        _is_kernel(self, self.kernel)

    def read(self, operation: Operation, *inputs: Tensor) -> Tensor:
        """The soft value."""
        return _differentiated(operation, self.kernel, lambda *x: operation.soft(self.kernel, *x), inputs)


@dataclass(frozen=True)
class StraightThrough:
    """Hard values, bit-equal to those of `Exact`, with the gradient of the soft ones at the same inputs.

    An operation that names a stand-in, `through(kernel, *inputs)`, is differentiated through that instead of its soft value.

    Args:
        kernel: of the backward pass. A small temperature is not better: between the jumps it goes blind, and at the jumps it shouts.
    """

    kernel: Kernel

    def __post_init__(self) -> None:
        _is_kernel(self, self.kernel)

    def read(self, operation: Operation, *inputs: Tensor) -> Tensor:
        """The hard value, with the soft gradient."""
        return _differentiated(operation, self.kernel, operation.hard, inputs, through=True)


def _is_kernel(reading: object, kernel: object) -> None:
    if not all(hasattr(kernel, name) for name in ("temperature", "mass", "density", "overshoot")):
        raise InputError(f"{type(reading).__name__} must be given a kernel, such as Logistic(0.25), got {kernel!r}")


def _differentiated(operation: Operation, kernel: Kernel, value: Callable[..., Tensor], inputs: tuple[Tensor, ...], through: bool = False) -> Tensor:
    """`value` forward, the soft slopes backward."""
    if not torch.is_grad_enabled() or not any(_tracked(x) for x in inputs):
        return value(*inputs)
    if operation.elementwise:  # compiled as well: the soft value is not computed on the way forward
        result: Tensor = _Sloped.apply(operation, kernel, value, *inputs)
        return result
    if not through:
        return value(*inputs)
    soft = getattr(operation, "through", operation.soft)(kernel, *inputs)
    with torch.no_grad():
        hard = operation.hard(*inputs).detach()  # without a tangent in forward mode, too
    return hard - (soft.detach() - soft)  # the bracket is +0, and x - 0 is x to the bit


def _tracked(x: Tensor) -> bool:
    """Whether anyone may ask for a gradient; inside torch.func a plain tensor may hide a tracked one."""
    if x.requires_grad or torch.compiler.is_compiling():
        return x.requires_grad
    return type(x) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(x)


class _Refusing(torch.autograd.Function):
    """The hard value, whose backward names the operation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(operation: Operation, *inputs: Tensor) -> Tensor:
        return operation.hard(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.operation = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise ExactJumpError(
            f"a backward pass reached {ctx.operation.name}, which jumps and is read exactly, so it has no gradient; "
            f"pass relax=StraightThrough(Logistic(0.25)) or relax=Smoothed(...) to train through it, or detach its input"
        )


class _Sloped(torch.autograd.Function):
    """A value with elementwise slopes: one saved tensor an input, no graph of the soft value."""

    generate_vmap_rule = True

    @staticmethod
    def forward(operation: Operation, kernel: Kernel, value: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return value(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.operation, ctx.kernel = inputs[:2]
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        slopes = ctx.operation.slopes(ctx.kernel, *ctx.saved_tensors)
        needed = ctx.needs_input_grad[3:]
        return (None, None, None, *(grads[0] * slope if need else None for slope, need in zip(slopes, needed, strict=True)))
