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

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.relax import Exact
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.production import Limits
from dpsc.simulate.firms.smallest import smallest
from dpsc.simulate.firms.step import Flow, Rules, Shock
from dpsc.simulate.firms.step import State as FirmState
from dpsc.simulate.firms.step import start as start_firms
from dpsc.simulate.firms.step import step as step_firms
from dpsc.types import Relaxation


class State(NamedTuple):
    """Between two steps: the firms, and their workers `(M, B)` relative to those at rest."""

    firms: FirmState
    workers: Tensor


def start(network: Network, parameters: Parameters, *, batch: int = 1, workers: Level = 1.0) -> State:
    """At rest with so many workers; 1 is what the output takes, the capacity is all that a firm can have."""
    firms = start_firms(network, parameters, batch=batch)
    return State(firms, widened("workers", workers, network).expand_as(firms.output))


def step(
    state: State,
    network: Network,
    parameters: Parameters,
    shock: Shock,
    *,
    hiring: Level,
    firing: Level,
    rules: Rules | None = None,
    relax: Relaxation | None = None,
) -> tuple[State, Flow]:
    """One step with the workers that are there, then hiring and firing.

    Args:
        state: firms and workers.
        network: who supplies whom.
        parameters: of the firms; `capacity` bounds the workers.
        shock: of this step; productivity is that of workers.
        hiring: share of missing workers found in a step, in [0, 1]; number, `(M,)` or `(M, B)`.
        firing: share of idle workers that leave in a step, in [0, 1].
        rules: parts; the shock never acts on stocks here.
        relax: reading of the minima.
    """
    rules, relax = replace(rules or Rules(), shock_on_stock=False), relax or Exact()
    most = parameters.wide("capacity", network)
    with_workers = shock._replace(productivity=shock.productivity * (state.workers / most.clamp_min(1e-300)))
    limits = Limits(state.firms.demand, most * network.output[:, None], shock.productivity, state.firms.stock, parameters.wide("needed", network), False)
    wanted = smallest(network, (limits.demand, most * network.output[:, None]), limits.by_stock(network), relax=relax) / network.output[:, None]
    firms, flow = step_firms(state.firms, network, parameters, with_workers, rules=rules, relax=relax)
    gap = wanted - state.workers
    change = widened("hiring", hiring, network) * gap.clamp_min(0) - widened("firing", firing, network) * (-gap).clamp_min(0)
    return State(firms, torch.minimum(state.workers + change, most.expand_as(gap))), flow
