"""What is checked at the border, before the first step: everything that would otherwise end as a wrong number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

if TYPE_CHECKING:
    from dpsc.simulate.world import Noise, State, World

# Field of World -> (what it is listed by, smallest value, whether that value itself is allowed, whether whole numbers only, whether inf is allowed)
RULES: dict[str, tuple[str, float, bool, bool, bool]] = {
    "lead_time": ("E", 0, True, True, False),
    "review_period": ("E", 1, True, True, False),
    "pack": ("E", 0, False, False, False),
    "minimum_order": ("E", 0, True, False, False),
    "capacity": ("E", 0, False, False, True),
    "shelf_life": ("N", 1, True, True, True),
    "return_lag": ("N", 1, True, True, False),
}
SHARES = {"wait": "N", "return_rate": "N"}


def named(event: Any) -> str:
    """The name of an event, whatever numbers `functools.partial` has given it."""
    return str(getattr(getattr(event, "func", event), "__name__", type(event).__name__))


def check_world(world: World) -> None:
    """Values and shapes of a world's parameters, and whether its events fit them."""
    sizes = {"N": world.network.points, "E": len(world.network.edges)}
    for name, (letter, low, itself, integers, endless) in RULES.items():
        value = getattr(world, name)
        if value is None:
            continue
        _listed(name, value, letter, sizes[letter])
        plain = value.detach()
        bad = ~((plain >= low) if itself else (plain > low)) | ((plain != plain.round()) if integers else False) | (torch.isinf(plain) & (not endless))
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            kind = "whole periods" if integers else "units"
            raise InputError(f"{name} must be {kind} {'>=' if itself else '>'} {low:g}, got {plain[where].item():g} for {_of(world, letter, where[-1])}")
    for name, letter in SHARES.items():
        value = getattr(world, name)
        if isinstance(value, Tensor):
            _listed(name, value, letter, sizes[letter])
            bad = ~((value.detach() >= 0) & (value.detach() <= 1))
            if bool(bad.any()):
                where = tuple(bad.nonzero()[0].tolist())
                raise InputError(f"{name} must lie in [0, 1], got {value.detach()[where].item():g} for {_of(world, letter, where[-1])}")
        elif value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise InputError(f"{name} must lie in [0, 1], got {value!r}")
    _events(world)
    _lots(world)
    if world.whole and any(float(u) != round(u) for edge in world.network.edges for u in edge.draws.values()):
        raise InputError("with whole units a bill of materials must have whole multiplicities")


def _events(world: World) -> None:
    names = [named(event) for event in world.events]
    for needed, because in (
        ("receive", "or what is ordered never arrives"),
        *((("expire", "which shelf_life needs"),) if world.shelf_life is not None else ()),
    ):
        if needed not in names:
            raise InputError(f"events must contain {needed}, {because}; got {', '.join(names) or 'none'}")
    if "expire" in names and world.shelf_life is None:
        raise InputError("events contain expire, which needs a shelf_life")
    if world.return_rate is not None and world.return_lag is None:
        raise InputError("return_rate needs a return_lag, the (longest) number of periods until returns are back")
    last = len(names) - 1 - names[::-1].index("receive")
    shares = [getattr(event, "keywords", {}).get("share", 1.0) for event, name in zip(world.events, names, strict=True) if name == "receive"]
    if 1.0 not in shares:
        raise InputError(f"one receive among the events must let in all that is due, without a share, got shares of {', '.join(map(str, shares))}")
    after = "order" in names and names.index("order") > last
    if after and bool((world.lead_time < 1).any()):
        where = int((world.lead_time < 1).nonzero()[0])
        raise InputError(f"lead_time must be >= 1 period where no receive follows the order among the events, got 0 for {_of(world, 'E', where)}")


def _lots(world: World) -> None:
    """An order that fits the packs must be able to fit minimum and capacity."""
    pack, low, high = world.pack, world.minimum_order, world.capacity
    for name, value in (("minimum_order", low), ("capacity", high)):
        if pack is not None and value is not None:
            ratio = (value / pack)[torch.isfinite(value / pack)]
            if bool(((ratio - ratio.round()).abs() > 1e-6).any()):
                raise InputError(f"{name} must be a multiple of pack, got {value.tolist()} and packs of {pack.tolist()}")
    if low is not None and high is not None and bool((low > high).any()):
        where = int((low > high).flatten().nonzero()[0]) % len(world.network.edges)
        raise InputError(
            f"minimum_order must not exceed capacity, got {low.flatten()[where].item():g} above {high.flatten()[where].item():g} for {_of(world, 'E', where)}"
        )


