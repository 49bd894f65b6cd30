"""The gradient audit: how wrong is each gradient of *this* program, at *these* parameters.

A relaxed gradient is right about another program. Whether that program's slope resembles that of the exact one depends on the program and on the point,
so the audit measures it: every candidate's gradient against central differences of the exact program under common random numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax.readings import Exact
from dpsc.types import Relaxation

GOOD = 0.9
ALL = "all"

Parameters = Mapping[str, Tensor]
Program = Callable[..., Tensor]


@runtime_checkable
class Gradient(Protocol):
    """A candidate that makes its own gradient instead of reading the program in some way."""

    def gradient(self, program: Program, parameters: Parameters, future: Any, *, index: int) -> dict[str, Tensor]:
        """Block -> estimate of the gradient of the mean cost; `index` is the position of the future, for fresh randomness."""
        ...


@dataclass(frozen=True)
class Perturbation:
    """Antithetic Gaussian perturbation of the parameters around the exact program; no assumption about it, at two evaluations a pair.

    g + mean over pairs of [(f(theta + w z) - f(theta - w z)) / 2 - (w z) . g] z / w: unbiased, for any g, for the gradient of E f(theta + w Z), the exact cost
    blurred by w. With g = 0 the variance grows with the number of parameters; with the gradient g of a relaxed reading as control, only with what that
    reading gets wrong. Where items meet only in their outputs, `ItemDifferences` has no such variance.

    Args:
        width: block -> w, in units of the block.
        pairs: how many, each two exact evaluations.
        seed: of the directions.
        control: reading whose gradient is the control variate; none where None.
    Source: Nesterov & Spokoiny (2017), doi:10.1007/s10208-015-9296-2; control variates: Glasserman (2003), Monte Carlo methods in financial engineering, 4.1.
    """

    width: Mapping[str, float | Tensor]
    pairs: int = 16
    seed: int = 0
    control: Relaxation | None = None

    def gradient(self, program: Program, parameters: Parameters, future: Any, *, index: int = 0) -> dict[str, Tensor]:
        """Block -> estimate, with directions of its own for every `index`."""
        checks.exact_names("Perturbation.width", self.width, parameters)
        checks.at_least("pairs", self.pairs, 1)
        generator = torch.Generator().manual_seed(self.seed + 7919 * index)
        known = {} if self.control is None else _gradient(program, parameters, future, self.control, index)
        known = {name: known[name].to(value) if known else torch.zeros_like(value) for name, value in parameters.items()}
        total = {name: torch.zeros_like(value) for name, value in parameters.items()}
        with torch.no_grad():
            for _ in range(self.pairs):
                z = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device, v.dtype) for n, v in parameters.items()}
                up = program({n: v + self.width[n] * z[n] for n, v in parameters.items()}, future, relax=Exact()).mean()
                down = program({n: v - self.width[n] * z[n] for n, v in parameters.items()}, future, relax=Exact()).mean()
                surprise = (up - down) / 2 - torch.stack([(self.width[n] * z[n] * known[n]).sum() for n in z]).sum()
                for name in total:
                    total[name] += surprise * z[name] / self.width[name]
        return {name: known[name] + value / self.pairs for name, value in total.items()}


@dataclass(frozen=True)
class Row:
    """One candidate on one block of parameters ("all" for the whole gradient).

    Attributes:
        candidate: its name.
        block: of parameters.
        cosine: of the mean gradient to the reference; below 0 it points the wrong way.
        cosine_one: mean cosine of the gradient of a single future: what a training step sees.
        norm_ratio: length of the mean gradient over that of the reference.
        bias: |mean gradient - reference| / |reference|.
        deviation: standard deviation of the gradient of a single future (root of the summed variances) / |reference|; NaN with one future.
        cost: time of value and gradient, in exact evaluations of the program.
    """

    candidate: str
    block: str
    cosine: float
    cosine_one: float
    norm_ratio: float
    bias: float
    deviation: float
    cost: float


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        rows: one a candidate and block, and one a candidate for all blocks together.
        reference: block -> central differences of the exact program.
        reference_error: block -> their standard error over the futures; NaN with one future.
        gradients: candidate -> block -> mean gradient.
        recommended: the candidate that a training step should use.
        advice: why, in a sentence; says so when no candidate is good here.
    """

    rows: Sequence[Row]
    reference: Mapping[str, Tensor]
    reference_error: Mapping[str, Tensor]
    gradients: Mapping[str, Mapping[str, Tensor]]
    recommended: str
    advice: str

    def table(self) -> list[dict[str, Any]]:
        """The rows as plain mappings, for a data frame."""
        return [asdict(row) for row in self.rows]

    def row(self, candidate: str, block: str = ALL) -> Row:
        """The row of a candidate and a block."""
        found = next((r for r in self.rows if r.candidate == candidate and r.block == block), None)
        if found is None:
            checks.one_of("candidate", candidate, {r.candidate for r in self.rows})
            checks.one_of("block", block, {r.block for r in self.rows})
        assert found is not None
        return found


