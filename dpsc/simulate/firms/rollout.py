"""Runs: a shock in, the output of every firm and step out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, Logistic, StraightThrough
from dpsc.simulate.firms import extension as extended
from dpsc.simulate.firms.extension import Extended, Extension
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Parameters
from dpsc.simulate.firms.rationing import fill_rate
from dpsc.simulate.firms.step import Rules, Shock, State, place, serve, start
from dpsc.simulate.firms.whole import Kernels, WholeRun, _operators, checkpoint_interval
from dpsc.types import Relaxation

MEMORY = 2.0**25
LIVE = 12  # edge tensors that autograd keeps of a step taken operation by operation


@dataclass(frozen=True, eq=False)
class Run:
    """A run of T steps.

    Attributes:
        output: `(T, M, B)` units made.
        demand: `(T, M, B)` units asked for.
        ended: how `state` is found when it is first read.
        delivered: how `final` is found when it is first read.
        seen: what extensions kept of every step, name -> `(T, M, B)`.
    """

    output: Tensor
    demand: Tensor
    ended: Callable[[], State | Extended]
    delivered: Callable[[], Tensor]
    seen: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def state(self) -> State | Extended:
        """After the last step; hand it to another run to go on. With extensions an `Extended`."""
        return self.ended()

    @cached_property
    def final(self) -> Tensor:
        """`(T, M, B)` units delivered to final demand."""
        return self.delivered()


def rollout(
    network: Network,
    parameters: Parameters,
    *,
    productivity: Tensor | None = None,
    final_demand: Tensor | None = None,
    transport: Tensor | None = None,
    horizon: int | None = None,
    state: State | Extended | None = None,
    rules: Rules | None = None,
    extensions: Sequence[Extension] = (),
    relax: Relaxation | None = None,
    memory: float = MEMORY,
    kernels: Kernels | None = None,
    check: bool = True,
) -> Run:
    """Run the network through a shock; one `step` after the other, see there.

    With the paper's parts (`Rules.plain`), a stock for every edge, no shock on edges, no extensions and an exact or straight-through reading, the whole
    run is one operation with a backward pass of its own; otherwise autograd follows every step, in checkpointed segments where the memory asks for it.
    The numbers are the same.

    Args:
        network: who supplies whom.
        parameters: stocks, adjustment times, capacities.
        productivity: `(T, M, B)` z >= 0, or `(T, M)`; None is 1. Dimensions of size 1 stand for all firms, all columns.
        final_demand: `(T, M, B)` or `(T, M)` units >= 0; None is that of the network. With orders last, that of step t is served in step t + 1.
        transport: `(T, E, B)` or `(T, E)` share of orders that each edge lets through; None is 1.
        horizon: T, needed where nothing else tells.
        state: to start from; None starts at rest, with stocks at their targets.
        rules: parts and conventions.
        extensions: `Prices`, `Lags`, `Labour`, `Entry`, `Rebuilding`, or your own; any of them together, see `dpsc.simulate.firms.extension`.
        relax: reading of the minima, `Exact()` by default.
        memory: bytes that stored stocks may take on the way to a gradient, 32 MiB by default; what does not fit is computed twice, in segments of at best
            about sqrt T steps. More is seldom faster: fresh pages cost as much as a step.
        kernels: passes of whole runs; None takes C++ where it is there, else plain torch operations.
        check: whether to look at the values of the shock (one pass over it).
    Returns: the run; B is the largest batch of all that was given.
    Gradient: in every level of the parameters, the shocks and the state; in the coefficients only step by step.
    Raises: ShapeError; InputError for negative or infinite shocks, a productivity of 0 where capacity is infinite, and an output that is not finite.
    """
    rules, relax = Rules() if rules is None else rules, Exact() if relax is None else relax
    for name, given, kind in (("rules", rules, Rules), ("parameters", parameters, Parameters)):
        if not isinstance(given, kind):
            raise InputError(f"{name} must be a dpsc.simulate.firms.{kind.__name__}, got {given!r}")
    if not hasattr(relax, "read"):
        raise InputError(f"relax must be a reading, such as dpsc.relax.Exact(), got {relax!r}")
    rules = extended.prepared(rules, extensions)
    firms = state.firms if isinstance(state, Extended) else state
    if isinstance(state, Extended) and len(state.own) != len(extensions):
        raise InputError(f"a run that goes on must have the extensions that it had, got {len(extensions)} extensions and a state of {len(state.own)}")
    paths = {
        "productivity": (productivity, network.firms),
        "final_demand": (final_demand, network.firms),
        "transport": (transport, network.edges),
    }
    wide = {name: _path(name, value, size, network, check) for name, (value, size) in paths.items()}
    lengths = {name: len(v) for name, v in wide.items() if v is not None} | ({} if horizon is None else {"horizon": horizon})
    if not lengths:
        raise InputError("rollout must be given a shock (productivity, final_demand, transport) or a horizon, got none")
    if check and wide["productivity"] is not None and parameters.unlimited():
        _says_what_is_made(wide["productivity"], parameters.wide("capacity", network))
    steps = checks.at_least("horizon", max(lengths.values()), 1)
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"shocks and horizon must have one length T, got {', '.join(f'{n}: {k}' for n, k in lengths.items())}")
    batches = [v.shape[2] for v in wide.values() if v is not None] + [parameters.batch(), 1 if firms is None else firms.stock.shape[1]]
    batch = max(batches)
    if any(b not in (1, batch) for b in batches):
        raise ShapeError(f"batches must be 1 or one number B, got {sorted(set(batches))}")
    if firms is not None:
        _of_this_network(firms, network)
    sharpness = _sharpness(relax)
    tracked = network.coefficient.requires_grad or network.use.requires_grad
    if rules.plain and network.own_stocks and wide["transport"] is None and sharpness is not None and not tracked and not extensions:
        return _whole(network, parameters, wide["productivity"], wide["final_demand"], firms, rules, relax, steps, batch, sharpness, memory, kernels)
    return _stepwise(network, parameters, wide, state, rules, relax, steps, batch, memory, extensions)


def _sharpness(relax: Relaxation) -> float | None:
    """0 for the exact sub-gradient, beta for straight-through; None where only the operation itself knows."""
    if isinstance(relax, Exact):
        return 0.0
    if isinstance(relax, StraightThrough) and isinstance(relax.kernel, Logistic):
        return 1 / float(relax.kernel.temperature)
    return None


def _whole(
    network: Network, parameters: Parameters, z: Tensor | None, c: Tensor | None, state: State | None, rules: Rules, relax: Relaxation, steps: int, batch: int,
    sharpness: float, memory: float, kernels: Kernels | None,
) -> Run:  # fmt: skip
    rest = network.output[:, None]
    z = rest.new_ones(1, 1, 1) if z is None else z
    z = z.expand(steps, network.firms, batch)
    c = network.final_demand[None, :, None] if c is None else c.expand(steps, network.firms, -1)
    begin = state
    if rules.order_first and begin is None:
        begin = start(network, parameters, batch=batch)
    if begin is not None:
        begin = State(*(v.expand(v.shape[0], batch) for v in begin))
    served = steps
    if rules.order_first:  # the same loop, entered after the first orders and left before the next
        assert begin is not None
        begin = place(begin, network, parameters, Shock(z[0], c[0].expand(network.firms, batch)), rules=rules)
        served -= 1
    later = c[1:] if rules.order_first and len(c) > 1 else c
    levels = [parameters.wide(name, network) for name in ("inventory", "capacity", "adjustment_time", "needed")]
    following = torch.is_grad_enabled()
    if served:
        values = (
            network.use, *((None, network.trade) if begin is None else (begin.stock, begin.order)), levels[0], rest if begin is None else begin.demand, later,
            z[:served], levels[1] * rest, levels[2].reciprocal(), levels[3].reciprocal(),
        )  # fmt: skip
        tracked = following and any(v is not None and v.requires_grad for v in values)
        # Where nobody will come back no stocks are kept.
        interval = checkpoint_interval(served, network.edges * batch * rest.element_size(), memory) if tracked else 0
        settings = (kernels or _operators(), interval, rules.shock_on_stock, sharpness)
        made = WholeRun.apply(settings, network.pointer, network.supplier, network.coefficient, *values)
        output, demands, stock, order, _ = made

        def ended() -> State:
            with torch.set_grad_enabled(following):
                last = output[served - 1]
                used = network.recipe[:, None] * last.index_select(0, network.owner)
                asked = later[-1].expand(network.firms, batch)
                return State(stock, order, demands[served], asked, last, used, fill_rate(last, demands[served - 1]))
    else:
        assert begin is not None
        output, demands, rested = z[:0], begin.demand[None], begin

        def ended() -> State:
            return rested

    if rules.order_first:
        end, flow = serve(ended(), network, parameters, Shock(z[-1]), rules=rules, relax=relax)
        path, demand, found = torch.cat([output, flow.output[None]]), demands, lambda: end
    else:
        path, demand, found = output, demands[:-1], ended
    _finite_output(path)

    def delivered() -> Tensor:
        asked_first = network.final_demand[:, None] if begin is None else begin.final
        asked = torch.cat([asked_first.expand(network.firms, batch)[None], later.expand(max(served, 1), network.firms, batch)[: steps - 1]])
        return fill_rate(path, demand) * asked

    return Run(path, demand, found, delivered)


def _stepwise(
    network: Network, parameters: Parameters, wide: dict[str, Tensor | None], state: State | Extended | None, rules: Rules, relax: Relaxation, steps: int,
    batch: int, memory: float, extensions: Sequence[Extension],
) -> Run:  # fmt: skip
    firms = state.firms if isinstance(state, Extended) else start(network, parameters, batch=batch) if state is None else state
    firms = State(*(v.expand(v.shape[0], batch) for v in firms))
    now = state if isinstance(state, Extended) else extended.start(network, parameters, firms, extensions)
    now = now._replace(firms=firms)
    one = network.output.new_ones(1, 1)

    def shock(t: int) -> Shock:
        z, c, share = (wide[name] for name in ("productivity", "final_demand", "transport"))
        return Shock(
            (one if z is None else z[t]).expand(network.firms, batch),
            None if c is None else c[t].expand(network.firms, batch),
            None if share is None else share[t].expand(network.edges, batch),
        )

    def segment(first: int, last: int, here: Extended) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Tensor], Extended]:
        flows, kept = [], []
        for t in range(first, last):
            here, flow = extended.step(here, network, parameters, shock(t), extensions=extensions, rules=rules, relax=relax, time=t)
            flows.append((flow.output, flow.demand, flow.final))
            kept.append(extended.seen(here, network, extensions))
        output, demand, final = (torch.stack(parts) for parts in zip(*flows, strict=True))
        return (output, demand, final), extended.stacked(kept), here

    size = LIVE * network.edges * batch * network.output.element_size()
    length = steps
    if torch.is_grad_enabled() and steps * size > memory:
        length = max(1, round(steps**0.5))
    flows, series = [], []
    for first in range(0, steps, length):
        last = min(first + length, steps)
        whole = length == steps
        made: Any = segment(first, last, now) if whole else checkpoint(segment, first, last, now, use_reentrant=False, preserve_rng_state=False)
        flows.append(made[0])
        series.append(made[1])
        now = made[2]
    output, demand, final = (torch.cat(parts) for parts in zip(*flows, strict=True))
    _finite_output(output)
    seen = {name: torch.cat([one[name] for one in series]) for name in series[0]}
    return Run(output, demand, lambda: now if extensions else now.firms, lambda: final, seen)


def _path(name: str, value: Tensor | None, size: int, network: Network, check: bool) -> Tensor | None:
    """`(T, size or 1, B or 1)` in the dtype of the network, checked."""
    if value is None:
        return None
    checks.floating(name, value)
    letter = "E" if name == "transport" else "M"
    if value.dim() not in (2, 3) or not len(value) or value.shape[1] not in (1, size):
        raise ShapeError(f"{name} must have shape (T, {letter}, B) or (T, {letter}) with {letter} = {size}, got {tuple(value.shape)}")
    value = value.to(network.output)
    if check and value.numel():
        low, high = (float(v) for v in torch.aminmax(value.detach()))
        if not (low >= 0 and high < torch.inf):
            checks.finite(name, value)
            raise InputError(f"{name} must be >= 0, got {low:g}")
        if name == "transport" and high > 1:
            raise InputError(f"transport must be a share in [0, 1] of what is ordered, got {high:g}")
    return value[..., None] if value.dim() == 2 else value


def _says_what_is_made(productivity: Tensor, capacity: Tensor) -> None:
    """Nothing of an infinite capacity is no number."""
    void = (productivity == 0) & torch.isinf(capacity)
    if bool(void.any()):
        where = tuple(void.nonzero()[0].tolist())
        raise InputError(f"productivity must be > 0 where capacity is infinite, got 0 in {int(void.sum())} entries, the first at (step, firm, column) {where}")


def _of_this_network(state: State, network: Network) -> None:
    """A state from elsewhere would be read beyond its end."""
    rows = {"stock": network.inputs, "use": network.inputs, "order": network.edges}
    for name, value in state._asdict().items():
        if value.dim() != 2 or value.shape[0] != rows.get(name, network.firms):
            raise ShapeError(
                f"state.{name} must have shape ({rows.get(name, network.firms)}, B), as the network has {network.firms} firms, {network.inputs} inputs and "
                f"{network.edges} edges, got {tuple(value.shape)}"
            )


def _finite_output(output: Tensor) -> None:
    """The border of a rollout: what is not finite is refused once, at the end."""
    if not math.isfinite(float(output.detach()[-1].sum())):  # so is the sum of very large numbers
        bad = (~torch.isfinite(output.detach())).nonzero()
        if not len(bad):
            return
        where = tuple(bad[0].tolist())
        raise InputError(f"the output must stay finite, got {len(bad)} of {output.numel()} entries NaN or infinite, the first at (step, firm, column) {where}")