def _listed(name: str, value: Any, letter: str, size: int) -> None:
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dim() < 1 or value.shape[-1] != size:
        raise ShapeError(f"{name} must end in {letter} = {size} {'points' if letter == 'N' else 'edges'}, got shape {tuple(value.shape)}")


def _of(world: World, letter: str, index: int) -> str:
    """Which point or edge."""
    network = world.network
    if letter == "N":
        return f"point {network.names[index]}"
    return f"edge {index}, which leads to point {network.names[network.edges[index].to]}"


def check_futures(world: World, noise: Noise, state: State) -> int:
    """Futures against world and state; returns T.

    Raises: InputError for negative demand, a lead time or a lag out of range, NaN (index named), a horizon that is shorter than the lead time; ShapeError.
    """
    names = [named(event) for event in world.events]
    follows = "order" in names and "receive" in names[names.index("order") :]
    if noise.return_lag is not None and world.return_rate is None:
        raise InputError("return_lag is drawn, but the world has no return_rate")
    # What it is listed by, smallest and largest value, whether it is whole.
    rules = {
        "demand": ("N", -math.inf if world.signed_demand else 0.0, math.inf, world.whole),
        "lead_time": ("E", 0.0 if follows else 1.0, float(len(state.pipeline)), True),
        "supply_yield": ("E", 0.0, 1.0, False),
        "running": ("E", 0.0, 1.0, False),
        "return_lag": ("N", 1.0, float(len(state.returning)), True),
        "return_uniform": ("N", 0.0, 1.0, False),
        "wait_uniform": ("N", 0.0, 1.0, False),
        "yield_uniform": ("E", 0.0, 1.0, False),
    }
    sizes = {"N": world.network.points, "E": len(world.network.edges)}
    periods = noise.demand.shape[0]
    for name, (letter, low, high, whole) in rules.items():
        value = getattr(noise, name)
        if value is None:
            continue
        checks.floating(name, value)
        if value.dim() < 3 or (value.shape[-1] != sizes[letter] and (name == "demand" or value.shape[-1] != 1)):
            raise ShapeError(f"{name} must have shape (T, ..., S, {letter}) = (T, ..., S, {sizes[letter]}), got {tuple(value.shape)}")
        if value.shape[0] != periods:
            raise ShapeError(f"{name} must have the {periods} periods of demand, got {value.shape[0]}")
        checks.broadcast({"the state": state.on_hand.shape[:-1], name: value.shape[1:-1]})
        if value.numel():
            _in_range(name, value, low, high, whole)
    if periods < int(world.lead_time.max()):
        raise InputError(f"the horizon must not be shorter than the lead time, got {periods} periods and a lead time of {int(world.lead_time.max())}")
    return periods


def _in_range(name: str, value: Tensor, low: float, high: float, whole: bool) -> None:
    """Finite, between two numbers, whole; good futures are looked at in one pass, two where they must be whole."""
    least, most = (float(x) for x in value.detach().aminmax())  # NaN where there is one
    if not (math.isfinite(least) and math.isfinite(most)):
        checks.finite(name, value)
    if least < low or most > high:
        where = tuple(((value < low) | (value > high)).nonzero()[0].tolist())
        span = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise InputError(f"{name} must be {'whole and ' if whole else ''}{span}, got {value[where].item():g} in period {where[0]}, index {where}")
    if whole and not torch.equal(value, value.round()):
        where = tuple((value != value.round()).nonzero()[0].tolist())
        because = " where units are whole" if name == "demand" else ""
        raise InputError(f"{name} must be whole{because}, got {value[where].item():g} in period {where[0]}, index {where}")


def overflow(world: World, values: Iterable[tuple[str, Tensor]], largest: float) -> str | None:
    """Which quantity is no number any more, or (of whole units) too large to be counted one by one, and where; None if all is well."""
    for name, value in values:
        bad = ~torch.isfinite(value)
        why = ""
        if not bool(bad.any()):
            bad = value > largest
            why = f", above {largest:g}, where {str(value.dtype).removeprefix('torch.')} stops counting single units"
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            letter = "N" if value.shape[-1] == world.network.points else "E"
            return f"{name} became {value[where].item():g}{why} for {_of(world, letter, where[-1])}, index {where}"
    return None
