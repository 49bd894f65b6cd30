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

from dataclasses import dataclass

from torch import Tensor

from dpsc.errors import InputError
from dpsc.simulate.firms.extension import Extension, Moment, at, bounded
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.step import Shock, State

ROUNDS = 20_000  # of the fixed point p = A'p + v


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


@dataclass(frozen=True, eq=False)
class Prices(Extension):
    """Prices beside quantities: quantities at today's prices, then the next prices. A run keeps `price` `(T, M, B)`, 1 at rest.

    Attributes:
        cost: v, `(M,)`, `(M, B)`, or `(T, M, B)` by step; None is `own_cost(network)`, that at rest. Coefficients are value shares.
        elasticity: epsilon >= 0 of final demand, number, `(M,)` or `(M, B)`.
        lag: of costs, >= 1 steps.
        scarcity: kappa >= 0.
    """

    cost: Tensor | None = None
    elasticity: Level = 0.0
    lag: Level = 1.0
    scarcity: Level = 0.0

    def __post_init__(self) -> None:
        for name, low in (("elasticity", 0.0), ("lag", 1.0), ("scarcity", 0.0)):
            bounded(name, getattr(self, name), low)
        if self.cost is not None:
            bounded("cost", self.cost, 0.0)

    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """All prices 1, and the cost at rest."""
        return firms.output.new_ones(firms.output.shape), own_cost(network).expand_as(firms.output)

    def before(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Shock, tuple[Tensor, ...]]:
        """Final demand at the prices of the step."""
        wanted = now.network.final_demand[:, None] if now.shock.final_demand is None else now.shock.final_demand
        asked = final_demand(wanted.expand_as(own[0]), own[0], widened("elasticity", self.elasticity, now.network))
        return now.shock._replace(final_demand=asked), own

    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """The next prices."""
        _, firms = now.done()
        price, usual = own
        cost = usual if self.cost is None else at("cost", self.cost, now.time, now.network).expand_as(price)
        return push(now.network, price, cost, lag=self.lag, served=firms.fill_rate, scarcity=self.scarcity), usual

    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Prices."""
        return {"price": own[0]}
