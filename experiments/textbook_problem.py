"""A textbook problem as a differentiable program: parameters in, expected cost out; decisions out of the parameters, priced by a referee."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.types import Instance

Decision = tuple[float, ...]


@dataclass(frozen=True)
class Problem:
    """One row of the table.

    Attributes:
        name: of the row.
        family: of similar problems; they are trained with the same numbers.
        start: `(G, P)` parameters, one row a start, float64.
        loss: parameters and the fraction of training done -> `(G,)` expected cost.
        decisions: one row of parameters -> the decisions that it may stand for (its whole neighbours, say).
        price: decision -> exact cost, by a referee.
        optimum: the referee's best decision and its cost.
        explores: whether the trained cost includes states of other origin, so that it is not comparable with the optimum.
    """

    name: str
    family: str
    start: Tensor
    loss: Callable[[Tensor, float], Tensor]
    decisions: Callable[[Sequence[float]], list[Decision]]
    price: Callable[[Decision], float]
    optimum: tuple[Decision, float]
    explores: bool = False


def short(instance: Instance) -> str:
    return instance.name.removeprefix("textbook_").removeprefix("average_cost_")


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def whole_neighbours(values: Sequence[float]) -> list[Decision]:
    """All whole points next to a real one."""
    return [tuple(map(float, p)) for p in itertools.product(*[sorted({math.floor(v), math.ceil(v)}) for v in values])]
