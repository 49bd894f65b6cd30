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

from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.relax import Exact
from dpsc.relax import step as jump
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.step import Flow, Rules, Shock
from dpsc.simulate.firms.step import State as FirmState
from dpsc.simulate.firms.step import start as start_firms
from dpsc.simulate.firms.step import step as step_firms
from dpsc.types import Relaxation


class State(NamedTuple):
    """Between two steps: the firms; cash `(M, B)` in units of output; the share of each firm's place that is open, `(M, B)`."""

    firms: FirmState
    cash: Tensor
    open: Tensor


def start(network: Network, parameters: Parameters, *, reserve: Level, batch: int = 1) -> State:
    """At rest: everyone open, with `reserve` steps of its output at rest in cash."""
    firms = start_firms(network, parameters, batch=batch)
    return State(firms, (widened("reserve", reserve, network) * network.output[:, None]).expand_as(firms.output), torch.ones_like(firms.output))


def step(
    state: State,
    network: Network,
    parameters: Parameters,
    shock: Shock,
    *,
    margin: Level,
    surplus: Level,
    reserve: Level,
    entry: Level = 0.0,
    rules: Rules | None = None,
    relax: Relaxation | None = None,
) -> tuple[State, Flow]:
    """One step of those that are open, then accounts, exits and entries.

    Args:
        state: firms, cash and who is open.
        network: who supplies whom.
        parameters: of the firms.
        shock: of this step.
        margin: earned on a unit of output, before fixed costs, >= 0.
        surplus: profit a unit at rest, 0 <= surplus <= margin; what is between them is the fixed cost.
        reserve: cash that a firm keeps, in steps of its output at rest, > 0.
        entry: share of a closed place that is taken in a step, in [0, 1].
        rules: parts of the step.
        relax: reading of the minima and of the exit.
    """
    relax = relax or Exact()
    x0 = network.output[:, None]
    there = shock._replace(productivity=shock.productivity * state.open)
    firms, flow = step_firms(state.firms, network, parameters, there, rules=rules, relax=relax)
    earned, kept = widened("margin", margin, network), widened("surplus", surplus, network)
    full = widened("reserve", reserve, network) * x0
    profit = earned * flow.output - (earned - kept) * x0 * state.open  # a closed place costs nothing
    cash = torch.minimum(state.cash + profit, full.expand_as(state.cash))
    survives = jump(cash, relax=relax, scale=x0)
    opened = state.open * survives
    taken = widened("entry", entry, network) * (1 - opened)
    return State(firms, cash.clamp_min(0) * survives + taken * (full - cash.clamp_min(0) * survives), opened + taken), flow
