"""Whole runs of the paper's step as one differentiable operation, with a backward pass of their own.

The run keeps output and demand of every step and the stocks of some; on the way back the stocks in between are rebuilt. `torch.ops.dpsc.firms_forward` and
`firms_backward` are operators of torch: C++ on the CPU where a compiler is, plain torch operations elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.simulate.firms import native, plain

_INPUTS = (
    "Tensor ptr, Tensor src, Tensor a, Tensor use, Tensor? stock, Tensor order, Tensor inventory, Tensor demand, Tensor c, Tensor z, "
    "Tensor cap, Tensor rate, Tensor ease"
)
_LIBRARY = torch.library.Library("dpsc", "FRAGMENT")
_LIBRARY.define(f"firms_forward({_INPUTS}, int interval, bool shock_on_stock) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
_LIBRARY.define(
    f"firms_backward({_INPUTS}, Tensor x, Tensor demands, Tensor last_stock, Tensor kept, Tensor? gx, Tensor? g_demands, Tensor? g_last_stock, "
    f"Tensor? g_last_order, int interval, bool shock_on_stock, float sharpness, bool[] needs) -> ({', '.join(['Tensor'] * 9)})"
)


def _fits(values: tuple[Any, ...]) -> bool:
    coefficient = values[2]
    return native.available() and coefficient.dtype in (torch.float32, torch.float64)


def _forward_on_cpu(*values: Any) -> Any:
    return native.forward(*values) if _fits(values) else plain.forward(*values)


def _backward_on_cpu(*values: Any) -> Any:
    return native.backward(*values) if _fits(values) else plain.backward(*values)


_LIBRARY.impl("firms_forward", _forward_on_cpu, "CPU")
_LIBRARY.impl("firms_backward", _backward_on_cpu, "CPU")
_LIBRARY.impl("firms_forward", plain.forward, "CUDA")
_LIBRARY.impl("firms_backward", plain.backward, "CUDA")


@torch.library.register_fake("dpsc::firms_forward", lib=_LIBRARY)
def _(
    ptr: Any, src: Any, a: Any, use: Any, stock: Any, order: Any, inventory: Any, demand: Any, c: Any, z: Any, cap: Any, rate: Any, ease: Any, interval: Any,
    on: Any,
) -> Any:  # fmt: skip
    horizon, firms, batch = z.shape
    edge = z.new_empty(len(a), batch)
    kept = -(-horizon // interval) - 1 if interval else 0
    return z.new_empty(horizon, firms, batch), z.new_empty(horizon + 1, firms, batch), edge, torch.empty_like(edge), z.new_empty(kept, len(a), batch)


@torch.library.register_fake("dpsc::firms_backward", lib=_LIBRARY)
def _(
    ptr: Any, src: Any, a: Any, use: Any, stock: Any, order: Any, inventory: Any, demand: Any, c: Any, z: Any, cap: Any, rate: Any, ease: Any, x: Any,
    demands: Any, last_stock: Any, kept: Any, gx: Any, g_demands: Any, g_last_stock: Any, g_last_order: Any, interval: Any, on: Any, sharpness: Any, needs: Any,
) -> Any:  # fmt: skip
    _, firms, batch = z.shape
    edge, firm = (len(a), batch), (firms, batch)
    shapes = (edge, edge, firm, firm, (len(c), *firm), z.shape, firm, firm, firm)
    return tuple(z.new_empty(shape if asked else (0,)) for shape, asked in zip(shapes, needs, strict=True))


class Kernels(NamedTuple):
    """A forward and a backward pass of whole runs; see `plain`."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


PLAIN = Kernels(plain.forward, plain.backward)
NATIVE = Kernels(native.forward, native.backward)


def _operators() -> Kernels:
    return Kernels(torch.ops.dpsc.firms_forward, torch.ops.dpsc.firms_backward)


class WholeRun(torch.autograd.Function):
    """T steps; derivatives in all floating-point inputs but coefficients and use, backward; in use as well, forward (`torch.func.vjp`, `torch.func.jvp`)."""

    @staticmethod
    def forward(settings: tuple[Any, ...], ptr: Tensor, src: Tensor, a: Tensor, *values: Tensor | None) -> Any:
        kernels, interval, shock_on_stock, _ = settings
        return kernels.forward(ptr, src, a, *values, interval, shock_on_stock)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """What the ways back and along need: inputs, output and demand of every step, the stocks kept."""
        x, demands, last_stock, _, kept = output
        ctx.settings = inputs[0]
        ctx.save_for_backward(*inputs[1:], x, demands, last_stock, kept)
        ctx.save_for_forward(*inputs[1:], x, demands)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        kernels, interval, shock_on_stock, sharpness = ctx.settings
        if torch.is_grad_enabled() and any(g is not None and g.requires_grad for g in grads):
            raise InputError(
                "a whole run has first derivatives only; for a second one use rules=Rules(production=...) with a function of your own around leontief"
            )
        g = [None if v is None else v.detach() for v in grads[:4]]
        saved, needs = ctx.saved_tensors, list(ctx.needs_input_grad[5:])
        found = kernels.backward(*saved, *g, max(interval, 1), shock_on_stock, sharpness, needs)
        sums = [f.sum_to_size(v.shape) if asked else None for f, v, asked in zip(found, saved[4:13], needs, strict=True)]
        return (None, None, None, None, None, *sums)

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> Any:
        """Along a direction of the inputs, see `plain.tangent`."""
        _, _, shock_on_stock, sharpness = ctx.settings
        names = ("use", "stock", "order", "inventory", "demand", "c", "z", "cap", "rate", "ease")
        along = {name: d for name, d in zip(names, directions[4:], strict=True) if d is not None}
        return (*plain.tangent(along, shock_on_stock, sharpness, *ctx.saved_tensors), None)


setattr(WholeRun.forward, "__signature__", inspect.signature(WholeRun.forward))  # noqa: B010  # torch asks for it in every call, and finding it takes long


def checkpoint_interval(horizon: int, edge_bytes: int, memory: float) -> int:
    """Steps between kept stocks: 1 where all fit into the memory, else the fewest that do, at best about sqrt T.

    With interval k, T / k stocks are kept and k - 1 rebuilt at a time.
    """
    if horizon * edge_bytes <= memory:
        return 1
    best = min(range(1, horizon + 1), key=lambda k: (-(-horizon // k) + k, k))
    fits = [k for k in range(1, best + 1) if (-(-horizon // k) + k) * edge_bytes <= memory]
    return fits[0] if fits else best
