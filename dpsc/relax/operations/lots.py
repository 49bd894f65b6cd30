"""Orders as suppliers accept them: minimum quantities, packs, and the gate that asks whether there is an order at all."""

from __future__ import annotations

from torch import Tensor

from dpsc import checks
from dpsc.relax.kernels import Number
from dpsc.relax.operations.minimum import maximum
from dpsc.relax.operations.operation import quantity
from dpsc.relax.operations.staircase import floor, round
from dpsc.relax.operations.step import step
from dpsc.relax.readings import Exact, Smoothed
from dpsc.types import Relaxation


def _order(name: str, q: Tensor, relax: Relaxation) -> Tensor:
    """An order, which is not negative; a smoothed program may undershoot zero by its own smoothing, so only NaN is refused there."""
    if isinstance(relax, Smoothed):
        checks.floating(name, q)
        quantity(name, q.detach().abs())
        return q
    return quantity(name, checks.floating(name, q))


def at_least(q: Tensor, minimum_order: Tensor | float, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """A minimum order quantity: nothing below half of M, else at least M.

    0 if q < M / 2, else max(q, M): the nearest feasible order, so that 490 units under a minimum of 500 become 500.

    Args:
        q: `(...)` wanted, units, >= 0.
        minimum_order: M >= 0, units; broadcasts; 0 where there is none.
        relax: how the branch gets its gradient; the kink at M keeps its sub-gradient, which is right, and blurring it would cost units.
        scale: what temperature 1 means, units (a share of M, say).
        lattice: spacing of q - M / 2 in the exact program if 0 is one of its values, else 0.
    Returns: `(...)` ordered, units.
    Gradient: of the soft gate times the maximum; raises when exact.
    Raises: InputError for M < 0 or NaN, or q < 0 or NaN.
    """
    quantity("minimum_order", minimum_order)
    q = _order("the quantity of at_least", q, relax)
    return step(q - minimum_order / 2, relax=relax, scale=scale, lattice=lattice) * maximum(q, minimum_order, relax=Exact())


def pack(q: Tensor, size: Tensor | float, *, relax: Relaxation, up: bool = False, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """Whole packs, pallets or containers.

    Args:
        q: `(...)` wanted, units, >= 0.
        size: of a pack, units, > 0; broadcasts.
        relax: how the rounding gets its gradient.
        up: to the next whole pack instead of the nearest one (half to even).
        scale: what temperature 1 means, units.
        lattice: spacing of q in the exact program, units (1 for integers).
    Returns: `(...)` ordered, a multiple of `size` when hard, units.
    Gradient: of the soft staircase; raises when exact.
    Raises: InputError for a size of 0, negative or NaN, or q < 0 or NaN.
    """
    quantity("the size of a pack", size, strict=True)
    q = _order("the quantity of pack", q, relax)
    if up:  # the soft jump of -floor(-x) sits half a spacing higher, where that of a ceiling belongs
        return -size * floor(-q / size, relax=relax, scale=scale / size, lattice=lattice / size)
    return size * round(q / size, relax=relax, scale=scale / size, lattice=lattice / size)


def order_gate(q: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """1 where something is ordered, else 0: what a fixed order cost is multiplied with.

    Args:
        q: `(...)` ordered, units, >= 0.
        relax: how it gets its gradient.
        scale: what temperature 1 means, units.
        lattice: spacing of q in the exact program, units (1 for integers): without it the soft gate is half open at 0.
    Returns: `(...)` [q > 0].
    Gradient: of the soft step; raises when exact.
    Raises: InputError for q < 0 or NaN.
    """
    return 1 - step(-_order("the quantity of order_gate", q, relax), relax=relax, scale=scale, lattice=lattice)
