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


def fits(state: State, economy: Economy, parameters: Parameters, inputs: Sequence[Any]) -> bool:
    """Whether a run can be taken here."""
    tensors = [
        v for v in (*state[:5], *state.left, economy.flow, parameters.psi, parameters.adjustment_time, parameters.stock_days, *inputs) if isinstance(v, Tensor)
    ]
    plain = economy.flow.device.type == "cpu" and economy.flow.dtype == torch.float64 and state.output.shape[1] == 1
    tracked = torch.is_grad_enabled() and any(v.requires_grad for v in tensors)
    wide = any(v.dim() >= 2 and v.shape[-1] > 1 for v in (parameters.psi, parameters.adjustment_time) if isinstance(v, Tensor))
    return plain and not tracked and not wide and native.available()


def run(state: State, economy: Economy, parameters: Parameters, shocks: Iterable[dict[str, Any]]) -> list[Flow]:
    """The flows of a run.

    Args:
        state: to start from, one column.
        economy: the table, float64 on the CPU.
        parameters: of the industries.
        shocks: for every step `loss`, `lost_capital` and `works`, as `ario.step` takes them.
    """
    from dpsc.simulate.firms.ario import Flow, strike

    loaded = native.library()[0]
    assert loaded is not None
    count, products = economy.industries, economy.products
    regions = count // products

    def by_buyer(value: Tensor) -> Tensor:  # (I, N, 1) -> (N, I)
        return value[..., 0].expand(products, count).mT.contiguous().clone()

    def by_product(value: Tensor) -> Tensor:  # (N, 1) -> (I, R)
        return value.reshape(regions, products).mT.contiguous()

    days = parameters.days(economy)
    goal = days * economy.recipe
    needed = parameters.by_industry("psi", economy) * goal
    limiting = economy.binding & (needed > 0)
    ease = torch.where(limiting, 1 / torch.where(limiting, needed, torch.ones_like(needed)), torch.zeros_like(needed))
    speed = (1 / parameters.by_industry("adjustment_time", economy)).expand(count, 1).contiguous()
    flow = economy.flow.permute(2, 0, 1).contiguous()
    stock, pull = by_buyer(state.stock), by_buyer(state.pull)
    fixed = [flow, by_buyer(economy.recipe), by_buyer(goal), by_buyer(ease), by_buyer(economy.product_flow), stock, pull]
    orders = by_product(economy.to_suppliers(state.pull))
    limit = torch.where(limiting, state.stock / torch.where(limiting, needed, torch.ones_like(needed)), torch.inf).amin(0).contiguous()
    sizes = (ctypes.c_int64 * 3)(count, products, int(parameters.alternative))
    favour, alpha, last, left = state.favour, state.overproduction, state.output, state.left
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
