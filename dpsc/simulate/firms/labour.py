"""Labour that is hired and fired: a firm can only make what its workers can.

    x_i <= l_i z_i x0_i                                     l_i workers, 1 = as many as the output at rest takes
    w_i = min(D_i, min_j S_ji / (A_ji needed)) / x0_i       workers that demand and stocks would employ
    l_i(t+1) = min(most_i, l_i + hiring [w_i - l_i]^+ - firing [l_i - w_i]^+)

The most workers a firm can have are its capacity (1.2, say). The shock acts on workers, not on what stocks allow.

Limits: hiring = firing = 0 from a start with all workers is the plain step to the last digit, with `shock_on_stock` False; hiring = firing = 1 employs what was
wanted the step before; without a shock nothing moves.
Gradient: exact sub-gradients in the rates, the shocks and the state.
Source: Pichler, Pangallo, del Rio-Chanona, Lafond & Farmer (2022), doi:10.1016/j.jedc.2022.104527, hiring and firing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsc.simulate.firms.extension import Extension, Moment, bounded
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.production import Limits
from dpsc.simulate.firms.smallest import smallest
from dpsc.simulate.firms.step import Rules, Shock, State


@dataclass(frozen=True, eq=False)
class Labour(Extension):
    """Workers that are hired and fired; `capacity` bounds them. A run keeps `workers` `(T, M, B)`, 1 = as many as the output at rest takes.

    Attributes:
        hiring: share of missing workers found in a step, in [0, 1]; number, `(M,)` or `(M, B)`.
        firing: share of idle workers that leave in a step, in [0, 1].
        workers: at the start; 1 is what the output takes, the capacity is all that a firm can have.
    """

    hiring: Level
    firing: Level
    workers: Level = 1.0

    def __post_init__(self) -> None:
        for name in ("hiring", "firing"):
            bounded(name, getattr(self, name), 0.0, 1.0)
        bounded("workers", self.workers, 0.0)

    def prepared(self, rules: Rules) -> Rules:
        """The shock acts on workers, not on what stocks allow."""
        return replace(rules, shock_on_stock=False)

    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """With the workers of the start."""
        return (widened("workers", self.workers, network).expand_as(firms.output),)

    def before(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Shock, tuple[Tensor, ...]]:
        """Productivity with the workers that are there."""
        most = now.parameters.wide("capacity", now.network)
        return now.shock._replace(productivity=now.shock.productivity * (own[0] / most.clamp_min(torch.finfo(most.dtype).tiny))), own

    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """Hiring and firing towards what demand and stocks would have employed."""
        network, (workers,), (flow, _) = now.network, own, now.done()
        most = now.parameters.wide("capacity", network)
        room, rest = most * network.output[:, None], network.output[:, None]
        limits = Limits(flow.demand, room, now.shock.productivity, now.firms.stock, now.parameters.wide("needed", network), False)
        made = smallest(network, (flow.demand, room), limits.by_stock(network), relax=now.relax)
        wanted = torch.where(rest > 0, made / torch.where(rest > 0, rest, torch.ones_like(rest)), workers)
        gap = wanted - workers
        change = widened("hiring", self.hiring, network) * gap.clamp_min(0) - widened("firing", self.firing, network) * (-gap).clamp_min(0)
        return (torch.minimum(workers + change, most.expand_as(gap)),)

    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Workers."""
        return {"workers": own[0]}
