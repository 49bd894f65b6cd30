"""Nouns and protocols that cross rooms.

Letters, fixed for the package: `B` batch of problems, `S` sampled futures, `T` periods, `N` stocking points, `L` lead-time slots,
`E` edges, `F` features, `K` periods looked back, `G` models trained side by side (one a seed). `...` stands for any leading batch shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn


class Status(IntEnum):
    """What became of one row of a batch; `Solution.status` holds these as int8."""

    OK = 0
    INACCURATE = 1
    INFEASIBLE = 2
    UNBOUNDED = 3
    INVALID_INPUT = 4


D = TypeVar("D", covariant=True)


@dataclass(frozen=True)
class Solution(Generic[D]):
    """A solved batch, one entry per row everywhere.

    Attributes:
        decision: `(..., *shape)`, or a mapping of such tensors where a problem has several variables. NaN in the rows that have
            no decision (status 2, 3, 4).
        dual: constraint name -> `(..., *shape)` multiplier, >= 0 for inequalities; empty where the problem has none (integers).
        objective: `(...)` value of the problem's one objective at the decision, minimised.
        status: `(...)` int8, a `Status`.
        residual: `(...)` relative error of the optimality (KKT) conditions; 0 for exact enumerations.
    """

    decision: D
    dual: Mapping[str, Tensor]
    objective: Tensor
    status: Tensor
    residual: Tensor

    @classmethod
    def deferred(cls, decision: Any, **later: Callable[[], Any]) -> Solution[Any]:
        """A solution whose other fields are computed when they are first read; in a training step most never are.

        Args:
            decision: known now.
            **later: a function for each of the other fields; it runs with gradients on or off as they are now.
        """
        self = object.__new__(cls)
        self.__dict__.update(decision=decision, _later=later, _grad=torch.is_grad_enabled())
        return self

    def __getattr__(self, name: str) -> Any:
        later = self.__dict__.get("_later", {})
        if name not in later:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        with torch.set_grad_enabled(self.__dict__["_grad"]):
            value = later[name]()
        self.__dict__[name] = value
        return value

    @property
    def ok(self) -> Tensor:
        """`(...)` bool: the rows whose decision can be used (solved, accurately or not)."""
        return self.status <= Status.INACCURATE


@runtime_checkable
class DecisionProblem(Protocol):
    """Named parameters in, `Solution` out, one objective, always minimised."""

    def __call__(self, **parameters: Tensor) -> Solution[Any]:
        """Solve every row: parameters `(..., *shape)` broadcast over their leading dimensions."""
        ...

    def objective(self, decision: Any, **parameters: Tensor) -> Tensor:
        """`(...)`: what `decision` is worth under `parameters`, the very function that solving minimises."""
        ...


class Operation(Protocol):
    """A function with a hard value and a soft one; a `Relaxation` picks which goes forward and which backward.

    Attributes:
        name: for messages.
        jumps: False for a function that is only kinked: its hard value has a sub-gradient.
        elementwise: whether `slopes` knows the derivatives; they are left to autograd otherwise.
    """

    name: ClassVar[str]
    jumps: ClassVar[bool]
    elementwise: ClassVar[bool]

    @property
    def hard(self) -> Callable[..., Tensor]:
        """`(*inputs) -> ` the exact value; differentiable where `jumps` is False."""
        ...

    @property
    def soft(self) -> Callable[..., Tensor]:
        """`(kernel, *inputs) -> ` the value smoothed by a kernel; differentiable."""
        ...

    @property
    def slopes(self) -> Callable[..., tuple[Tensor, ...]]:
        """`(kernel, *inputs) -> ` the partial derivatives of `soft`, one an input; the inputs have one shape."""
        ...


@runtime_checkable
class Relaxation(Protocol):
    """How the integers and branches of a program are read; programs take one as `relax=` and hand it to their operations."""

    def read(self, operation: Operation, *inputs: Tensor) -> Tensor:
        """The operation's value at the inputs, with the gradient that this reading stands for."""
        ...


class StockState(Protocol):
    """What a policy may read of a world's state at the moment of ordering.

    Attributes:
        on_hand: `(..., S, N)` units that can be sold or shipped now.
        pipeline: L tensors `(..., S, N)` of units on their way, slot 0 arriving next; a tuple, or one tensor `(L, ..., S, N)`.
        position: `(..., S, N)` inventory position: on hand and on its way, less backorders.
    """

    @property
    def on_hand(self) -> Tensor:
        """See the class."""
        ...

    @property
    def pipeline(self) -> Sequence[Tensor] | Tensor:
        """See the class."""
        ...

    @property
    def position(self) -> Tensor:
        """See the class."""
        ...


class Context(NamedTuple):
    """What is known beside the stock when an order is placed.

    Attributes:
        period: t, counted from 0.
        observed: `(K, ..., S, N)` units, demand of the last K periods, the newest last; None where nobody looks back.
        features: `(..., S, N, F)` anything else that is known by now (a forecast, the calendar).
    """

    period: int = 0
    observed: Tensor | None = None
    features: Tensor | None = None


class Policy(nn.Module, ABC):
    """State and context -> order. Subclass it with one method, `forward`; a simulator takes it, or any function like it, as a callable."""

    @abstractmethod
    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """`(..., S, N)` order of every stocking point, units >= 0; `relax` reads what jumps (rounding, triggers)."""


@dataclass(frozen=True)
class Instance:
    """A published problem as data: what defines it, what is known about it, and who says so.

    Attributes:
        name: short name, unique in `dpsc.instances`.
        source: publication, or the script and protocol that computed the numbers.
        parameters: the numbers that define the problem.
        known: name -> published or proven value (optimum, bound, decision, sensitivity).
    """

    name: str
    source: str
    parameters: Mapping[str, Any]
    known: Mapping[str, Any] = field(default_factory=dict)
