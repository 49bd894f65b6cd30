"""Which firms should hold more stock, so that the worst shocks cost less output: a budget, a distribution of shocks, a risk measure.

    minimise over e >= 0:  rho(loss(n + e)),   sum_i u_i e_i = budget

n_i is the stock that firm i holds, in steps of its own use, e_i what it gets more, u_i the value of one step of its inputs; loss is the share of output lost
over the horizon, in per cent, one value a shock; rho is CVaR, say. The design is written as shares of the budget, e_i = budget s_i / u_i with
s = softmax(log u + theta), so that theta = 0 gives every firm the same number of steps. Read exactly, a stock that never runs out has no gradient; read
straight-through, every stock has one from the start.

Letters: M firms, S shocks, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError
from dpsc.scenarios.systemic_risk import straight_through
from dpsc.simulate import firms
from dpsc.types import Relaxation

Risk = Callable[..., Tensor]


@dataclass(frozen=True)
class Shocks:
    """A distribution of shocks to firms.

    Attributes:
        horizon: T steps.
        onset: step at which they strike.
        hit: probability that a firm is hit.
        smallest: share lost at least.
        largest: share lost at most.
        recovery: median rate of recovery a step; lognormal with spread 1/2.
    """

    horizon: int
    onset: int
    hit: float
    smallest: float
    largest: float
    recovery: float

    def draw(self, count: int, *, shocks: int, seed: int) -> Tensor:
        """Productivity `(T, M, S)` of so many firms; shock s of a seed is the same however many are drawn."""
        at = torch.arange(count)[:, None], torch.arange(checks.at_least("shocks", shocks, 1))
        size = self.smallest + (self.largest - self.smallest) * noise.uniform(seed, "firm shock: size", *at)
        size = torch.where(noise.uniform(seed, "firm shock: who", *at) < self.hit, size, torch.zeros_like(size))
        rate = self.recovery * torch.exp(0.5 * noise.normal(seed, "firm shock: recovery", *at))
        return 1 - firms.exponential(self.horizon, onset=self.onset, size=size, rate=rate)


class Design:
    """The problem for one network.

    Args:
        network: M firms.
        inventory: `(M,)` n, steps of own use.
        adjustment_time: tau, steps.
        capacity: over output at rest.
        budget_share: budget over the value of all stocks.
        risk: a measure of `dpsc.objective.risk`.
    """

    def __init__(self, network: firms.Network, inventory: Tensor, *, adjustment_time: float, capacity: float, budget_share: float, risk: Risk) -> None:
        self.network, self.inventory, self.risk = network, inventory, risk
        self.adjustment_time, self.capacity = adjustment_time, capacity
        self.unit = network.held(network.use)[:, 0]
        self.budget = checks.positive("budget_share", budget_share) * float((self.unit * inventory).sum())
        if not bool((self.unit > 0).any()):
            raise InputError("a network must have a firm with inputs, or there is no stock to hold, got none")

    def extra(self, theta: Tensor) -> Tensor:
        """`(..., M)` coordinates -> `(..., M)` steps of extra stock that cost the budget; 0 for a firm without inputs."""
        log_unit = torch.where(self.unit > 0, self.unit.clamp_min(1e-300).log(), self.unit.new_full((), -torch.inf))
        return self.budget * torch.softmax(log_unit + theta, -1) / self.unit.clamp_min(1e-300)

    def loss(self, extra: Tensor, productivity: Tensor, *, relax: Relaxation | None = None) -> Tensor:
        """Output lost, per cent.

        Args:
            extra: `(C, M)` steps.
            productivity: `(T, M, S)`.
            relax: reading of the run.
        Returns: `(C, S)`.
        """
        candidates, shocks = len(extra), productivity.shape[2]
        inventory = (self.inventory + extra).T.repeat_interleave(shocks, 1)
        parameters = firms.Parameters(inventory=inventory, adjustment_time=self.adjustment_time, capacity=self.capacity)
        run = firms.rollout(self.network, parameters, productivity=productivity.repeat(1, 1, candidates), relax=relax, check=False)
        usual = len(productivity) * self.network.output.sum()
        return 100 * (1 - run.output.sum((0, 1)) / usual).reshape(candidates, shocks)

    def value(self, extra: Tensor, productivity: Tensor, *, relax: Relaxation | None = None, together: int = 8) -> Tensor:
        """The risk of designs `(C, M)` -> `(C,)`, so many of them in one run; the risk itself is read exactly."""
        return torch.cat([self.risk(self.loss(part, productivity, relax=relax), dim=-1) for part in extra.split(together)])


def by_gradient(design: Design, productivity: Tensor, *, steps: int, learning_rate: float, sharpness: tuple[float, float]) -> tuple[Tensor, list[float], int]:
    """Adam on theta; hard values, straight-through gradients of rising sharpness.

    Args:
        design: the problem.
        productivity: `(T, M, S)` training shocks.
        steps: of Adam.
        learning_rate: at the start; falls linearly to a tenth.
        sharpness: of the minimum at the start and at the end.
    Returns: the best design `(M,)` met, the best exact value after each step, and the evaluations (one value and one gradient count 2).
    """
    theta = torch.zeros_like(design.unit, requires_grad=True)
    optimiser = torch.optim.Adam([theta], lr=learning_rate)
    best, found, trace = torch.inf, design.extra(theta.detach()), []
    low, high = sharpness
    for k in range(checks.at_least("steps", steps, 1)):
        done = k / steps
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - 0.9 * done)
        extra = design.extra(theta)
        value = design.value(extra[None], productivity, relax=straight_through(low * (high / low) ** done))[0]
        if float(value.detach()) < best:  # straight-through values are exact ones
            best, found = float(value.detach()), extra.detach().clone()
        trace.append(best)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimiser.step()
    return found, trace, 2 * steps


def greedy(design: Design, productivity: Tensor, *, increments: int) -> tuple[Tensor, list[float], int]:
    """Spend an equal part of the budget at a time, always where the exact risk falls most.

    Returns: the design `(M,)`, the value after each increment, and the evaluations.
    """
    extra, trace, used = torch.zeros_like(design.unit), [], 0
    able = (design.unit > 0).nonzero()[:, 0]
    part = design.budget / checks.at_least("increments", increments, 1)
    for _ in range(increments):
        tries = extra.repeat(len(able), 1)
        tries[torch.arange(len(able)), able] += part / design.unit[able]
        values = design.value(tries, productivity)
        used += len(able)
        extra = tries[int(values.argmin())]
        trace.append(float(values.min()))
    return extra, trace, used
