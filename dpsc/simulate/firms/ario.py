"""ARIO and ARIO-psi on input-output tables: industries of several regions, stocks by input product, overproduction, rebuilding.

Letters: `N` industries = regions x products, region major as tables are; `I` products; `B` batch, innermost. Flows are a day's.
Order of events in a step: capacity is lost and rebuilding asks; overproduction follows scarcity; industries produce; every demand gets the share x / D;
stocks; rebuilding advances; orders are placed.
Source: Hallegatte (2008), doi:10.1111/j.1539-6924.2008.01046.x; Hallegatte (2014), doi:10.1111/risa.12090; Guan et al. (2020), doi:10.1038/s41562-020-0896-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.simulate.firms.economy import Economy
from dpsc.simulate.firms.rationing import fill_rate

__all__ = [
    "Economy",
    "Flow",
    "Parameters",
    "Rebuild",
    "State",
    "Struck",
    "Work",
    "capacity_loss",
    "capital_loss",
    "fast_geometric",
    "geometric",
    "line",
    "rollout",
    "s_shaped",
    "smooth",
    "start",
    "step",
    "sticky",
    "strike",
]


def sticky(alpha: Tensor, scarcity: Tensor, *, most: float = 1.25, time: float = 365.0) -> Tensor:
    """Overproduction as in BoARIO 0.7.2: it rises with scarcity, and falls only where scarcity is zero to the last bit; never below 1.

    Args:
        alpha: `(N, B)` capacity over that at rest, so far.
        scarcity: `(N, B)` share of the demand that the output of the step before leaves open.
        most: that alpha tends to while goods are scarce.
        time: steps over which it moves.
    Gradient: exact on either side of the branch, which is decided by rounding.
    Source: Hallegatte (2008), doi:10.1111/j.1539-6924.2008.01046.x.
    """
    return (alpha + torch.where(scarcity == 0, 1 - alpha, (most - alpha) * scarcity) / time).clamp_min(1)


def smooth(alpha: Tensor, scarcity: Tensor, *, most: float = 1.25, time: float = 365.0) -> Tensor:
    """Overproduction that moves towards 1 + (most - 1) times scarcity, without a branch on rounding errors; never below 1.

    Arguments as in `sticky`. Gradient: exact sub-gradient.
    """
    aim = scarcity.clamp(0, 1)
    return (alpha + ((most - alpha) * aim + (1 - alpha) * (1 - aim)) / time).clamp_min(1)


@dataclass(frozen=True, eq=False)
class Parameters:
    """How industries behave.

    Attributes:
        psi: share of the target stock that full production needs; number or `(N,)` or `(N, B)`. The base model is psi = 1 with adjustment_time = 1.
        adjustment_time: tau, steps to refill a gap; number or `(N, B)`.
        stock_days: s, target stock in steps of use; number, `(I,)`, `(I, N)` or `(I, N, B)`; values <= 1 count as 2.
        alternative: whether orders go to suppliers in proportion to their capacity (Guan et al. 2020) instead of the table.
        overproduction: `(alpha, scarcity) -> alpha`; `smooth` or `sticky`.
    """

    psi: float | Tensor = 0.8
    adjustment_time: float | Tensor = 60.0
    stock_days: float | Tensor = 90.0
    alternative: bool = False
    overproduction: Callable[[Tensor, Tensor], Tensor] = smooth

    def days(self, economy: Economy) -> Tensor:
        """`(I or 1, N or 1, B or 1)`."""
        value = torch.as_tensor(self.stock_days, dtype=economy.output.dtype, device=economy.output.device)
        while value.dim() < 3:
            value = value[..., None]
        return torch.where(value <= 1, torch.full_like(value, 2.0), value)

    def by_industry(self, name: str, economy: Economy) -> Tensor:
        """`(N or 1, B or 1)`. Raises: InputError."""
        value = torch.as_tensor(getattr(self, name), dtype=economy.output.dtype, device=economy.output.device)
        if not float(value.detach().min()) > 0:
            raise InputError(f"{name} must be > 0, got {float(value.detach().min())}")
        return value.reshape(1, 1) if value.dim() == 0 else value[:, None] if value.dim() == 1 else value


@dataclass(frozen=True, eq=False)
class Rebuild:
    """Capital that is destroyed and built again: the work asks the rebuilding sectors for goods until it is done.

    Attributes:
        impact: `(N,)` or `(N, B)` capital destroyed.
        sectors: `(I,)` shares of the products that rebuild, adding up to 1.
        occurrence: step of the destruction.
        duration: steps until rebuilding begins.
        time: tau, steps over which what is left is asked for.
    """

    impact: Tensor
    sectors: Tensor
    occurrence: int
    duration: int
    time: float

    def asked(self, economy: Economy) -> tuple[Tensor, Tensor]:
        """`(N, N')` work by supplier and hit industry, `(N',)` the hit industries; suppliers of a product share as in the table.

        Raises: InputError, ShapeError.
        """
        if self.impact.dim() != 1 or self.impact.shape[0] != economy.industries:
            raise ShapeError(f"impact must have shape (N,) = ({economy.industries},), got {tuple(self.impact.shape)}")
        if abs(float(self.sectors.sum()) - 1) > 1e-9:
            raise InputError(f"sectors must add up to 1, got {float(self.sectors.sum())}")
        hit = self.impact.detach().nonzero()[:, 0]
        flow, total = economy.flow[:, :, hit], economy.product_flow[:, hit, 0]
        split = torch.where(total[:, None] > 0, flow / torch.where(total > 0, total, torch.ones_like(total))[:, None], torch.zeros_like(flow))
        work = self.sectors.to(flow)[:, None, None] * split * self.impact[hit]
        return work.transpose(0, 1).reshape(economy.industries, len(hit)), hit


class State(NamedTuple):
    """Between two steps.

    Attributes:
        stock: `(I, N, B)` units of each product at each industry.
        pull: `(I, N, B)` orders as multiples of the flow: the order of g on (i, r) is favour x flow x pull.
        favour: `(N, B)` weight of each supplier in the orders; 1 under the table's shares.
        overproduction: `(N, B)` alpha.
        output: `(N, B)` of the step before.
        left: for every rebuilding, `(N, B)` share of each supplier's work that is left.
    """

    stock: Tensor
    pull: Tensor
    favour: Tensor
    overproduction: Tensor
    output: Tensor
    left: tuple[Tensor, ...] = ()


class Flow(NamedTuple):
    """`(N, B)` each: output, capacity, demand, final demand that was not met, alpha."""

    output: Tensor
    capacity: Tensor
    demand: Tensor
    unmet: Tensor
    overproduction: Tensor


class Work(NamedTuple):
    """A rebuilding at one step: `(N, N')` work by supplier and hit industry, `(N',)` those industries, share of what is left that is asked for now."""

    work: Tensor
    hit: Tensor
    pace: float
    begun: bool


def start(economy: Economy, parameters: Parameters, *, batch: int = 1, rebuildings: int = 0) -> State:
    """At rest, with stocks at their targets.

    Args:
        economy: the table.
        parameters: of the industries.
        batch: B columns.
        rebuildings: works that the run will have.
    """
    one = economy.output.new_ones(1, batch)
    rest = economy.output * one
    stock = parameters.days(economy) * economy.recipe * rest
    return State(stock, economy.recipe.new_ones(economy.products, economy.industries, batch), torch.ones_like(rest), torch.ones_like(rest), rest,
                 (torch.ones_like(rest),) * rebuildings)  # fmt: skip


def step(
    state: State, economy: Economy, parameters: Parameters, *, loss: Tensor, lost_capital: Tensor | None = None, works: Sequence[Work] = ()
) -> tuple[State, Flow]:
    """One step; events in the order of the module's docstring.

        cap = x0 (1 - loss) alpha     x = min(D, cap, min_i S_i / (psi s_i A_i))     S += received - A x
        order_i = [s_i A_i min(D, cap) - S_i]^+ / tau + A_i x

    Args:
        state: at the end of the step before.
        economy: the table.
        parameters: of the industries.
        loss: `(N, B)` share of capacity lost, of whatever cause but capital.
        lost_capital: `(N, B)` capital out of use, value; adds to what rebuildings still miss. The larger of the two losses counts.
        works: rebuildings.
    Gradient: exact in everything but the branch of `sticky`.
    """
    days = parameters.days(economy)
    orders = state.favour * economy.to_suppliers(state.pull)
    struck = strike(orders, state.overproduction, state.output, state.left, economy, parameters, loss=loss, lost_capital=lost_capital, works=works)
    demand, capacity = struck.demand, struck.capacity
    needed = parameters.by_industry("psi", economy) * days * economy.recipe
    limiting = economy.binding & (needed > 0)
    allowed = torch.where(limiting, state.stock / torch.where(limiting, needed, torch.ones_like(needed)), torch.full_like(state.stock, torch.inf))
    output = torch.minimum(struck.best, allowed.amin(0))
    served = fill_rate(output, demand)
    used = economy.recipe * output
    stock = state.stock + state.pull * economy.from_suppliers(state.favour * served) - used
    goal = days * economy.recipe * torch.minimum(demand - struck.rebuilding * served, capacity)
    order = (goal - stock).clamp_min(0) / parameters.by_industry("adjustment_time", economy) + used
    favour, base = torch.ones_like(output), economy.product_flow
    if parameters.alternative:
        favour = fill_rate(capacity, economy.output.expand_as(capacity))
        base = economy.from_suppliers(favour)
    positive = base > 0
    pull = torch.where(positive, order / torch.where(positive, base, torch.ones_like(base)), torch.zeros_like(order))
    after = State(stock, pull, favour, struck.alpha, output, struck.worked_off(served))
    return after, Flow(output, capacity, demand, economy.final_demand * (1 - served), struck.alpha)


class Struck(NamedTuple):
    """What industries face in a step, `(N, B)`: demand, the part that rebuilds, alpha, capacity; the works and what is left of them."""

    demand: Tensor
    rebuilding: Tensor
    alpha: Tensor
    capacity: Tensor
    works: Sequence[Work]
    left: tuple[Tensor, ...]

    @property
    def best(self) -> Tensor:
        """Output if no input ran short."""
        return torch.minimum(self.demand, self.capacity)

    def worked_off(self, served: Tensor) -> tuple[Tensor, ...]:
        """The shares that are left after the deliveries of the step."""
        return tuple(share * (1 - work.pace * served) if work.begun else share for work, share in zip(self.works, self.left, strict=True))


def strike(
    orders: Tensor, alpha: Tensor, last: Tensor, left: tuple[Tensor, ...], economy: Economy, parameters: Parameters, *, loss: Tensor,
    lost_capital: Tensor | None = None, works: Sequence[Work] = (),
) -> Struck:  # fmt: skip
    """The beginning of a step, up to production: losses, demand, overproduction, capacity.

    Args:
        orders: `(N, B)` what industries ask of each.
        alpha: `(N, B)` overproduction of the step before.
        last: `(N, B)` output of the step before.
        left: of every work, `(N, B)` share of each supplier's part that is left.
        economy: the table.
        parameters: of the industries.
        loss: see `step`.
        lost_capital: see `step`.
        works: see `step`.
    """
    missing = torch.zeros_like(loss) if lost_capital is None else lost_capital
    rebuilding = torch.zeros_like(loss)
    for work, share in zip(works, left, strict=True):
        if work.begun:
            missing = missing.index_add(0, work.hit, work.work.mT @ share)
            rebuilding = rebuilding + work.work.sum(1, keepdim=True) * share * work.pace
    lost = torch.maximum(fill_rate(missing, economy.capital.expand_as(missing)), loss)
    demand = orders + economy.final_demand + rebuilding
    alpha = parameters.overproduction(alpha, fill_rate(demand - last, demand))
    return Struck(demand, rebuilding, alpha, economy.output * (1 - lost) * alpha, works, left)


def rollout(
    economy: Economy,
    parameters: Parameters,
    *,
    horizon: int,
    loss: Tensor | None = None,
    lost_capital: Tensor | None = None,
    rebuild: Sequence[Rebuild] = (),
    state: State | None = None,
    fused: bool | None = None,
) -> Flow:
    """A run of T steps.

    Args:
        economy: the table.
        parameters: of the industries.
        horizon: T.
        loss: `(T, N, B)` share of capacity lost, see `capacity_loss`.
        lost_capital: `(T, N, B)` value of the capital out of use, see `capital_loss`.
        rebuild: capital destroyed and built again.
        state: to start from.
        fused: whether a step is one pass over the table in C++: without gradients, for one column. None: where it can.
    Returns: a `Flow` of `(T, N, B)` tensors.
    Raises: ShapeError.
    """
    from dpsc.simulate.firms import fused_ario

    count = economy.industries
    batch = max([v.shape[2] for v in (loss, lost_capital) if v is not None] + [1 if state is None else state.output.shape[1]])
    for name, value in (("loss", loss), ("lost_capital", lost_capital)):
        if value is not None and (value.dim() != 3 or len(value) != horizon or value.shape[1] not in (1, count)):
            raise ShapeError(f"{name} must have shape (T, N, B) = ({horizon}, {count}, B), got {tuple(value.shape)}")
    asked = [event.asked(economy) for event in rebuild]
    nothing = economy.output.new_zeros(count, batch)

    def shocks() -> Iterator[dict[str, Any]]:
        for t in range(horizon):
            yield {
                "loss": nothing if loss is None else loss[t].expand(count, batch),
                "lost_capital": None if lost_capital is None else lost_capital[t].expand(count, batch),
                "works": [Work(*w, (1 / e.time if t >= e.occurrence + e.duration else 0.0), t >= e.occurrence) for w, e in zip(asked, rebuild, strict=True)],
            }

    inputs = [loss, lost_capital, *(e.impact for e in rebuild)]
    if fused or (fused is None and fused_ario.fits(state, economy, parameters, inputs, batch)):
        flows = fused_ario.run(state, economy, parameters, shocks(), len(rebuild))
    else:
        flows, now = [], start(economy, parameters, batch=batch, rebuildings=len(rebuild)) if state is None else state
        for shock in shocks():
            now, flow = step(now, economy, parameters, **shock)
            flows.append(flow)
    return Flow(*(torch.stack(parts) for parts in zip(*flows, strict=True)))


# ------------------------------------------------------------------------------------------------------------ recovery


def line(elapsed: Tensor, time: float) -> Tensor:
    """1 - e / tau, the share of a loss that is left after e steps `(T,)`; may fall below 0, `capacity_loss` cuts it there."""
    return 1 - elapsed / time


def geometric(elapsed: Tensor, time: float) -> Tensor:
    """(1 - 1 / tau)^e, BoARIO's "convexe noscale"."""
    return (1 - 1 / time) ** elapsed


