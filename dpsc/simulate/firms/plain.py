"""Whole runs in plain torch operations: what the C++ kernels do, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


class Lists:
    """Sums and minima over the edges of a firm."""

    def __init__(self, ptr: Tensor, src: Tensor, a: Tensor) -> None:
        self.firms, self.ptr, self.src, self.a = len(ptr) - 1, ptr, src, a[:, None]
        self.dst = torch.arange(self.firms, device=ptr.device).repeat_interleave(torch.diff(ptr))
        if src.is_cuda:  # sums by atomics have no order there
            self.by_supplier = torch.sort(src, stable=True).indices
            count = torch.bincount(src, minlength=self.firms)
            self.supplier_ptr = torch.cat([count.new_zeros(1), count.cumsum(0)])

    def to_supplier(self, value: Tensor) -> Tensor:
        """`(E, B)` -> `(M, B)`."""
        if value.is_cuda:
            return torch.segment_reduce(value[self.by_supplier].contiguous(), "sum", offsets=self.supplier_ptr, axis=0, initial=0)
        return value.new_zeros(self.firms, value.shape[1]).index_add_(0, self.src, value)

    def to_buyer(self, value: Tensor) -> Tensor:
        """`(E, B)` -> `(M, B)`."""
        if value.is_cuda:
            return torch.segment_reduce(value.contiguous(), "sum", offsets=self.ptr, axis=0, initial=0)
        return value.new_zeros(self.firms, value.shape[1]).index_add_(0, self.dst, value)

    def lowest(self, value: Tensor) -> Tensor:
        """`(E, B)` -> `(M, B)`, infinite where there is no edge."""
        return torch.segment_reduce(value.contiguous(), "min", offsets=self.ptr, axis=0, initial=torch.inf)


def _served(x: Tensor, demand: Tensor) -> Tensor:
    asked = demand > 0
    return torch.where(asked, x / torch.where(asked, demand, torch.ones_like(demand)), torch.zeros_like(x))


def _wide(
    at: Lists, batch: int, cap: Tensor, rate: Tensor, ease: Tensor, use: Tensor, inventory: Tensor, order: Tensor, demand: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Levels as `(M, B)`, targets and first orders as `(E, B)`, the first demand as `(M, B)`."""
    levels = [v.expand(at.firms, batch) for v in (cap, rate, ease, inventory, demand)]
    return levels[0], levels[1], levels[2], use * levels[3][at.dst], order.expand(len(at.src), batch), levels[4]


