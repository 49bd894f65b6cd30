"""Firms that exit and enter: losses eat cash, a firm without cash closes, and others take its place while its goods are missed.

    profit_i = margin_i (x_i - x0_i) + surplus_i x0_i           per unit of output margin, fixed cost (margin - surplus) x0
    cash_i(t+1) = min(cash_i + profit_i, reserve_i)             what is earned beyond the reserve is paid out
    open_i <- open_i step(cash_i)                               exit
    open_i <- open_i + entry (1 - open_i)                       entry: so much of the place of a closed firm is taken in a step
    z_i <- z_i open_i

`open` is the share of the firm's place that works, 0 to 1; an entrant brings the reserve of its share, cash <- cash + entry (1 - open) (reserve - cash).

Limits: surplus >= margin (no fixed cost) never closes a firm and is the plain step to the last digit; entry = 0 makes an exit final, a firm that closes is
then a firm with productivity 0; entry = 1 replaces it in the next step.
Gradient: the exit is a jump: read exactly it has none (a backward pass raises), read smoothed or straight-through it has the kernel's.
Source: our own; exits as in agent-based models of demography of firms, Delli Gatti et al. (2011), Macroeconomics from the bottom-up, Springer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax import step as jump
from dpsc.simulate.firms.extension import Extension, Moment, bounded
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.step import Shock, State


@dataclass(frozen=True, eq=False)
class Entry(Extension):
    """Accounts, exits and entries. A run keeps `cash` (units of output) and `open` (share of a firm's place that works), `(T, M, B)` each.

    Attributes:
        margin: earned on a unit of output, before fixed costs, >= 0; number, `(M,)` or `(M, B)`.
        surplus: profit a unit at rest, 0 <= surplus <= margin; what is between them is the fixed cost.
        reserve: cash that a firm keeps, in steps of its output at rest, > 0; all start with it.
        entry: share of a closed place that is taken in a step, in [0, 1].
    """

    margin: Level
    surplus: Level
    reserve: Level
    entry: Level = 0.0

    def __post_init__(self) -> None:
        for name, high in (("margin", torch.inf), ("surplus", torch.inf), ("reserve", torch.inf), ("entry", 1.0)):
            bounded(name, getattr(self, name), 0.0, high)
        if float(torch.as_tensor(self.reserve).detach().min()) == 0:
            raise InputError("reserve must be > 0, or every firm closes at once, got 0")

    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """Everyone open, with the reserve in cash. Raises: InputError."""
        fixed = widened("margin", self.margin, network) - widened("surplus", self.surplus, network)
        if float(fixed.detach().min()) < 0:
            raise InputError(f"surplus must be at most the margin, or fixed costs are negative, got a difference of {float(fixed.detach().min()):g}")
        return (widened("reserve", self.reserve, network) * network.output[:, None]).expand_as(firms.output), torch.ones_like(firms.output)

    def before(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Shock, tuple[Tensor, ...]]:
        """Only what is open works."""
        return now.shock._replace(productivity=now.shock.productivity * own[1]), own

    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """Profit, exit, entry."""
        network, (cash, opened), (flow, _) = now.network, own, now.done()
        x0 = network.output[:, None]
        earned, kept = widened("margin", self.margin, network), widened("surplus", self.surplus, network)
        full = widened("reserve", self.reserve, network) * x0
        profit = earned * flow.output - (earned - kept) * x0 * opened  # a closed place costs nothing
        cash = torch.minimum(cash + profit, full.expand_as(cash))
        survives = jump(cash, relax=now.relax, scale=x0)
        opened = opened * survives
        taken = widened("entry", self.entry, network) * (1 - opened)
        left = cash.clamp_min(0) * survives
        return left + taken * (full - left), opened + taken

    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Cash and places."""
        return {"cash": own[0], "open": own[1]}
