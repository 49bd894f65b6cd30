"""The economy of a country by sectors, day by day: limited labour, stocks of inputs that matter more or less, orders, hiring and firing.

Letters: N sectors, B parallel runs (innermost). Flows are in units of value a day. Edge tensors are `(N, N, B)`, supplier first.

The day, in this order (Pichler, Pangallo, del Rio-Chanona, Lafond & Farmer, 2022, doi:10.1016/j.jedc.2022.104527):

    O_ji = [A_ji d_i(t-1) + (n_i Z_ji - S_ji) / tau]^+            orders, from yesterday's demand and the gap to the desired stock
    d_j = sum_i O_ji + c_j + f_j                                  demand: orders, households, others
    x_i = min(l_i x0_i, inputs_i(S), d_i)                         output: labour, inputs by the rule of production, demand
    S_ji <- [S_ji + O_ji x_j / d_j - A_ji x_i]^+                  deliveries in proportion; an input that production can do without may run out
    l_i <- min(l_i + gamma_H [g_i]^+ - gamma_F [-g_i]^+, labour there tomorrow),   g_i = min(inputs_i, d_i) / x0_i - l_i

Limits: without shocks the start is kept to rounding; a lasting change of final demand ends at x = (I - A)^-1 f; gamma = 1 makes labour follow demand at once.
Gradient: exact sub-gradients at the kinks, ties shared evenly. Forward mode and vmap pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Inputs = Callable[["Economy", Tensor], Tensor]
"""A rule of production: economy and stocks `(N, N, B)` -> the output `(N, B)` that the inputs allow."""


@dataclass(frozen=True)
class Economy:
    """What does not change during a run, float tensors of one dtype.

    Attributes:
        coefficients: `(N, N)` A_ji, input j for one unit of i.
        output: `(N,)` x0 a day, = (I - A)^-1 (c + f).
        households: `(N,)` c a day.
        others: `(N,)` f a day: government, investment, exports.
        stock_days: `(N,)` n_i, days of its own use that buyer i wants in stock, >= 1.
        weight: `(N, N)` how much input j matters for i: 1 critical, 1/2 important, 0 not.
    """

    coefficients: Tensor
    output: Tensor
    households: Tensor
    others: Tensor
    stock_days: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        count = len(self.output)
        for name in ("coefficients", "weight"):
            if getattr(self, name).shape != (count, count):
                raise ShapeError(f"{name} must have shape (N, N) = ({count}, {count}), got {tuple(getattr(self, name).shape)}")
        for name in ("output", "households", "others", "stock_days"):
            value = checks.floating(name, getattr(self, name))
            if value.shape != (count,):
                raise ShapeError(f"{name} must have shape (N,) = ({count},), got {tuple(value.shape)}")
            checks.finite(name, value)
        if bool((self.output <= 0).any()) or bool((self.stock_days < 1).any()):
            raise InputError("output must be > 0 and stock_days >= 1 in every sector")
        sold = self.coefficients @ self.output + self.households + self.others
        if float(((sold - self.output).abs() / self.output).max()) > 1e-6:
            raise InputError("output must be what is sold, A x + households + others, in every sector")

    @property
    def use(self) -> Tensor:
        """`(N, N)` Z_ji = A_ji x_i a day."""
        return self.coefficients * self.output


class State(NamedTuple):
    """Before a day: stock `(N, N, B)`; labour `(N, B)` as a share of the usual; demand `(N, B)` of yesterday."""

    stock: Tensor
    labour: Tensor
    demand: Tensor


class Day(NamedTuple):
    """What acts on a day, each `(N, B)` or `(N, 1)`: labour that may work, as a share; households' and others' demand as shares of the usual."""

    labour: Tensor
    households: Tensor
    others: Tensor


class Flow(NamedTuple):
    """What happened, each `(N, B)`: output; demand; what households and others received together."""

    output: Tensor
    demand: Tensor
    consumed: Tensor


class Behaviour(NamedTuple):
    """How firms react, numbers or `(B,)`: restocking time tau in days; share of the gap closed in a day by hiring and by firing."""

    adjustment_time: Tensor | float = 10.0
    hiring: Tensor | float = 1 / 30
    firing: Tensor | float = 2 / 30


def start(economy: Economy, batch: int = 1) -> State:
    """The state before the shock: stocks as desired, everybody at work."""
    stock = (economy.use * economy.stock_days)[..., None].expand(-1, -1, batch)
    return State(stock, torch.ones_like(economy.output)[:, None].expand(-1, batch), economy.output[:, None].expand(-1, batch))


def step(state: State, economy: Economy, day: Day, *, inputs: Inputs, behaviour: Behaviour) -> tuple[State, Flow]:
    """One day; the order of events is that of the module.

    Args:
        state: before the day.
        economy: N sectors.
        day: what acts on this day.
        inputs: rule of production.
        behaviour: of firms.
    Returns: the state after it, and what happened.
    """
    A, x0 = economy.coefficients[..., None], economy.output[:, None]
    stock, demand_before = state.stock, state.demand
    labour = torch.minimum(state.labour, day.labour)
    gap = (economy.use * economy.stock_days)[..., None] - stock
    order = (A * demand_before + gap / behaviour.adjustment_time).clamp_min(0)
    final = economy.households[:, None] * day.households + economy.others[:, None] * day.others
    demand = order.sum(1) + final
    allowed = inputs(economy, stock)
    wanted = torch.minimum(allowed, demand)
    output = torch.minimum(labour * x0, wanted)
    served = output / demand.clamp_min(1e-300)
    stock = (stock + order * served[:, None] - A * output).clamp_min(0)
    change = wanted / x0 - labour
    labour = labour + behaviour.hiring * change.clamp_min(0) - behaviour.firing * (-change).clamp_min(0)
    return State(stock, labour, demand), Flow(output, demand, final * served)


# --------------------------------------------------------------------------------------------------- rules of production


def leontief(economy: Economy, stock: Tensor) -> Tensor:
    """Every input is needed: min_j S_ji / A_ji."""
    return _smallest(_per_unit(economy, stock), economy.coefficients > 0)


def critical(economy: Economy, stock: Tensor) -> Tensor:
    """Only critical inputs are needed: the minimum over weight 1. Without important inputs it is the same as `half_critical`."""
    return _smallest(_per_unit(economy, stock), (economy.coefficients > 0) & (economy.weight >= 1))


def strongly_critical(economy: Economy, stock: Tensor) -> Tensor:
    """Critical and important inputs are needed: the minimum over weight > 0."""
    return _smallest(_per_unit(economy, stock), (economy.coefficients > 0) & (economy.weight > 0))


def half_critical(economy: Economy, stock: Tensor) -> Tensor:
    """Without an important input half of the usual output remains: min of S_ji / A_ji over critical and of (S_ji / A_ji + x0_i) / 2 over important inputs."""
    per_unit = _per_unit(economy, stock)
    half = (per_unit + economy.output[:, None]) / 2
    weight = economy.weight[..., None]
    return _smallest(torch.where(weight >= 1, per_unit, half), (economy.coefficients > 0) & (economy.weight > 0))


def linear(economy: Economy, stock: Tensor) -> Tensor:
    """Inputs replace each other: sum_j S_ji / sum_j A_ji."""
    total = economy.coefficients.sum(0)
    return torch.where((total > 0)[:, None], stock.sum(0) / total.clamp_min(1e-300)[:, None], stock.new_full((), torch.inf))


def _per_unit(economy: Economy, stock: Tensor) -> Tensor:
    """Output of i that the stock of j is enough for."""
    return stock / economy.coefficients.clamp_min(1e-300)[..., None]


def _smallest(bound: Tensor, needed: Tensor) -> Tensor:
    """Minimum over suppliers of what is needed; infinite where nothing is."""
    return torch.where(needed[..., None], bound, bound.new_full((), torch.inf)).amin(0)
