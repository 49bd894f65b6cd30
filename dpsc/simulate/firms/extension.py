"""What stands around the step of a network of firms: prices, labour, goods under way, exits, rebuilding; any of them together.

An extension has a state of its own beside that of the firms, a tuple of tensors. In a step it may change the shock before it, hold deliveries back, and
look at what happened after it:

    shock, own <- before(own, ...)        each extension in turn, so that their losses compose
    orders are placed (`order_first`), demand is served
    stocks <- ship(own, ...)              goods that are under way instead of in stock
    orders are placed (not `order_first`)
    own    <- after(own, ...)

`rollout(..., extensions=[Prices(lag=4.0), Labour(hiring=0.1, firing=0.3)])` runs them with the shocks, readings, parts and checkpoints of any other run.
Every extension has a limit in which it is the plain step to the last digit; together in their limits they are so as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.parameters import Level, Parameters, widened
from dpsc.simulate.firms.step import Flow, Rules, Shock, State, place, serve
from dpsc.types import Relaxation


class Moment(NamedTuple):
    """A step as an extension sees it.

    Attributes:
        network: who supplies whom.
        parameters: of the firms.
        rules: parts and conventions.
        relax: reading.
        time: number of the step, from 0.
        shock: of the step: in `before` what the extensions before this one made of it, in `after` what was served.
        firms: before the step.
        flow: what was made and delivered; None before.
        after: the firms after the step; None before.
    """

    network: Network
    parameters: Parameters
    rules: Rules
    relax: Relaxation
    time: int
    shock: Shock
    firms: State
    flow: Flow | None = None
    after: State | None = None

    def done(self) -> tuple[Flow, State]:
        """Flow and firms after the step."""
        assert self.flow is not None
        assert self.after is not None
        return self.flow, self.after


class Shipped(NamedTuple):
    """`(K, B)` units that arrived less those delivered, and units under way beyond those at rest; the state of the extension."""

    late: Tensor
    surplus: Tensor
    own: tuple[Tensor, ...]


class Extension(ABC):
    """Subclass it with `start` and `after`, and what else is needed; a subclass is final and changes nothing of its own after it is made."""

    ships = False

    def prepared(self, rules: Rules) -> Rules:
        """The rules that the extension asks for. Raises: InputError where it cannot go with these."""
        return rules

    @abstractmethod
    def start(self, network: Network, parameters: Parameters, firms: State) -> tuple[Tensor, ...]:
        """The extension's state at rest, in the batch of the firms. Raises: InputError, ShapeError for settings that do not fit."""

    def before(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Shock, tuple[Tensor, ...]]:
        """The shock as the extension leaves it, and the state that `after` is to find."""
        return now.shock, own

    def ship(self, own: tuple[Tensor, ...], network: Network, flow: Flow) -> Shipped:
        """What of the deliveries arrives; called where `ships` is true."""
        raise NotImplementedError

    @abstractmethod
    def after(self, own: tuple[Tensor, ...], now: Moment) -> tuple[Tensor, ...]:
        """The extension's state at the end of the step."""

    @abstractmethod
    def seen(self, own: tuple[Tensor, ...], network: Network) -> dict[str, Tensor]:
        """Name -> `(M, B)` what a run keeps of every step."""


class Extended(NamedTuple):
    """Between two steps: the firms, and the state of each extension."""

    firms: State
    own: tuple[tuple[Tensor, ...], ...] = ()


def prepared(rules: Rules, extensions: Sequence[Extension]) -> Rules:
    """The rules that all extensions can live with. Raises: InputError."""
    for extension in extensions:
        if not isinstance(extension, Extension):
            raise InputError(f"extensions must be made from dpsc.simulate.firms.Extension, got {type(extension).__name__}")
        rules = extension.prepared(rules)
    shipping = [type(extension).__name__ for extension in extensions if extension.ships]
    if len(shipping) > 1:
        raise InputError(f"at most one extension can hold deliveries back, got {', '.join(shipping)}")
    return rules


def start(network: Network, parameters: Parameters, firms: State, extensions: Sequence[Extension]) -> Extended:
    """Firms as given, extensions at rest."""
    return Extended(firms, tuple(extension.start(network, parameters, firms) for extension in extensions))


def step(
    state: Extended,
    network: Network,
    parameters: Parameters,
    shock: Shock,
    *,
    extensions: Sequence[Extension],
    rules: Rules,
    relax: Relaxation,
    time: int = 0,
) -> tuple[Extended, Flow]:
    """One step with extensions; without any it is `dpsc.simulate.firms.step`. Rules as `prepared` gives them."""
    firms, owned = state.firms, list(state.own)
    surplus: Tensor | None = None
    for k, extension in enumerate(extensions):
        shock, owned[k] = extension.before(owned[k], Moment(network, parameters, rules, relax, time, shock, firms))
    now = place(firms, network, parameters, shock, rules=rules) if rules.order_first else firms
    now, flow = serve(now, network, parameters, shock, rules=rules, relax=relax)
    for k, extension in enumerate(extensions):
        if extension.ships:
            late, surplus, owned[k] = extension.ship(owned[k], network, flow)
            now = now._replace(stock=now.stock + late)
    if not rules.order_first:
        counted = now if surplus is None else now._replace(stock=now.stock + surplus)  # or what is under way would be ordered again and again
        now = place(counted, network, parameters, shock, rules=rules)._replace(stock=now.stock)
    moment = Moment(network, parameters, rules, relax, time, shock, firms, flow, now)
    return Extended(now, tuple(extension.after(own, moment) for extension, own in zip(extensions, owned, strict=True))), flow


def seen(state: Extended, network: Network, extensions: Sequence[Extension]) -> dict[str, Tensor]:
    """What a run keeps of the extensions. Raises: InputError where two use one name."""
    kept: dict[str, Tensor] = {}
    for extension, own in zip(extensions, state.own, strict=True):
        for name, value in extension.seen(own, network).items():
            if name in kept:
                raise InputError(f"extensions must keep series of different names, got {name!r} twice")
            kept[name] = value
    return kept


def stacked(series: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """`(M, B)` of every step -> `(T, M, B)`."""
    return {name: torch.stack([one[name] for one in series]) for name in series[0]} if series else {}


def bounded(name: str, value: Any, low: float, high: float = torch.inf) -> Level:
    """A level of an extension: a number or a tensor within bounds. Raises: InputError, DtypeError."""
    if not isinstance(value, Tensor):
        value = float(value)
        ends = (value, value)
    else:
        checks.finite(name, checks.floating(name, value))
        ends = (float(value.detach().min()), float(value.detach().max()))
    if not low <= ends[0] <= ends[1] <= high:
        allowed = f"be >= {low:g}" if high == torch.inf else f"lie in [{low:g}, {high:g}]"
        raise InputError(f"{name} must {allowed}, got {ends[1] if ends[0] >= low else ends[0]:g}")
    return value


def at(name: str, series: Level, time: int, network: Network) -> Tensor:
    """What holds at a step: a number, `(M,)`, `(M, B)`, or `(T, M, B)` of every step; as `(M or 1, B or 1)`. Raises: ShapeError."""
    if isinstance(series, Tensor) and series.dim() == 3:
        if not time < len(series):
            raise ShapeError(f"{name} must have a row for every step of the run, got {len(series)} rows and step {time}")
        series = series[time]
    return widened(name, series, network)
