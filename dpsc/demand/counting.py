"""Counts by inverse transform where every cell has a law of its own, so that no table can be shared.

Probabilities follow Panjer's recursion p(k + 1) = p(k) (a + b k) / (k + 1): Poisson a = rate, b = 0; negative binomial a = q r, b = q. The running sum is
compared with the uniform number, and cells that are done leave the loop, so that the work is about the sum of what is drawn.
Source: Panjer (1981), Recursive evaluation of a family of compound distributions, ASTIN Bulletin 12.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import InputError

BLOCK = 8  # values of k between two looks at which cells are done
CELLS = 16384
SMALLEST_LOG = -690.0  # exp of less is zero in float64, and the recursion could not leave it


def inverse(uniform: Tensor, log_zero: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The smallest k with P(X <= k) >= u.

    Args:
        uniform: `(...)` in (0, 1).
        log_zero: `(...)` log P(X = 0).
        a: `(...)`, see the module.
        b: `(...)`, in [0, 1).
    Returns: `(...)` float64 whole numbers.
    Raises: InputError where P(X = 0) is too small for the recursion, which happens for means of several hundred.
    """
    shape = torch.broadcast_shapes(uniform.shape, log_zero.shape, a.shape, b.shape)
    u, start, a, b = (x.double().expand(shape).reshape(-1) for x in (uniform, log_zero, a, b))
    if start.numel() and float(start.min()) < SMALLEST_LOG:
        raise InputError(f"a count with P(0) = exp({float(start.min()):.4g}) is too large for the recursion; use larger units, or a law with a table")
    if u.device.type != "cpu" or len(u) <= CELLS:
        return _counted(u, start, a, b).reshape(shape)
    parts = (x.split(CELLS) for x in (u, start, a, b))
    return torch.cat([_counted(*part) for part in zip(*parts, strict=True)]).reshape(shape)


def _counted(u: Tensor, start: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`(C,)` cells that fit into the cache of a core."""
    result = torch.zeros_like(u)
    cell = torch.arange(len(u), device=u.device)
    p = start.exp()
    total = p.clone()
    k = 0
    while len(cell):
        counted = torch.zeros_like(u)
        for _ in range(BLOCK):
            going = total < u
            counted += going
            p = p * (a + b * k) / (k + 1)
            k += 1
            total = total + p
        result[cell] += counted
        # Below u, and still growing: near 1 the sum may stop short of u by its own rounding, once p is past its peak and does not count any more.
        left = ((total < u) & ((a + b * k >= k + 1) | (p > 1e-17 * (1 - b)))).nonzero()[:, 0]
        cell, u, a, b, p, total = cell[left], u[left], a[left], b[left], p[left], total[left]
    return result