def fast_geometric(elapsed: Tensor, time: float) -> Tensor:
    """(1 - 1 / tau)^(4 e), BoARIO's "convexe": more than 95 % is back after tau."""
    return (1 - 1 / time) ** (4 * elapsed)


def s_shaped(elapsed: Tensor, time: float, *, steepness: float = 1e-6) -> Tensor:
    """tau / (tau + s e^p), half way at tau / 2: BoARIO's "concave"."""
    t, s = torch.tensor(float(time), dtype=elapsed.dtype), torch.tensor(steepness, dtype=elapsed.dtype)
    power = (t.log() - s.log()) / (t.log() - torch.log(torch.tensor(2.0, dtype=elapsed.dtype)))
    return t / (t + s * elapsed**power)


def capacity_loss(
    horizon: int, impact: Tensor, *, occurrence: int, duration: int, time: float, recovery: Callable[[Tensor, float], Tensor] = line, late: int = 1
) -> Tensor:
    """An arbitrary loss of capacity that lasts, then recovers: `(T, N, B)`.

    Args:
        horizon: T.
        impact: `(N,)` or `(N, B)` share of capacity.
        occurrence: step of the event.
        duration: steps before recovery begins.
        time: tau of the recovery.
        recovery: `line`, `geometric`, `fast_geometric`, `s_shaped`: share left after so many steps.
        late: steps between the event and its effect; BoARIO 0.7.2 has one for a loss of capacity and none for a loss of capital.
    """
    checks.at_least("horizon", horizon, 1)
    wide = impact[:, None] if impact.dim() == 1 else impact
    t = torch.arange(horizon, dtype=wide.dtype, device=wide.device) - late
    elapsed = t - 1 - occurrence - duration
    left = torch.where(elapsed >= 0, recovery(elapsed.clamp_min(0), time).clamp_min(0), torch.ones_like(t))
    return torch.where(t >= occurrence, left, torch.zeros_like(t))[:, None, None] * wide


def capital_loss(horizon: int, impact: Tensor, *, occurrence: int, duration: int, time: float, recovery: Callable[[Tensor, float], Tensor] = line) -> Tensor:
    """The same for capital (value), which acts at once: `(T, N, B)`."""
    return capacity_loss(horizon, impact, occurrence=occurrence, duration=duration, time=time, recovery=recovery, late=0)
