"""What the operations share: scale and lattice, and the checks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import DtypeError, InputError
from dpsc.relax.kernels import Kernel, Number


@dataclass(frozen=True, eq=False)
class Soft:
    """An operation with the two numbers that every soft jump needs. Subclass it: `name`, `hard`, and `soft` or `soft` with `slopes`.

    Attributes:
        scale: the units that temperature 1 means; no gradient.
        lattice: spacing of the values that the exact program produces, 0 if they fall anywhere; the soft jump sits half a spacing lower.
    """

    scale: Number = 1.0
    lattice: Number = 0.0

    name: ClassVar[str] = ""
    jumps: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def width(self, kernel: Kernel) -> Number:
        """tau in the units of the input: temperature times scale."""
        return kernel.temperature * self.scale

    def slopes(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """The partial derivatives of `soft`."""
        raise NotImplementedError(f"{self.name} leaves its derivatives to autograd")


def settings(name: str, scale: Number, lattice: Number = 0.0) -> tuple[Number, Number]:
    """Scale and lattice, checked; tensors are detached, and their values are not looked at while a program is compiled."""
    return _above(f"{name}: scale", scale, strict=True), _above(f"{name}: lattice", lattice, strict=False)


def _above(name: str, value: Number, *, strict: bool) -> Number:
    if isinstance(value, Tensor):
        checks.floating(name, value)
        value = value.detach()
        if not torch.compiler.is_compiling() and not bool(((value > 0) if strict else (value >= 0)).all()):
            worst = value[~((value > 0) if strict else (value >= 0))].flatten()[0].item()
            raise InputError(f"{name} must be {'> 0' if strict else '>= 0'} everywhere, got {worst}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value < float("inf") or (value == 0 and not strict)):
        raise InputError(f"{name} must be a finite number {'> 0' if strict else '>= 0'}, or a tensor of such, got {value!r}")
    return value


def operands(name: str, *values: Any) -> Sequence[Tensor]:
    """Floating-point tensors of one shape; numbers are turned into tensors beside the first tensor."""
    first = next((v for v in values if isinstance(v, Tensor)), None)
    if first is None:
        raise DtypeError(f"{name} must be given a torch.Tensor, got {', '.join(type(v).__name__ for v in values)}")
    checks.floating(f"the input of {name}", first)
    tensors = [v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=first.dtype, device=first.device) for v in values]
    if len(tensors) > 1:
        checks.broadcast({f"input {i} of {name}": t.shape for i, t in enumerate(tensors)})
        tensors = [t.to(first.dtype) for t in tensors] if len({t.dtype for t in tensors}) > 1 and not all(t.is_floating_point() for t in tensors) else tensors
        tensors = list(torch.broadcast_tensors(*tensors))
    return tensors


def quantity(name: str, value: Any, *, strict: bool = False) -> Any:
    """A number or a tensor of numbers that must be >= 0 (> 0), NaN refused; not looked at while a program is compiled."""
    if isinstance(value, Tensor):
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(value) or not value.numel():
            return value
        low = value.detach().amin()
        if not bool(low > 0 if strict else low >= 0):  # NaN is the minimum wherever there is one
            bad = ~(value > 0 if strict else value >= 0)
            where = tuple(bad.nonzero()[0].tolist())
            raise InputError(f"{name} must be {'> 0' if strict else '>= 0'}, got {value[where].item()} at index {where}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 if strict else value >= 0):
        raise InputError(f"{name} must be a number {'> 0' if strict else '>= 0'}, got {value!r}")
    return value
