"""Counter-based random numbers: every draw is a function of where it is used, not of what was drawn before.

A draw is addressed by a seed, a purpose and up to three indices (item, path, period, say), so that two decisions meet the same futures, a shard of a
simulation agrees with the whole, and a run can be repeated, on any device.
Source: Salmon, Moraes, Dror & Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, doi:10.1145/2063384.2063405 (Philox 4x32, 10 rounds).
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_BLOCK = 16384  # addresses


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int | Tensor, int | Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4x32-10: four int64 tensors of one shape holding 32-bit words -> four of the same shape; the key in numbers or in tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1.bitwise_xor_(c1).bitwise_xor_(k0), low1, high0.bitwise_xor_(c3).bitwise_xor_(k1), low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low word of a 32 x 32 bit product: int64 wraps around, so its 64 bits are those of the product."""
    product = a * b
    return (product >> 32).bitwise_and_(_MASK), product.bitwise_and_(_MASK)


def _fill(result: Tensor, words: list[Tensor], key: tuple[int, int]) -> None:
    """Numbers of a block of addresses; large blocks are halved until they fit into the cache of a core, where they are drawn several times as fast."""
    if result.device.type == "cpu" and result.numel() > _BLOCK:
        dim = max(range(result.dim()), key=lambda i: result.shape[i])
        half = result.shape[dim] // 2
        for first, length in ((0, half), (half, result.shape[dim] - half)):
            _fill(result.narrow(dim, first, length), [w.narrow(dim, first, length) for w in words], key)
        return
    a, b, _, _ = philox((words[0], words[1], words[2], words[3]), key)
    if result.dtype == torch.float64:
        result.copy_(((a >> 6) * 2**26 + (b >> 6)).to(torch.float64).add_(0.5).mul_(2.0**-52))
    else:
        result.copy_((a >> 9).to(torch.float32).add_(0.5).mul_(2.0**-23))


def uniform(seed: int, purpose: str, *indices: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform numbers in (0, 1), one an address.

    Args:
        seed: an integer in [0, 2^64).
        purpose: what the numbers are for ("demand", "lead_time" ...); different purposes are independent streams.
        *indices: up to three integer tensors in [0, 2^32) that broadcast, for example item `(N,)`, path `(S, 1)`, period `(T, 1, 1)`.
        dtype: of the result, float64 (52 random bits) or float32 (23): one bit less than the mantissa holds, so that neither 0 nor 1 can occur.
    Returns: the broadcast shape of the indices, on their device.
    Gradient: none.
    Raises: InputError for a seed, an index or a dtype out of range; ShapeError for indices that do not broadcast.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise InputError(f"seed must be an integer in [0, 2^64), got {seed!r}")
    if dtype not in (torch.float64, torch.float32):
        raise InputError(f"dtype must be torch.float64 or torch.float32, got {dtype}")
    if not 1 <= len(indices) <= 3:
        raise InputError(f"uniform takes one to three index tensors, got {len(indices)}")
    for i, t in enumerate(indices):
        if not isinstance(t, Tensor):
            raise InputError(f"index {i} must be an integer tensor, got {type(t).__name__}")
        if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
            raise InputError(f"index {i} must be an integer tensor, got dtype {t.dtype}")
        if t.numel() and (int(t.min()) < 0 or int(t.max()) > _MASK):
            raise InputError(f"index {i} must lie in [0, 2^32), got [{int(t.min())}, {int(t.max())}]")
    shape = checks.broadcast({f"index {i}": t.shape for i, t in enumerate(indices)})
    words = [t.to(torch.int64).expand(shape) for t in indices]
    words += [torch.zeros((), dtype=torch.int64, device=indices[0].device).expand(shape)] * (3 - len(words))
    words.append(torch.full((), zlib.crc32(purpose.encode()), dtype=torch.int64, device=indices[0].device).expand(shape))
    result = torch.empty(shape, dtype=dtype, device=indices[0].device)
    _fill(result, words, (seed & _MASK, seed >> 32))
    return result


def normal(seed: int, purpose: str, *indices: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, one an address: the inverse distribution function of `uniform`."""
    return torch.special.ndtri(uniform(seed, purpose, *indices, dtype=torch.float64)).to(dtype)
