"""estimate: the mean cost of random integers, with a gradient in their law; and what the estimators share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax.counts import Law, count
from dpsc.types import Relaxation

Program = Callable[[Tensor], Tensor]


@runtime_checkable
class Estimator(Protocol):
    """How the gradient of E f(X) in the law of X is estimated; a frozen dataclass, one a file.

    Attributes:
        unbiased: whether the mean of the estimate is the gradient, for any cost.
    """

    unbiased: ClassVar[bool]

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """Shape of the uniforms that one sample needs; raises InputError for a law that the estimator does not know."""
        ...

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`(*batch)` mean cost, and `(*batch)` a tensor whose gradient, not value, is the estimate."""
        ...


def estimate(program: Program, law: Law, noise: Tensor, estimator: Estimator | Relaxation) -> Tensor:
    """Mean cost of a program of random integers, differentiable in their law.

    Args:
        program: counts `(..., S, *law.shape)` -> costs `(..., S, *batch)`, `batch` being the leading dimensions of `law.shape`; those that are missing in
            the cost are coupled: their counts interact. It must take any leading dimensions, because estimators evaluate it again, in one call.
        law: of the counts.
        noise: `(S, *estimator.uniforms(law))` uniforms in (0, 1), drawn outside; `(S, *law.shape)` for most.
        estimator: `Difference`, `Score`, `DisARM`, `GumbelSoftmax`, `ExactExpectation`, `PerturbAndMAP`, `Rebar`; or a reading, which differentiates
            along the sampled counts and is biased at jumps.
    Returns: `(*batch)` mean over the samples; the exact program's, unless the estimator relaxes it.
    Gradient: in the law by the estimator, in anything else that the program reads along its path.
    Raises: ShapeError for noise or costs of another shape, InputError for a law that the estimator does not know.
    """
    if isinstance(estimator, Estimator):
        shape = estimator.uniforms(law)
    elif isinstance(estimator, Relaxation):
        shape = tuple(law.shape)
    else:
        raise InputError(f"estimator must be an estimator or a reading, got {estimator!r}")
    checks.floating("noise", noise)
    if noise.dim() != 1 + len(shape) or tuple(noise.shape[1:]) != shape or noise.shape[0] < 1:
        raise ShapeError(f"noise must have shape (S, *uniforms) = (S, {', '.join(map(str, shape))}) with S >= 1, got {tuple(noise.shape)}")
    if not isinstance(estimator, Estimator):
        return evaluate(program, law, count(law, noise, relax=estimator)).mean(0)
    value, surrogate = estimator.surrogate(program, law, noise)
    return value + (surrogate - surrogate.detach())


def evaluate(program: Program, law: Law, counts: Tensor) -> Tensor:
    """The program's costs, their shape checked."""
    cost = program(counts)
    lead = counts.shape[: counts.dim() - len(law.shape)]
    batch = cost.shape[len(lead) :]
    if cost.shape[: len(lead)] != lead or law.shape[: len(batch)] != batch:
        raise ShapeError(
            f"the program must return costs of shape (*{tuple(lead)}, *batch) with batch a beginning of law.shape = {tuple(law.shape)}, got {tuple(cost.shape)}"
        )
    return cost


def coupled(cost: Tensor, counts: Tensor, law: Law) -> int:
    """How many trailing dimensions of the law interact in a cost."""
    return len(law.shape) - (cost.dim() - (counts.dim() - len(law.shape)))


def summed(x: Tensor, dimensions: int) -> Tensor:
    """Sum over the last so many dimensions."""
    return x.flatten(x.dim() - dimensions).sum(-1) if dimensions else x


def one_by_one(x: Tensor, dimensions: int) -> Tensor:
    """`(C, *x.shape)`: one where the c-th coupled count is, else zero."""
    shape = x.shape[x.dim() - dimensions :]
    unit = torch.eye(math.prod(shape), dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.dim() - dimensions), *shape)
    return unit.expand(-1, *x.shape)


def supported(estimator: object, law: Law, *known: type[Law]) -> None:
    """A named error for a law that the estimator does not know."""
    if not isinstance(law, known):
        raise InputError(f"{type(estimator).__name__} knows {', '.join(k.__name__ for k in known)}, got {type(law).__name__}")
