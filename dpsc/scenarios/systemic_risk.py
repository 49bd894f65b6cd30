"""Which firms would be missed most: by removing them one by one, and by a single gradient.

The loss of a path is what final demand did not get, sum over t of c(t) - delivered(t), in units of the network. Removing firm i sets its productivity to
zero from the onset on; the exact answer takes one run a firm. The gradient takes one run and one backward pass: dL/d delta_i at the network at rest, where
delta_i is the share of its productivity that firm i loses. Read exactly it is zero, because stocks and spare capacity absorb any small loss; read
straight-through, the minimum of production passes a share of the gradient to every input, so that it reaches all who depend on a firm. How sharp that
minimum should be depends on the network, and is chosen on a few firms that are removed; the others then tell what the ranking is worth.

Source: the exact ranking is the removal of Diem, Borsos, Reisch, Kertesz & Thurner (2022), Scientific Reports 12: 7719, doi:10.1038/s41598-022-11522-z, with
dynamics; the ranking by gradient is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Logistic, StraightThrough
from dpsc.simulate import firms
from dpsc.types import Relaxation

SHARPNESS = 1.0  # of the straight-through minimum


def unmet(network: firms.Network, run: firms.Run) -> Tensor:
    """`(B,)` units that final demand did not get over a run under constant final demand."""
    return len(run.output) * network.final_demand.sum() - run.final.sum((0, 1))


def removal(
    network: firms.Network,
    parameters: firms.Parameters,
    *,
    horizon: int,
    onset: int = 1,
    chosen: Tensor | None = None,
    together: int = 64,
    rules: firms.Rules | None = None,
) -> Tensor:
    """What final demand loses when a firm stops for good, firm by firm.

    Args:
        network: M firms.
        parameters: of the firms, without a batch.
        horizon: T.
        onset: first step without the firm.
        chosen: `(R,)` firms to remove; None for all.
        together: removals in one batch.
        rules: parts and conventions of the step.
    Returns: `(R,)` units over the horizon.
    """
    checks.at_least("horizon", horizon, 1)
    one = network.output.new_ones(horizon, network.firms, 1)
    losses = []
    for part in (torch.arange(network.firms) if chosen is None else chosen).split(checks.at_least("together", together, 1)):
        productivity = one.repeat(1, 1, len(part))
        productivity[onset:, part, torch.arange(len(part))] = 0.0
        losses.append(unmet(network, firms.rollout(network, parameters, productivity=productivity, rules=rules)))
    return torch.cat(losses)


def by_gradient(
    network: firms.Network,
    parameters: firms.Parameters,
    *,
    horizon: int,
    onset: int = 1,
    level: float = 0.0,
    rules: firms.Rules | None = None,
    relax: Relaxation | None = None,
) -> Tensor:
    """dL/d delta_i of every firm from one run.

    Args:
        network: M firms.
        parameters: of the firms, without a batch.
        horizon: T.
        onset: first step of the loss.
        level: share that all firms lose where the gradient is taken; 0 is the network at rest.
        rules: parts and conventions of the step.
        relax: reading of the run; straight-through of sharpness 1 by default.
    Returns: `(M,)` units over the horizon for a unit share of the firm.
    Raises: InputError.
    """
    if not 0 <= level < 1:
        raise InputError(f"level must be in [0, 1), got {level!r}")
    relax = relax or straight_through(SHARPNESS)
    begun = (torch.arange(horizon) >= onset).to(network.output)[:, None, None]
    with torch.enable_grad():
        lost = network.output.new_full((network.firms, 1), level).requires_grad_()
        run = firms.rollout(network, parameters, productivity=1 - begun * lost, rules=rules, relax=relax)
        (slope,) = torch.autograd.grad(unmet(network, run).sum(), lost)
    return slope[:, 0]


def straight_through(sharpness: float) -> Relaxation:
    """Hard minima forward; backward weights that fall with the power `sharpness` of the distance to the minimum."""
    reading: Relaxation = StraightThrough(Logistic(1 / checks.positive("sharpness", sharpness)))  # type: ignore[arg-type]  # frozen
    return reading


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation of two `(M,)` tensors, ties by their mean rank; NaN where one of them is constant. Raises: ShapeError."""
    if first.shape != second.shape or first.dim() != 1:
        raise ShapeError(f"first and second must share one shape (M,), got {tuple(first.shape)} and {tuple(second.shape)}")
    a, b = (_ranks(x) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale else float("nan")


def percent_rank(value: Tensor) -> Tensor:
    """Ranks of `(M,)` values in per cent: 100 is the largest; ties in the order of their positions."""
    return 100 * (value.argsort(stable=True).argsort() + 1) / len(value)


def _ranks(x: Tensor) -> Tensor:
    _, inverse, count = torch.unique(x, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[inverse]
