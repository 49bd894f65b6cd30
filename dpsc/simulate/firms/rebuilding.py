"""Capital that is destroyed and rebuilt: production falls with what is missing, and the work is asked of the firms that build.

    z_i <- z_i (1 - R_i / K_i)                              R_i capital missing, K_i capital of the firm
    R_i <- R_i + destroyed_i(t)                             before the step, so that the loss acts at once
    b_k = share_k sum_i R_i / time                          asked of firm k beside its final demand, sum of shares 1
    R_i <- R_i - (R_i / sum R) sum_k got_k                  got_k <= b_k: what k delivered of it, served as final demand is

Limits: nothing destroyed is the plain step to the last digit; time = infinity never rebuilds, and is then a loss of productivity for good; a builder that
always delivers lets R fall by the share 1 / time a step.
Capital is conserved: what was destroyed is missing or was delivered.
Gradient: exact in destruction (size; onset through a soft one, see `destruction`), capital, shares and time.
Source: Hallegatte (2008), doi:10.1111/j.1539-6924.2008.01046.x, reconstruction demand; here firm by firm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.simulate.firms.extension import Extension, Moment, at, bounded
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.shocks import exponential
from dpsc.simulate.firms.step import Shock, State


def destruction(horizon: int, *, onset: Level, size: Tensor, soft_onset: float = 0.0) -> Tensor:
    """`(T, M, B)` capital destroyed by step: `size` `(M,)` or `(M, B)` units, at the onset, or over the `soft_onset` steps before it (then learnable)."""
    share = exponential(horizon, onset=onset, size=torch.ones((), dtype=size.dtype, device=size.device), rate=0.0, soft_onset=soft_onset)
    return torch.diff(share, dim=0, prepend=torch.zeros_like(share[:1])) * (size[:, None] if size.dim() == 1 else size)


@dataclass(frozen=True, eq=False)
class Rebuilding(Extension):
    """Destroyed capital and its rebuilding. A run keeps `missing` `(T, M, B)`, units of capital.

    Attributes:
        destroyed: `(T, M, B)` units by step, see `destruction`.
        capital: K > 0, units; number, `(M,)` or `(M, B)`.
        builders: `(M,)` shares of the work >= 0, which add up to 1.
        time: > 0 steps over which what is missing is asked for; infinity for never.
    """

    destroyed: Tensor
    capital: Level
    builders: Tensor
    time: Level = 60.0

    def __post_init__(self) -> None:
        if checks.floating("destroyed", self.destroyed).dim() != 3:
            raise ShapeError(f"destroyed must have shape (T, M, B), got {tuple(self.destroyed.shape)}")
        bounded("destroyed", self.destroyed, 0.0)
        bounded("builders", self.builders, 0.0)
        total = float(self.builders.detach().sum())
        if abs(total - 1) > 1e-6:
            raise InputError(f"builders must hold shares that add up to 1, got {total:g}")
        for name in ("capital", "time"):
            if not float(torch.as_tensor(getattr(self, name)).detach().min()) > 0:
                raise InputError(f"{name} must be > 0, got {float(torch.as_tensor(getattr(self, name)).detach().min()):g}")

    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """Nothing missing, nothing asked for. Raises: InputError, ShapeError."""
        if self.builders.shape != (network.firms,):
            raise ShapeError(f"builders must have shape (M,) = ({network.firms},), got {tuple(self.builders.shape)}")
        if self.destroyed.shape[1] not in (1, network.firms) or self.destroyed.shape[2] not in (1, firms.output.shape[1]):
            raise ShapeError(f"destroyed must have shape (T, M, B) with M = {network.firms}, B = {firms.output.shape[1]}, got {tuple(self.destroyed.shape)}")
        left = widened("capital", self.capital, network) - self.destroyed.detach().sum(0).to(network.output)
        if float(left.min()) < 0:
            raise InputError(f"destroyed must add up to at most the capital of each firm, got {-float(left.min()):g} more in firm {int(left.amin(1).argmin())}")
        nothing = torch.zeros_like(firms.output)
        return nothing, nothing, nothing

    def before(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Shock, tuple[Tensor, ...]]:
        """Less can be made, and more is asked of builders. The extension's state: what is missing, and which share of the final demand asked for one step
        before and of that asked for now is for rebuilding."""
        network = now.network
        missing = own[0] + at("destroyed", self.destroyed, now.time, network)
        work = widened("builders", self.builders, network) * (missing / widened("time", self.time, network)).sum(0, keepdim=True)
        final = (network.final_demand[:, None] if now.shock.final_demand is None else now.shock.final_demand) + work
        share = torch.where(final > 0, work / torch.where(final > 0, final, torch.ones_like(final)), torch.zeros_like(work))
        productivity = now.shock.productivity * (1 - missing / widened("capital", self.capital, network))
        return now.shock._replace(productivity=productivity, final_demand=final), (missing, own[2], share)

    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """What builders delivered is there again; with orders last they served what was asked for in the step before."""
        missing, due, asked = own
        got = (now.done()[0].final * (asked if now.rules.order_first else due)).sum(0, keepdim=True)
        total = missing.sum(0, keepdim=True)
        left = torch.where(total > 0, (1 - got / torch.where(total > 0, total, torch.ones_like(total))).clamp_min(0), torch.ones_like(total))
        return missing * left, due, asked

    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Capital missing."""
        return {"missing": own[0]}
