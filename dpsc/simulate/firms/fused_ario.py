"""ARIO in one pass over the table a step, in C++: for runs of one column without gradients. The same numbers as `ario.step`, to rounding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpsc.simulate.firms import native
from dpsc.simulate.firms.rationing import fill_rate

if TYPE_CHECKING:
    from dpsc.simulate.firms.ario import Economy, Flow, Parameters, State


def fits(state: State | None, economy: Economy, parameters: Parameters, inputs: Sequence[Any], batch: int) -> bool:
    """Whether a run can be taken here."""
    begun = () if state is None else (*state[:5], *state.left)
    tensors = [v for v in (*begun, economy.flow, parameters.psi, parameters.adjustment_time, parameters.stock_days, *inputs) if isinstance(v, Tensor)]
    plain = economy.flow.device.type == "cpu" and economy.flow.dtype == torch.float64 and batch == 1
    tracked = torch.is_grad_enabled() and any(v.requires_grad for v in tensors)
    levels = (parameters.by_industry("psi", economy), parameters.by_industry("adjustment_time", economy), parameters.days(economy))
    return plain and not tracked and all(v.shape[-1] == 1 for v in levels) and native.available()


def run(state: State | None, economy: Economy, parameters: Parameters, shocks: Iterable[dict[str, Any]], rebuildings: int) -> list[Flow]:
    """The flows of a run.

    Args:
        state: to start from, one column; None starts at rest.
        economy: the table, float64 on the CPU.
        parameters: of the industries.
        shocks: for every step `loss`, `lost_capital` and `works`, as `ario.step` takes them.
        rebuildings: how many works there are.
    """
    from dpsc.simulate.firms.ario import Flow, strike

    loaded = native.library()[0]
    assert loaded is not None
    count, products = economy.industries, economy.products
    regions = count // products

    def by_product(value: Tensor) -> Tensor:  # (N, 1) -> (I, R)
        return value.reshape(regions, products).mT.contiguous()

    used = economy.by_buyer
    goal = used.of(parameters.days(economy)) * used.recipe
    needed = parameters.by_industry("psi", economy).expand(count, 1)[used.buyer, 0] * goal
    limiting = used.binding & (needed > 0)
    ease = torch.where(limiting, 1 / needed, 0.0)
    speed = (1 / parameters.by_industry("adjustment_time", economy)).expand(count, 1).contiguous()
    if state is None:
        stock, pull = goal * economy.output[used.buyer, 0], torch.ones_like(goal)
        favour = alpha = torch.ones_like(economy.output)
        last, left = economy.output, (torch.ones_like(economy.output),) * rebuildings
        orders = economy.sold.clone()  # the kernel writes over them
    else:
        stock, pull = used.of(state.stock), used.of(state.pull)
        favour, alpha, last, left = state.favour, state.overproduction, state.output, state.left
        orders = by_product(economy.to_suppliers(state.pull))
    allowed = torch.where(limiting, stock / needed, torch.inf)
    limit = torch.full((count,), torch.inf, dtype=goal.dtype).scatter_reduce(0, used.buyer, allowed, "amin")[:, None]
    fixed = [used.pointer, used.column, used.flow, used.recipe, goal, ease, used.product_flow, stock, pull]
    sizes = (ctypes.c_int64 * 3)(count, products, int(parameters.alternative))
    flows = []
    for shock in shocks:
        asked = favour * orders.mT.reshape(count, 1)
        struck = strike(asked, alpha, last, left, economy, parameters, **shock)
        output = torch.minimum(struck.best, limit)
        served = fill_rate(output, struck.demand)
        left = struck.worked_off(served)
        aim = torch.minimum(struck.demand - struck.rebuilding * served, struck.capacity).contiguous()
        sent = by_product(favour * served)
        favour = fill_rate(struck.capacity, economy.output) if parameters.alternative else torch.ones_like(favour)
        tensors = [*fixed, sent, by_product(favour), output, aim, speed, orders, limit]
        loaded.dpsc_ario(sizes, (ctypes.c_void_p * len(tensors))(*[v.data_ptr() for v in tensors]))
        alpha, last = struck.alpha, output
        flows.append(Flow(output, struck.capacity, struck.demand, economy.final_demand * (1 - served), alpha))
    return flows
