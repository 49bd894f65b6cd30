"""Prices beside quantities: costs are passed on with a lag, scarcity is priced, final demand answers.

Prices are relative to those at rest, so that p = 1 there and A holds value shares. With v_i the cost of one unit of i that is no input (wages, profit; at rest
v_i = 1 - sum_j A_ji):

    k_i(t) = sum_j A_ji p_j(t) + v_i(t)                     unit cost
    g_i(t) = k_i(t) r_i(t)^(-kappa)                         target: a firm that serves only the share r of its demand asks for more
    p_i(t+1) = p_i(t) + (g_i(t) - p_i(t)) / lag             cost-push with a lag of that many steps, lag >= 1
    c_i(t) = c_i p_i(t)^(-epsilon)                          final demand

Limits: v constant and kappa = 0 keep p = 1 and give the plain step to the last digit; a lasting v ends at p = A'p + v; lag = 1 passes costs on at once, and
then p(T) is the Neumann series of A' to its T-th term; epsilon = 0 leaves quantities as they are.
Gradient: exact in prices, costs, lag, kappa and epsilon.
Source: Leontief (1951), The structure of American economy, price model; lag and scarcity as in agent-based input-output models, our own form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.step import Flow, Rules, Shock
from dpsc.simulate.firms.step import State as FirmState
from dpsc.simulate.firms.step import start as start_firms
from dpsc.simulate.firms.step import step as step_firms
from dpsc.types import Relaxation

ROUNDS = 20_000  # of the fixed point p = A'p + v


class State(NamedTuple):
    """Between two steps: the firms, and their prices `(M, B)`."""

    firms: FirmState
    price: Tensor


def start(network: Network, parameters: Parameters, *, batch: int = 1) -> State:
    """At rest: all prices 1."""
    firms = start_firms(network, parameters, batch=batch)
    return State(firms, torch.ones_like(firms.output))


def own_cost(network: Network) -> Tensor:
    """`(M, 1)` v = 1 - sum_j A_ji, what a unit costs beside inputs at rest. Raises: InputError where inputs cost more than the output is worth."""
    v = 1 - input_cost(network, network.output.new_ones(network.firms, 1))
    if float(v.min()) < 0:
        i = int(v[:, 0].argmin())
        raise InputError(f"inputs must cost at most the price of the output (coefficients are value shares), but firm {i} buys {1 - float(v[i]):.3g} a unit")
    return v


def input_cost(network: Network, price: Tensor) -> Tensor:
    """`(M, B)` sum_j A_ji p_j."""
    return network.held(network.received(network.coefficient[:, None] * price[network.supplier]))


def at_rest(network: Network, cost: Tensor) -> Tensor:
    """p = A'p + v, where prices end. Args: cost: v, `(M, B)`. Returns: `(M, B)`."""
    price = cost
    for _ in range(ROUNDS):
        new = cost + input_cost(network, price)
        if bool(((new - price).abs() <= 1e-15 * new.abs()).all()):
            return new
        price = new
    return price


def push(network: Network, price: Tensor, cost: Tensor, *, lag: Level = 1.0, served: Tensor | None = None, scarcity: Level = 0.0) -> Tensor:
    """The next prices.

    Args:
        network: who supplies whom.
        price: `(M, B)` p > 0.
        cost: `(M, B)` v.
        lag: >= 1 steps, number, `(M,)` or `(M, B)`.
        served: `(M, B)` r, share of demand served; None where scarcity is 0.
        scarcity: kappa >= 0.
    """
    target = input_cost(network, price) + cost
    if served is not None:
        target = target * served.clamp_min(1e-3) ** (-widened("scarcity", scarcity, network))
    return price + (target - price) / widened("lag", lag, network)


def final_demand(wanted: Tensor, price: Tensor, elasticity: Tensor | float) -> Tensor:
    """c p^(-epsilon), `(M, B)`."""
    return wanted * price**-elasticity


def step(
    state: State,
    network: Network,
    parameters: Parameters,
    shock: Shock,
    *,
    cost: Tensor,
    elasticity: Level = 0.0,
    lag: Level = 1.0,
    scarcity: Level = 0.0,
    rules: Rules | None = None,
    relax: Relaxation | None = None,
) -> tuple[State, Flow]:
    """One step of quantities at today's prices, then of prices.

    Args:
        state: firms and prices.
        network: who supplies whom; coefficients are value shares.
        parameters: of the firms.
        shock: of quantities.
        cost: `(M, B)` v of this step; `own_cost(network)` at rest.
        elasticity: epsilon >= 0 of final demand, number, `(M,)` or `(M, B)`.
        lag: of costs, >= 1 steps.
        scarcity: kappa >= 0.
        rules: parts of the step of quantities.
        relax: reading of it.
    """
    wanted = network.final_demand[:, None] if shock.final_demand is None else shock.final_demand
    asked = final_demand(wanted.expand_as(state.price), state.price, widened("elasticity", elasticity, network))
    firms, flow = step_firms(state.firms, network, parameters, shock._replace(final_demand=asked), rules=rules, relax=relax)
    price = push(network, state.price, cost.expand_as(state.price), lag=lag, served=firms.fill_rate, scarcity=scarcity)
    return State(firms, price), flow
