"""One verb for every method without gradients: the same objective, the same start, a budget that holds.

Letters: `C` candidates in one call, `N` items, `K` parameters an item, `d` all parameters of a candidate, flattened.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Objective = Callable[[Tensor], Tensor]


class Method(Protocol):
    """A way to search; frozen, with its own settings. Add one as a file of this folder and a line in the tests' list.

    A class attribute `library` names the module it stands on, if any: it is imported before the clock starts.
    """

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Ask `evaluate` for values until it ends the search, or return by a stopping rule of the method's own."""
        ...


@dataclass
class Trace:
    """How a search went: one entry for the start, each improvement, and the end; evaluations and seconds are cumulative, value is the best so far."""

    evaluations: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        value: the best value met.
        point: where, in the shape of the start.
        evaluations: candidates that were evaluated, the start among them.
        seconds: until the search ended; above the budget where a method did not ask for values for a while, and so could not be stopped.
        trace: best value against evaluations and seconds.
        ended: "budget spent", "its own stopping rule", or "failed: ..." with what the method's library raised; the best until then still counts.
    """

    value: float
    point: Tensor
    evaluations: int
    seconds: float
    trace: Trace
    ended: str


class _SpentError(BaseException):
    """Ends a method from within its call of the objective; not an Exception, so that no library swallows it."""


class Evaluator:
    """The objective as a method sees it: counts, keeps the best, and ends the search when the budget is spent.

    Attributes:
        lower, upper: `(d,)` box, infinite where the caller gave none.
        shape: of the start.
    """

    def __init__(
        self, objective: Objective, start: Tensor, bounds: tuple[Tensor, Tensor], evaluations: float, seconds: float, rows: int, clock: Callable[[], float]
    ) -> None:
        self.shape, (self.lower, self.upper), self.trace = start.shape, bounds, Trace()
        self.used, self.value, self.point = 0, math.inf, start
        self.error: BaseException | None = None
        self._objective, self._evaluations, self._limit, self._rows, self._clock = objective, evaluations, seconds, rows, clock
        self._by_item: Tensor | None = None
        self._begin = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return self._clock() - self._begin

    def __call__(self, points: Tensor) -> Tensor:
        """Values of whole candidates.

        Args:
            points: `(C, d)` or one, `(d,)`.
        Returns: `(C,)`, or `()`; NaN comes back as infinity.
        """
        values = self._values(points.reshape(-1, self.point.numel()), apart=False)
        return values.reshape(points.shape[:-1])

    def items(self, points: Tensor) -> Tensor:
        """Values of every item on its own, for an objective that gives them; the best point is put together item by item.

        Args:
            points: `(C, N, K)`.
        Returns: `(C, N)`.
        """
        return self._values(points.reshape(points.shape[0], -1), apart=True)

    def box(self, method: str) -> tuple[Tensor, Tensor]:
        """The box, for methods that cannot do without."""
        if not bool((self.lower.isfinite() & self.upper.isfinite()).all()):
            raise InputError(f"{method} searches a box: bounds must be finite for every parameter, got {_say(self.lower)} to {_say(self.upper)}")
        return self.lower, self.upper

    def first(self) -> None:
        """The start, which is evaluated whatever the budget."""
        found = self._call(self.point.reshape(1, -1))
        if found.dim() == 2:
            self._by_item = found[0].clone()
        self.used = 1
        self._note(float(found.sum()), self.point)

    def _values(self, points: Tensor, *, apart: bool) -> Tensor:
        out: list[Tensor] = []
        for block in points.split(self._rows):
            room = self._evaluations - self.used
            if room <= 0 or self.elapsed >= self._limit:
                raise _SpentError
            block = block[: int(min(room, len(block)))]
            found = self._call(block)
            if self.elapsed > self._limit:  # came too late
                raise _SpentError
            self.used += len(block)
            if apart:
                self._best_of_items(found, block)
            else:
                found = found.sum(-1) if found.dim() == 2 else found
                best = int(found.argmin())
                if float(found[best]) < self.value:
                    self._note(float(found[best]), block[best].reshape(self.shape))
            out.append(found)
        if sum(map(len, out)) < len(points):
            raise _SpentError
        return torch.cat(out)

    def _call(self, block: Tensor) -> Tensor:
        try:
            with torch.no_grad():
                found = self._objective(block.reshape(len(block), *self.shape))
            count = len(block)
            if found.shape not in ((count,), (count, *self.shape[:1])):
                asked = f"the objective must return (C,) = ({count},) values, or (C, N) of items, for points {(count, *self.shape)}"
                raise ShapeError(f"{asked}, got {tuple(found.shape)}")
        except Exception as error:
            self.error = error  # the objective's fault, not the method's
            raise
        return torch.where(found.isnan(), math.inf, found.detach().to(self.point.dtype))

    def _best_of_items(self, found: Tensor, block: Tensor) -> None:
        if self._by_item is None:
            raise InputError("a search item by item needs an objective that returns (C, N), one value an item; this one returns (C,)")
        best, row = found.min(0)
        better = best < self._by_item
        if bool(better.any()):
            at = block.reshape(len(block), *self.shape)[row, torch.arange(len(row))]
            self._by_item = torch.where(better, best, self._by_item)
            self._note(float(self._by_item.sum()), torch.where(better[:, None], at, self.point))

    def _note(self, value: float, point: Tensor) -> None:
        self.value, self.point = value, point.clone()
        self.mark()

    def mark(self) -> None:
        """One entry of the trace."""
        self.trace.evaluations.append(self.used)
        self.trace.seconds.append(self.elapsed)
        self.trace.value.append(self.value)


def minimise(
    objective: Objective,
    start: Tensor,
    *,
    method: Method,
    evaluations: int | None = None,
    seconds: float | None = None,
    bounds: tuple[Tensor | float, Tensor | float] | None = None,
    rows: int = 64,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """Search for the smallest value of an objective, without its gradient.

    Every method gets the same: the start, which is its first evaluation; a budget in evaluations, in seconds, or both, that ends it at the evaluation where
    it is spent (an evaluation that would come back after the last second is not counted); and the best that it met is kept, whatever it returns itself.

    Args:
        objective: `(C, *shape) -> (C,)`; or, for start `(N, K)`, `(C, N, K) -> (C, N)` values of items that do not interact, whose sum is minimised. The very
            function that a gradient route trains, read exactly. NaN counts as infinity.
        start: `(d,)` or `(N, K)`.
        method: `CMA()`, `NelderMead()`, `SHGO()`, `TPE()`, `DifferentialEvolution()`, `RandomSearch()`, `CrossEntropyByItem()`, or your own `Method`.
        evaluations: most candidates, >= 1.
        seconds: most seconds, > 0. A method that computes without asking for values cannot be interrupted: `Found.seconds` tells.
        bounds: lower and upper, broadcast to the start; methods that search a box need it, the others do not see it.
        rows: most candidates in one call of the objective, which bounds its memory and how late it can be.
        seed: of the method's random numbers; no global generator is touched.
        clock: what the seconds are measured with; `time.process_time` on a machine that others use.
    Returns: Found. A method that fails is a result (`Found.ended`); an objective that fails raises.
    Raises: InputError, ShapeError.
    """
    checks.floating("start", start)
    checks.finite("start", start)
    if evaluations is None and seconds is None:
        raise InputError("a search needs a budget: give evaluations, seconds or both")
    most = math.inf if evaluations is None else checks.at_least("evaluations", evaluations, 1)
    limit = math.inf if seconds is None else checks.positive("seconds", seconds)
    box = _box(bounds, start)
    _import(getattr(method, "library", None))
    evaluate = Evaluator(objective, start.detach(), box, most, limit, checks.at_least("rows", rows, 1), clock)
    evaluate.first()
    ended = "its own stopping rule"
    try:
        method.search(evaluate, start.detach(), seed=checks.at_least("seed", seed, 0))
    except _SpentError:
        ended = "budget spent"
    except Exception as error:
        if error is evaluate.error or isinstance(error, InputError | ImportError):
            raise
        ended = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    evaluate.mark()
    return Found(evaluate.value, evaluate.point, evaluate.used, evaluate.trace.seconds[-1], evaluate.trace, ended)


def _box(bounds: tuple[Tensor | float, Tensor | float] | None, start: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    checks.broadcast({"start": start.shape, "lower bound": torch.as_tensor(low).shape, "upper bound": torch.as_tensor(high).shape})
    lower, upper = (torch.as_tensor(b, dtype=start.dtype).expand(start.shape).reshape(-1) for b in (low, high))
    if not bool((lower < upper).all()):
        raise InputError(f"bounds must have lower < upper, got {_say(lower)} to {_say(upper)}")
    return lower, upper


def _say(x: Tensor) -> str:
    values = [f"{v:g}" for v in x[:4].tolist()]
    return f"({', '.join(values)}{', ...' if x.numel() > 4 else ''})"


def _import(library: str | None) -> None:
    """Loading a library is no part of a search."""
    if library is not None:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise ImportError(f"{library} is not installed: install the extra `dpsc[search]` ({error})") from error
