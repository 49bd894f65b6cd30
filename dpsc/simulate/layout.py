"""Picking and placing entries of the last dimension; a run of neighbours is a view, which costs nothing forward and little backward."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad


def _run(index: tuple[int, ...]) -> bool:
    return index == tuple(range(index[0], index[0] + len(index))) if index else False


@functools.lru_cache(maxsize=256)
def _tensor(index: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(index, dtype=torch.int64, device=device)


def gather(x: Tensor, index: tuple[int, ...]) -> Tensor:
    """`(..., N)` -> `(..., len(index))`."""
    if index == tuple(range(x.shape[-1])):
        return x
    if _run(index):
        return x.narrow(-1, index[0], len(index))
    return x.index_select(-1, _tensor(index, x.device))


def joined(first: Tensor, second: Tensor, index: tuple[int, ...]) -> Tensor:
    """`gather` from `first` and `second` side by side, without laying them side by side where the picks are the beginning of one and the end of the other."""
    size = first.shape[-1]
    split = sum(k < size for k in index)
    head, tail = index[:split], tuple(k - size for k in index[split:])
    if all(k < size for k in head) and all(k >= 0 for k in tail):
        return torch.cat([gather(first, head), gather(second, tail)], -1) if tail else gather(first, head)
    return gather(torch.cat([first, second], -1), index)


def scatter(x: Tensor, index: tuple[int, ...], size: int) -> Tensor:
    """`(..., len(index))` -> `(..., size)`: entry k is added to place index[k], the other places are 0."""
    if _run(index):
        return x if len(index) == size else pad(x, (index[0], size - index[0] - len(index)))
    return x.new_zeros(*x.shape[:-1], size).index_add(-1, _tensor(index, x.device), x)


@functools.lru_cache(maxsize=256)
def constant(values: tuple[float, ...], like: tuple[torch.dtype, torch.device]) -> Tensor:
    """`(len(values),)` numbers, made once."""
    return torch.tensor(values, dtype=like[0], device=like[1])