def forward(
    ptr: Tensor, src: Tensor, a: Tensor, use: Tensor, stock: Tensor | None, order: Tensor, inventory: Tensor, demand: Tensor, c: Tensor, z: Tensor,
    cap: Tensor, rate: Tensor, ease: Tensor, interval: int, shock_on_stock: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """A run of T steps, serve then order. Dimensions of size 1 stand for all firms (`(E, .)`: edges) or columns, but for z, which has all three.

    Args:
        ptr: `(M + 1,)` int64, the edges of each buyer.
        src: `(E,)` int32 suppliers.
        a: `(E,)` coefficients.
        use: `(E, 1)` units used a step at rest.
        stock: `(E, B)` before the first step; None is at target.
        order: `(E, B)` to be served in the first step.
        inventory: `(M, B)` target stocks in steps of use.
        demand: `(M, B)` to be served in the first step.
        c: `(1 or T, M, B)` final demand; that of step t is served in step t + 1.
        z: `(T, M, B)` productivity.
        cap: `(M, B)` capacity, units.
        rate: `(M, B)` 1 / tau.
        ease: `(M, B)` 1 / steps of stock that full production needs.
        interval: steps between the stocks that are kept for the way back; 0 keeps none.
        shock_on_stock: whether z multiplies what stocks allow.
    Returns: output `(T, M, B)`, demand `(T + 1, M, B)`, last stocks and orders `(E, B)`, stocks kept before the steps interval, 2 interval ... `(., E, B)`.
    """
    at, batch = Lists(ptr, src, a), z.shape[2]
    cap, rate, ease, target, order, demand = _wide(at, batch, cap, rate, ease, use, inventory, order, demand)
    stock = target if stock is None else stock
    outputs, demands, kept = [], [demand], []
    for t, z_now in enumerate(z):
        if interval and t and t % interval == 0:
            kept.append(stock)
        allowed = at.lowest(stock / at.a) * ease
        by_stock = torch.where(z_now > 0, z_now * allowed, 0.0) if shock_on_stock else allowed  # without inputs `allowed` is infinite
        x = torch.minimum(demand, torch.minimum(z_now * cap, by_stock))
        stock = stock + _served(x, demand)[src] * order - at.a * x[at.dst]
        order = (at.a * demand[at.dst] + (target - stock) * rate[at.dst]).clamp_min(0)
        demand = c[min(t, len(c) - 1)] + at.to_supplier(order)
        outputs.append(x)
        demands.append(demand)
    empty = stock.new_empty(0, *stock.shape)
    return torch.stack(outputs), torch.stack(demands), stock.clone(), order.clone(), torch.stack(kept) if kept else empty


def backward(
    ptr: Tensor, src: Tensor, a: Tensor, use: Tensor, stock: Tensor | None, order: Tensor, inventory: Tensor, demand: Tensor, c: Tensor, z: Tensor,
    cap: Tensor, rate: Tensor, ease: Tensor, x: Tensor, demands: Tensor, last_stock: Tensor, kept: Tensor, gx: Tensor | None, g_demands: Tensor | None,
    g_last_stock: Tensor | None, g_last_order: Tensor | None, interval: int, shock_on_stock: bool, sharpness: float, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The way back: stocks of a segment are rebuilt from the kept ones, outputs and demands; orders from stocks and demands.

    Args:
        gx: `(T, M, B)` gradient of the output, or None.
        g_demands: `(T + 1, M, B)` gradient of the demand, or None.
        g_last_stock: `(E, B)`, or None.
        g_last_order: `(E, B)`, or None.
        sharpness: 0 for the exact sub-gradient, shared evenly among limits that tie; else beta of the straight-through weights (low / v)^beta.
        needs: which of the gradients are asked for, as they are returned.

    A run that begins at its targets has a stock S = target + what happened since, and orders see only the difference. Each step takes from the gradient in S
    what it adds to that in the target, so of their sum there remains what stocks allowed: it is summed alone, and is exactly zero where no stock binds.

    Returns: gradients in stock, order, inventory, demand, c, z, cap, rate, ease, `(E, B)`, `(M, B)` or `(., M, B)`; empty where they are not asked for.
    """
    at, horizon, batch = Lists(ptr, src, a), len(z), z.shape[2]
    cap, rate, ease, target, order, demand = _wide(at, batch, cap, rate, ease, use, inventory, order, demand)
    c = c.expand(-1, -1, batch)
    at_target, stock = stock is None, target if stock is None else stock
    nothing = torch.zeros_like(stock)
    g_stock = nothing if g_last_stock is None else g_last_stock
    g_order = nothing if g_last_order is None else g_last_order
    g_next = torch.zeros_like(demand) if g_demands is None else g_demands[horizon]
    g_target, g_cap, g_rate, g_ease, g_c, g_z = nothing, *(torch.zeros_like(v) for v in (cap, rate, ease, c, z))
    inverse = 1 / at.a
    for begin in range((horizon - 1) // interval * interval, -1, -interval):
        end = min(begin + interval, horizon)
        stocks = [stock if begin == 0 else kept[begin // interval - 1]]
        for t in range(begin, end - 1):
            stocks.append(stocks[-1] + _served(x[t], demands[t])[src] * _placed(at, t, order, demands, target, stocks[-1], rate) - at.a * x[t][at.dst])
        after = last_stock if end == horizon else kept[end // interval - 1]
        for t in range(end - 1, begin - 1, -1):
            before, asked, z_now = stocks[t - begin], demands[t], z[t]
            served, had = _served(x[t], asked), _placed(at, t, order, demands, target, before, rate)
            g_c[t if len(c) > 1 else 0] += g_next
            gap = target - after
            u = torch.where(at.a * asked[at.dst] + gap * rate[at.dst] > 0, g_order + g_next[src], nothing)
            down = u * rate[at.dst]
            g = g_stock - down
            g_target = g_target if at_target else g_target + down
            g_rate += at.to_buyer(u * gap)
            to_rate = _served(at.to_supplier(g * had), asked)  # gradient in x / D, over D
            to_x = to_rate - at.to_buyer(at.a * g)
            to_demand = at.to_buyer(at.a * u) - to_rate * served
            if gx is not None:
                to_x = to_x + gx[t]
            if g_demands is not None:
                to_demand = to_demand + g_demands[t]
            g_order = served[src] * g
            factor = z_now * ease if shock_on_stock else ease
            own, by_stock = z_now * cap, before * inverse * factor[at.dst]
            low = torch.minimum(asked, torch.minimum(own, at.lowest(by_stock)))
            weights = [_weight(low, asked, sharpness), _weight(low, own, sharpness), _weight(low[at.dst], by_stock, sharpness)]
            share = to_x / (weights[0] + weights[1] + at.to_buyer(weights[2]))
            of_stock = weights[2] * share[at.dst]
            released = of_stock * inverse * factor[at.dst]
            g_stock = g + released
            g_target = g_target + released if at_target else g_target
            through = at.to_buyer(of_stock * before * inverse)
            of_own = weights[1] * share
            g_cap += torch.where(of_own != 0, of_own * z_now, 0.0)
            g_z[t] = torch.where(of_own != 0, of_own * cap, 0.0) + (through * ease if shock_on_stock else 0.0)
            g_ease += through * z_now if shock_on_stock else through
            g_next = to_demand + weights[0] * share
            after = before
    if at_target and g_last_stock is not None:
        g_target = g_target + g_last_stock
    g_inventory = at.to_buyer(use * g_target)
    found = (g_stock, g_order, g_inventory, g_next, g_c, g_z, g_cap, g_rate, g_ease)
    made = [v if asked else v.new_empty(0) for v, asked in zip(found, needs, strict=True)]
    return made[0], made[1], made[2], made[3], made[4], made[5], made[6], made[7], made[8]


def tangent(
    along: dict[str, Tensor], shock_on_stock: bool, sharpness: float,
    ptr: Tensor, src: Tensor, a: Tensor, use: Tensor, stock: Tensor | None, order: Tensor, inventory: Tensor, demand: Tensor, c: Tensor, z: Tensor,
    cap: Tensor, rate: Tensor, ease: Tensor, x: Tensor, demands: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Derivatives of output, demand, last stocks and last orders along a direction; forward in time, nothing is kept.

    Args:
        along: name of an input -> its direction, of its shape; the others stand still.
        shock_on_stock: see `forward`, as the inputs and results that follow.
        sharpness: see `backward`, whose transpose this is.
    """
    at, batch = Lists(ptr, src, a), z.shape[2]
    given = (order, inventory, demand, c, z, cap, rate, ease)
    names = ("order", "inventory", "demand", "c", "z", "cap", "rate", "ease")
    d = {name: along.get(name, torch.zeros_like(value)) for name, value in zip(names, given, strict=True)}
    zero = torch.zeros_like(use)
    d["target"] = along.get("use", zero) * inventory.expand(at.firms, batch)[at.dst] + use * d["inventory"].expand(at.firms, batch)[at.dst]
    d |= {name: d[name].expand(at.firms, batch) for name in ("demand", "cap", "rate", "ease")}
    d["order"] = d["order"].expand(len(src), batch)
    cap, rate, ease, target, order, demand = _wide(at, batch, cap, rate, ease, use, inventory, order, demand)
    d["stock"] = d["target"] if stock is None else along.get("stock", torch.zeros_like(target))
    stock = target if stock is None else stock.expand_as(target)
    d_stock, d_order, d_demand = d["stock"], d["order"], d["demand"]
    d_outputs, d_demands = [], [d_demand]
    for t, z_now in enumerate(z):
        asked, made = demands[t], x[t]
        factor = z_now * ease if shock_on_stock else ease
        d_factor = d["z"][t] * ease + z_now * d["ease"] if shock_on_stock else d["ease"]
        own, by_stock = z_now * cap, stock / at.a * factor[at.dst]
        low = torch.minimum(asked, torch.minimum(own, at.lowest(by_stock)))
        weights = [_weight(low, asked, sharpness), _weight(low, own, sharpness), _weight(low[at.dst], by_stock, sharpness)]
        total = weights[0] + weights[1] + at.to_buyer(weights[2])
        moved = at.to_buyer(weights[2] * (d_stock * factor[at.dst] + stock * d_factor[at.dst]) / at.a)
        d_own = torch.where(weights[1] > 0, d["z"][t] * cap + z_now * d["cap"], 0.0)
        d_made = (weights[0] * d_demand + weights[1] * d_own + moved) / total
        served = _served(made, asked)
        d_served = _served(d_made - served * d_demand, asked)
        d_stock = d_stock + d_served[src] * order + served[src] * d_order - at.a * d_made[at.dst]
        stock = stock + served[src] * order - at.a * made[at.dst]
        want = at.a * asked[at.dst] + (target - stock) * rate[at.dst]
        d_want = at.a * d_demand[at.dst] + (d["target"] - d_stock) * rate[at.dst] + (target - stock) * d["rate"][at.dst]
        order, d_order = want.clamp_min(0), torch.where(want > 0, d_want, 0.0)
        d_demand = d["c"][min(t, len(c) - 1)] + at.to_supplier(d_order)
        d_outputs.append(d_made)
        d_demands.append(d_demand)
    return torch.stack(d_outputs), torch.stack(d_demands), d_stock, d_order


def _placed(at: Lists, t: int, order: Tensor, demands: Tensor, target: Tensor, stock: Tensor, rate: Tensor) -> Tensor:
    """The orders that step t serves."""
    return order if t == 0 else (at.a * demands[t - 1][at.dst] + (target - stock) * rate[at.dst]).clamp_min(0)


def _weight(low: Tensor, value: Tensor, sharpness: float) -> Tensor:
    if not sharpness:
        return (value == low).to(low.dtype)
    tiny = torch.finfo(low.dtype).tiny
    return (low.clamp_min(tiny) / value.clamp_min(tiny)).clamp_max(1) ** sharpness
