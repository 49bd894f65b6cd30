"""Posterior samples by annealed Markov chains: every chain starts at a draw of the prior and is cooled until the data count in full.

Level k of the ladder has the density  N(u; 0, I) exp(-b_k |r(u)|^2 / 2),  0 < b_1 <= ... <= b_n = 1, with r the standardised residuals. At every level two
exact kinds of moves follow each other:

* Hamiltonian dynamics in the informed subspace. With J the Jacobian of r and J'J = V diag(s^2) V', the directions with b s^2 > c^2 are followed, each in units
  of its own posterior scale (1 + b s^2)^-1/2. There a simulator with kinks is close to linear. In all other directions it is close to silent, until a limit
  binds that did not bind before, which no gradient announces; steps along them end at such walls.
* Single coordinates: a draw of the prior, a draw of a law twice as wide, a random walk on a scale between .003 and 1.6, or the exchange of the values of two
  coordinates of one kind, which the prior does not notice. They find the far side of one-sided limits, and keep silent coordinates at the prior.

Both leave the density of their level as it is for any fixed V, s and step size. These are learnt from the chain itself while it is cooled, and no more
once b = 1. Chains do not know of each other, so whatever they have not forgotten of their start is independent too. Whether they arrived is another question,
to be asked of `misfit` (that of the truth is half the number of observations, give or take) and of chains that start elsewhere.

Source: Neal (1996), Sampling from multimodal distributions using tempered transitions, doi:10.1007/BF00143556; Neal (2011), MCMC using Hamiltonian dynamics,
arXiv:1206.1901; likelihood-informed subspaces: Cui, Law & Marzouk (2016), doi:10.1016/j.jcp.2015.10.008; exchanges: Liang & Wong (2001),
doi:10.1198/016214501753168325.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Simulator, columns
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact

Residuals = Callable[[Tensor], Tensor]
"""Coordinates `(D, B)` -> errors in standard deviations `(N, B)`, 0 where missing; minus half their squares is the log-likelihood of a column."""

FARTHEST = 12.0  # standard deviations of the prior: what lies beyond is refused unseen
WISHED = 0.7  # acceptance of Hamiltonian moves that step sizes are adapted to
SHARES = {"prior": 0.3, "wide": 0.1, "exchange": 0.2, "walk": 0.4}  # of the moves of single coordinates


@dataclass(frozen=True)
class Chains:
    """Where the chains ended, and how they got there.

    Attributes:
        members: `(D, B)`, equally likely.
        misfit: `(levels, B)` |r|^2 / 2 after each level.
        accepted: `(levels, B)` mean acceptance probability of the Hamiltonian moves; NaN where no direction is informed.
        singles: `(levels, B)` share of the moves of single coordinates that were accepted.
        rank: `(levels, B)` informed directions.
        evaluations: of the simulator, all chains together.
        wall_s: seconds.
    """

    members: Tensor
    misfit: Tensor
    accepted: Tensor
    singles: Tensor
    rank: Tensor
    evaluations: int
    wall_s: float


def cooling(first: float, levels: int, hold: int) -> list[float]:
    """A geometric ladder of inverse temperatures from `first` to 1 in `levels` steps, and `hold` further ones at 1. Raises: InputError."""
    if not 0 < first < 1:
        raise InputError(f"first must lie in (0, 1), got {first!r}")
    checks.at_least("levels", levels, 2)
    checks.at_least("hold", hold, 0)
    return [first ** (1 - k / (levels - 1)) for k in range(levels)] + [1.0] * hold


def residuals_of(simulate: Simulator, observations: Observations) -> Residuals:
    """Residuals of a simulator that is read exactly, against one set of observations with normal errors. Raises: InputError."""
    if observations.freedom is not None:
        raise InputError(f"observations must have normal errors (freedom=None) for residuals whose squares are the likelihood, got {observations.freedom}")
    return lambda u: observations.residuals(simulate(u, relax=Exact())).flatten(0, 1)


def tempered(
    residuals: Residuals,
    start: Tensor,
    *,
    ladder: Sequence[float],
    trajectories: int = 2,
    leaps: int = 8,
    singles: int | None = None,
    refresh: int = 2,
    informed: float = 2.0,
    step: float = 0.2,
    kinds: Tensor | None = None,
    chains: Tensor | None = None,
    seed: int = 0,
) -> Chains:
    """Cool B chains side by side. They may belong to different data sets, as long as `residuals` knows the data of each column.

    Args:
        residuals: of all columns, in their order; differentiable. See `residuals_of`.
        start: `(D, B)`, draws of the prior (`draw_prior`) unless you have reasons.
        ladder: inverse temperatures, not falling, the last one 1; see `cooling`.
        trajectories: Hamiltonian moves a level.
        leaps: leapfrog steps of each.
        singles: moves of single coordinates a level; None is D.
        refresh: levels between Jacobians (D + 1 evaluations a chain, by differences). The last ones are taken at the first level with b = 1, and kept.
        informed: c, least sqrt(b) s of a direction that is followed.
        step: first step size, in posterior standard deviations; each chain has its own, which follows its acceptance until b = 1.
        kinds: `(D,)` whole numbers: exchanges are between coordinates of one number. None: all are of one kind.
        chains: `(B,)` whole numbers that address the random numbers of each chain, 0 ... B - 1 if None: a chain is the same whatever runs beside it.
        seed: of everything random.
    Returns: the chains. A column whose residuals are not finite at the start stays where it is until a move leads out.
    Raises: ShapeError; InputError for a ladder that falls or does not end at 1.
    """
    columns("start", start)
    for name, value in (("trajectories", trajectories), ("singles", start.shape[0] if singles is None else singles)):
        checks.at_least(name, value, 0)
    checks.at_least("leaps", leaps, 1)
    checks.at_least("refresh", refresh, 1)
    if not ladder or ladder[-1] != 1 or ladder[0] <= 0 or any(b < a for a, b in itertools.pairwise(ladder)):
        raise InputError(f"ladder must rise from above 0 to 1, got {list(ladder)!r}")
    size, width = start.shape
    address = torch.arange(width, device=start.device) if chains is None else chains
    kind = torch.zeros(size, dtype=torch.long, device=start.device) if kinds is None else kinds
    for name, tensor, length in (("chains", address, width), ("kinds", kind, size)):
        if tensor.shape != (length,) or tensor.is_floating_point():
            raise ShapeError(f"{name} must have shape ({length},) and hold whole numbers, got {tuple(tensor.shape)} of {tensor.dtype}")
    begin, run = time.perf_counter(), _Run(residuals, address, kind, seed)
    u, scale = start.detach().clone(), torch.full((width,), step, dtype=start.dtype, device=start.device)
    misfit = run.misfit(u)
    misfits, chances, shares, ranks = [], [], [], []
    basis: tuple[Tensor, Tensor] | None = None
    cold = 0
    for level, b in enumerate(ladder):
        cold += b == 1
        if trajectories and (basis is None or (cold <= 1 and (level % refresh == 0 or cold == 1))):
            basis = run.spectrum(u)
        accepted = torch.full_like(misfit, torch.nan)
        rank = torch.zeros(width, dtype=torch.long, device=start.device)
        if basis is not None:
            directions, rank = _informed(*basis, b, informed)
            if int(rank.max()):
                u, misfit, chance, scale = run.hamiltonian(u, directions, scale, b, level, trajectories, leaps, adapt=cold <= 1)
                accepted = torch.where(rank > 0, chance, accepted)
        u, misfit, share = run.single(u, misfit, b, level, size if singles is None else singles)
        misfits.append(misfit)
        chances.append(accepted)
        shares.append(share)
        ranks.append(rank)
    return Chains(
        u,
        torch.stack(misfits),
        torch.stack(chances),
        torch.stack(shares),
        torch.stack(ranks),
        run.evaluations,
        time.perf_counter() - begin,
    )


def _informed(squares: Tensor, vectors: Tensor, b: float, least: float) -> tuple[Tensor, Tensor]:
    """Directions `(B, D, most)` in units of their posterior scale, zeros where a chain has fewer; and how many `(B,)`."""
    keep = b * squares > least**2
    rank = keep.sum(-1)
    most = max(1, int(rank.max()))
    scaled = vectors * (keep / (1 + b * squares).sqrt())[:, None, :]
    return scaled[..., -most:], rank


class _Run:
    """The moves, their random numbers and the evaluations they cost."""

    def __init__(self, residuals: Residuals, address: Tensor, kind: Tensor, seed: int) -> None:
        self.residuals, self.address, self.seed, self.evaluations = residuals, address, seed, 0
        self.order = kind.argsort(stable=True)
        same = kind[self.order][:, None] == kind[None, :]
        self.first, self.fellows = same.int().argmax(0), same.sum(0)

    def errors(self, u: Tensor) -> Tensor:
        self.evaluations += u.shape[1]
        r = self.residuals(u)
        if r.dim() != 2 or r.shape[1] != u.shape[1]:
            raise ShapeError(f"residuals must have shape (N, B) with one column a chain, {u.shape[1]}, got {tuple(r.shape)}")
        return r

    def misfit(self, u: Tensor) -> Tensor:
        """`(B,)` in float64; infinite where it is not a number."""
        with torch.no_grad():
            value = self.errors(u.clamp(-FARTHEST, FARTHEST)).double().square().sum(0) / 2
        return torch.where(torch.isfinite(value) & (u.abs() <= FARTHEST).all(0), value, torch.inf)

    def pull(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Misfit and its gradient."""
        inside = u.detach().clamp(-FARTHEST, FARTHEST).requires_grad_()
        with torch.enable_grad():
            value = self.errors(inside).double().square().sum(0) / 2
            (gradient,) = torch.autograd.grad(value.sum(), inside, allow_unused=True)
        gradient = torch.zeros_like(inside) if gradient is None else torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
        value = value.detach()
        return torch.where(torch.isfinite(value) & (u.abs() <= FARTHEST).all(0), value, torch.inf), gradient

    def spectrum(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues `(B, D)`, rising, and eigenvectors `(B, D, D)` of J'J at every column, from forward differences."""
        h = torch.finfo(u.dtype).eps ** (1 / 3)
        with torch.no_grad():
            here = self.errors(u)
            slopes = torch.empty(u.shape[0], *here.shape, dtype=u.dtype, device=u.device)
            for i in range(len(u)):
                moved = u.clone()
                moved[i] += h
                slopes[i] = (self.errors(moved) - here) / h
        j = torch.nan_to_num(slopes.permute(2, 1, 0), 0.0, 0.0, 0.0)
        squares, vectors = torch.linalg.eigh((j.mT @ j).double())
        return squares.clamp_min(0).to(u.dtype), vectors.to(u.dtype)

    def hamiltonian(
        self, u: Tensor, directions: Tensor, scale: Tensor, b: float, level: int, trajectories: int, leaps: int, *, adapt: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        back = directions.mT.contiguous()

        def along(p: Tensor) -> Tensor:
            return (directions @ p.mT[..., None])[..., 0].mT

        def force(gradient: Tensor, at: Tensor) -> Tensor:
            return (back @ (b * gradient + at).mT[..., None])[..., 0].mT

        def energy(misfit: Tensor, at: Tensor, p: Tensor) -> Tensor:
            return b * misfit + at.double().square().sum(0) / 2 + p.double().square().sum(0) / 2

        misfit, gradient = self.pull(u)
        total = torch.zeros_like(misfit)
        number = torch.arange(directions.shape[-1], device=u.device)[:, None]
        for trajectory in range(trajectories):
            turn = torch.as_tensor(level * trajectories + trajectory, device=u.device)
            p = noise.normal(self.seed, "tempered momentum", turn, number, self.address).to(u.dtype)
            luck = noise.uniform(self.seed, "tempered trajectory", turn, torch.arange(2, device=u.device)[:, None], self.address)
            length = scale * (0.6 + 0.8 * luck[0].to(u.dtype))
            before = energy(misfit, u, p)
            at, new, slope, q = u, misfit, gradient, p - length / 2 * force(gradient, u)
            for leap in range(leaps):
                at = at + length * along(q)
                new, slope = self.pull(at)
                q = q - (length if leap + 1 < leaps else length / 2) * force(slope, at)
            gain = before - energy(new, at, q)
            chance = torch.where(torch.isfinite(gain), gain, -torch.inf).clamp_max(0).exp()
            taken = luck[1] < chance
            u, misfit, gradient = torch.where(taken, at, u), torch.where(taken, new, misfit), torch.where(taken, slope, gradient)
            total = total + chance / trajectories
            if adapt:
                scale = (scale * (0.3 * (chance - WISHED)).exp().to(scale.dtype)).clamp(1e-3, 1.0)
        return u, misfit, total, scale

    def single(self, u: Tensor, misfit: Tensor, b: float, level: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        size, width = u.shape
        column = torch.arange(width, device=u.device)
        bound = torch.tensor(list(SHARES.values()), dtype=torch.float64, device=u.device).cumsum(0)[:-1]
        turns = level * max(count, 1) + torch.arange(count, device=u.device)[:, None, None]
        draws = noise.uniform(self.seed, "tempered single", turns, torch.arange(6, device=u.device)[:, None], self.address)
        normal = torch.special.ndtri(draws[:, 0]).to(u.dtype)
        scale = (10 ** (-2.5 + 2.7 * draws[:, 1])).to(u.dtype)
        site = (draws[:, 2] * size).long()
        fellow = self.order[self.first[site] + (draws[:, 3] * self.fellows[site]).long()]
        move = torch.bucketize(draws[:, 4].contiguous(), bound, right=True)
        luck = draws[:, 5].log()
        taken = torch.zeros_like(misfit)
        for k in range(count):
            old, other = u[site[k], column], u[fellow[k], column]
            exchanged = move[k] == 2
            steps = torch.stack([normal[k], 2 * normal[k], other, old + scale[k] * normal[k]])
            new = steps.gather(0, move[k][None])[0]
            # What the prior says, less what the way of proposing says: nothing for a draw of the prior and an exchange.
            weight = torch.tensor([0.0, 0.75, 0.0, 1.0], dtype=u.dtype, device=u.device)[move[k]]
            proposal = u.clone()
            proposal[site[k], column] = new
            proposal[fellow[k], column] = torch.where(exchanged, old, proposal[fellow[k], column])
            reached = self.misfit(proposal)
            gain = b * (misfit - reached) + weight * (old.square() - new.square()) / 2
            moved = luck[k] < torch.where(torch.isnan(gain), -math.inf, gain)
            u, misfit = torch.where(moved, proposal, u), torch.where(moved, reached, misfit)
            taken += moved
        return u, misfit, taken / max(count, 1)


__all__ = ["Chains", "Residuals", "cooling", "residuals_of", "tempered"]