def audit(
    program: Program,
    parameters: Parameters,
    candidates: Mapping[str, Any],
    *,
    futures: Sequence[Any],
    steps: Mapping[str, float | Tensor],
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    coordinates: int | None = None,
) -> Audit:
    """Measure gradients of a program against the exact program itself.

    The reference is [f(theta + h e_i) - f(theta - h e_i)] / 2h of the exact mean cost, both sides on the same futures: without error the slope of the
    cost averaged over +-h along that coordinate, which is what an optimiser that moves by h can use, whether or not f has jumps.

    Args:
        program: `(parameters, future, *, relax) -> ` cost, of any shape; its mean is the objective.
        parameters: block -> tensor, any shapes.
        candidates: name -> what to compare. A reading is passed on as `relax=`, and so is an estimator for `estimate`, if the program hands its `relax` on
            to one; an object with a `gradient` method (`Perturbation`) is asked for its gradient instead.
        futures: what the program takes, one batch of paths each (`[None]` for a program without chance); the spread of a gradient is taken over them.
        steps: block -> h > 0, a number or a tensor that broadcasts with the block, in its units. At least the distance between jumps (one unit, one week).
        lower: block -> smallest value; the difference becomes one-sided there.
        upper: block -> largest value.
        coordinates: differences for so many coordinates of each block, spread evenly, and comparison on these only; all where None.
    Returns: the audit.
    Gradient: none.
    Raises: InputError for an unknown block, a step that is not positive, a cost that is not finite; ShapeError for steps that do not fit.
    """
    if not candidates or not futures or not parameters:
        raise InputError(f"audit needs parameters, candidates and futures, got {len(parameters)}, {len(candidates)} and {len(futures)} of them")
    checks.exact_names("steps", steps, parameters)
    for name, bounds in (("lower", lower or {}), ("upper", upper or {})):
        for block in bounds:
            checks.one_of(f"a block of {name}", block, parameters)
    theta = {name: checks.floating(f"parameter {name}", value).detach() for name, value in parameters.items()}
    picked = {name: _picked(value.numel(), coordinates) for name, value in theta.items()}
    reference, error, forward = _differences(program, theta, futures, steps, lower or {}, upper or {}, picked)
    norm = {**{n: _norm(r) for n, r in reference.items()}, ALL: math.sqrt(sum(_norm(r) ** 2 for r in reference.values()))}

    rows: list[Row] = []
    means: dict[str, dict[str, Tensor]] = {}
    for name, candidate in candidates.items():
        each, seconds = [], []
        for index, future in enumerate(futures):
            start = time.perf_counter()
            gradient = _gradient(program, theta, future, candidate, index)
            seconds.append(time.perf_counter() - start)
            each.append({n: gradient[n].flatten()[picked[n]].double() for n in theta})
        stacked = {n: torch.stack([g[n] for g in each]) for n in theta}
        means[name] = {n: g.mean(0) for n, g in stacked.items()}
        stacked[ALL] = torch.cat(list(stacked.values()), -1)
        cost = sorted(seconds)[len(seconds) // 2] / forward
        target = {**reference, ALL: torch.cat(list(reference.values()))}
        rows += [_row(name, block, stacked[block], target[block], norm[block], cost) for block in (*theta, ALL)]
    best, advice = _advice([r for r in rows if r.block == ALL])
    return Audit(rows, reference, error, means, best, advice)


def _picked(count: int, coordinates: int | None) -> Tensor:
    if coordinates is None or coordinates >= count:
        return torch.arange(count)
    return torch.linspace(0, count - 1, checks.at_least("coordinates", coordinates, 1)).round().long()


def _differences(
    program: Program,
    theta: Parameters,
    futures: Sequence[Any],
    steps: Mapping[str, float | Tensor],
    lower: Mapping[str, float],
    upper: Mapping[str, float],
    picked: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Block -> central differences, block -> standard errors, seconds of one exact evaluation."""
    seconds: list[float] = []

    def exact(block: str, at: Tensor, index: int, value: float) -> Tensor:
        moved = at.clone()
        moved.view(-1)[index] = value
        costs = []
        for i, future in enumerate(futures):
            start = time.perf_counter()
            cost = program({**theta, block: moved}, future, relax=Exact()).detach().double().mean()
            seconds.append(time.perf_counter() - start)
            if not bool(torch.isfinite(cost)):
                raise InputError(f"the exact cost must be finite, got {float(cost)} for future {i} with {block}[{index}] = {value}")
            costs.append(cost)
        return torch.stack(costs)

    reference, error = {}, {}
    with torch.no_grad():
        for block, value in theta.items():
            at = value.contiguous()
            try:
                h = torch.as_tensor(steps[block], dtype=torch.float64).expand(value.shape).flatten()
            except RuntimeError:
                raise ShapeError(
                    f"the step of {block} must broadcast with shape {tuple(value.shape)}, got {tuple(torch.as_tensor(steps[block]).shape)}"
                ) from None
            if not bool((h > 0).all()):
                raise InputError(f"the step of {block} must be > 0, got {float(h.min())}")
            slopes = []
            for index in picked[block].tolist():
                middle = float(at.view(-1)[index])
                low = max(middle - float(h[index]), lower.get(block, -math.inf))
                high = min(middle + float(h[index]), upper.get(block, math.inf))
                if not low < high:
                    raise InputError(f"{block}[{index}] = {middle} leaves no room between its bounds {low} and {high}")
                slopes.append((exact(block, at, index, high) - exact(block, at, index, low)) / (high - low))
            stacked = torch.stack(slopes, -1).cpu()
            reference[block] = stacked.mean(0)
            error[block] = stacked.std(0) / math.sqrt(len(futures)) if len(futures) > 1 else torch.full_like(stacked[0], math.nan)
    return reference, error, sorted(seconds)[len(seconds) // 2]


def _gradient(program: Program, theta: Parameters, future: Any, candidate: Any, index: int) -> dict[str, Tensor]:
    if isinstance(candidate, Gradient):
        return {name: value.detach().cpu() for name, value in candidate.gradient(program, theta, future, index=index).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    with torch.enable_grad():
        value = program(leaves, future, relax=candidate).mean()
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return {name: (torch.zeros_like(leaf) if g is None else g).detach().cpu() for (name, leaf), g in zip(leaves.items(), found, strict=True)}


def _norm(x: Tensor) -> float:
    return float(x.norm())


def _row(candidate: str, block: str, each: Tensor, target: Tensor, size: float, cost: float) -> Row:
    mean = each.mean(0)
    size = size or math.nan
    single = torch.nn.functional.cosine_similarity(each, target[None], dim=-1)
    return Row(
        candidate=candidate,
        block=block,
        cosine=_cosine(mean, target),
        cosine_one=float(single.mean()),
        norm_ratio=_norm(mean) / size,
        bias=_norm(mean - target) / size,
        deviation=float(each.var(0).sum().sqrt()) / size if len(each) > 1 else math.nan,
        cost=cost,
    )


def _cosine(a: Tensor, b: Tensor) -> float:
    scale = _norm(a) * _norm(b)
    return float(a @ b) / scale if scale else 0.0


def _advice(rows: Sequence[Row]) -> tuple[str, str]:
    """The best direction of a single step; among equals the cheapest."""
    usable = [r for r in rows if math.isfinite(r.cosine_one) and math.isfinite(r.bias)]
    if not usable:
        return rows[0].candidate, "the exact gradient is zero or no candidate's gradient is finite, so that nothing can be compared here"
    top = max(r.cosine_one for r in usable)
    best = min((r for r in usable if r.cosine_one >= top - 0.01), key=lambda r: r.cost)
    said = (
        f"{best.candidate}: a single step has cosine {best.cosine_one:.2f} to the exact gradient (all futures {best.cosine:.2f}), "
        f"length {best.norm_ratio:.2g} of it, at the price of {best.cost:.1f} exact evaluations"
    )
    if best.cosine_one < GOOD:
        said += f"; no candidate reaches {GOOD}, so trust none of them here without an exact search to finish"
    wrong = [r.candidate for r in usable if r.cosine < 0]
    if wrong:
        said += f"; pointing the wrong way: {', '.join(wrong)}"
    return best.candidate, said
