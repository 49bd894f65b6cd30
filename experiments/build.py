"""The one wrapper around hydra's `instantiate`: a configuration can call nothing outside of the allowed packages."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from dpsc import checks
from dpsc.errors import ConfigError, DpscError

# Code may allow more (`main(allowed=...)`), a configuration file never.
ALLOWED = ("dpsc", "experiments", "torch.nn", "torch.optim", "pyro.optim")

# The machinery itself, which could be told to allow more.
REFUSED = ("experiments.build", "experiments.compose", "experiments.job", "experiments.run", "experiments.schema")

SPECIAL = ("_target_", "_partial_", "_args_")
TARGET = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")


def build(config: Mapping[str, Any], *, key: str = "flow", allowed: Sequence[str] = ALLOWED) -> Any:
    """Build the component that a plain, resolved configuration describes, and all components inside it.

    Args:
        config: a mapping with `_target_`, its arguments, and `_partial_: true` for a component that its user completes.
        key: where the mapping stands in the whole configuration, for messages.
        allowed: packages and modules whose functions and classes may be called.
    Returns: what the target returns; with `_partial_`, a `functools.partial`.
    Raises: ConfigError, naming the key; whatever DpscError a component raises.
    """
    check(config, key=key, allowed=allowed)
    try:
        return instantiate(dict(config), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        place = re.search(r"full_key: (\S+)", str(error))
        where = f"{key}.{place[1]}" if place else key
        if isinstance(cause, DpscError):
            raise type(cause)(f"{where}: {cause}") from error
        raise ConfigError(f"{where} cannot be built: " + (f"{type(cause).__name__}: {cause}" if cause else str(error))) from error


def flow(config: Mapping[str, Any], *, allowed: Sequence[str] = ALLOWED) -> Callable[..., Any]:
    """Build the components of a flow; returns the flow's function, which still needs its `context`.

    Raises: see `build` and `check_flow`.
    """
    function = check_flow(config, allowed=allowed)
    # hydra's own partial would put its frames into every traceback of the flow.
    return functools.partial(function, **build({**config, "_partial_": True}, allowed=allowed).keywords)


def check_flow(config: Mapping[str, Any], *, allowed: Sequence[str] = ALLOWED) -> Callable[..., Any]:
    """Check a flow and its components without building any; returns the flow's function.

    Raises: ConfigError for a flow that is no function of `context`, misses an argument or has one too many; see `check`.
    """
    if not config.get("_target_"):
        raise ConfigError("flow must have a _target_, the function experiments.<flow>.run; choose an experiment that has one: experiment=<name>")
    check({**config, "_partial_": True}, allowed=allowed)
    function: Callable[..., Any] = resolve(config["_target_"], allowed=allowed)
    if not inspect.isfunction(function) or "context" not in inspect.signature(function).parameters:
        raise ConfigError(f"flow._target_ must be a function that takes context, got {config['_target_']}")
    arguments = [name for name in config if name not in SPECIAL]
    if "context" in arguments or "_args_" in config:
        raise ConfigError("flow takes its components by name, and context from the run; got " + ("context" if "context" in arguments else "_args_"))
    _accepts(function, {**{name: None for name in arguments}, "context": None}, "flow", complete=True)
    return function


def check(config: Any, *, key: str = "flow", allowed: Sequence[str] = ALLOWED) -> None:
    """Check a whole tree, mappings and lists, before anything of it is called.

    Raises: ConfigError, naming the key, the target and what is allowed.
    """
    for where, node in _mappings(config, key):
        for name in node:
            if not isinstance(name, str) or (name.startswith("_") and name not in SPECIAL):
                raise ConfigError(f"{where} takes, of the keys that begin with '_', only {', '.join(SPECIAL)}; got {name!r}{checks.near(str(name), SPECIAL)}")
        if "_target_" not in node:
            if set(node) & set(SPECIAL):
                raise ConfigError(f"{where} must have a _target_ where it has {', '.join(sorted(set(node) & set(SPECIAL)))}")
            continue
        if not isinstance(node.get("_partial_", False), bool) or not isinstance(node.get("_args_", []), list):
            raise ConfigError(f"{where}: _partial_ must be true or false and _args_ a list, got {node.get('_partial_')!r} and {node.get('_args_')!r}")
        target = resolve(node["_target_"], key=where, allowed=allowed)
        if not node.get("_args_"):
            _accepts(target, {name: None for name in node if name not in SPECIAL}, where, complete=not node.get("_partial_", False))


def resolve(target: object, *, key: str = "flow", allowed: Sequence[str] = ALLOWED) -> Any:
    """The function or class of a dotted name, if it is *defined* in an allowed package; the path by which it is named does not count.

    Nothing outside of the allowed packages is imported on the way.

    Raises: ConfigError.
    """
    where = f"{key}._target_"
    if not isinstance(target, str) or not TARGET.fullmatch(target):
        raise ConfigError(f"{where} must be a dotted name of public parts, got {target!r}")
    if not _inside(target, allowed):
        raise ConfigError(f"{where} must lie in one of {', '.join(allowed)}; got {target!r}{checks.near(target.split('.')[0], allowed)}")
    found = _locate(target, where, allowed)
    home = getattr(found, "__module__", None)
    if not (inspect.isclass(found) or inspect.isroutine(found)) or "<" in getattr(found, "__qualname__", "<"):
        raise ConfigError(f"{where} must be a function or a class with a name of its own, got {target!r}, {_described(found)}")
    if not isinstance(home, str) or not _inside(home, allowed) or _inside(home, REFUSED):
        raise ConfigError(f"{where} must be defined in one of {', '.join(allowed)}; got {target!r}, which is defined in {home or 'no module'}")
    return found


def _locate(target: str, where: str, allowed: Sequence[str]) -> Any:
    parts = target.split(".")
    found: Any = importlib.import_module(parts[0])
    for position, part in enumerate(parts[1:], start=1):
        path = ".".join(parts[:position])
        inner = getattr(found, part, None)
        if inner is None and isinstance(found, ModuleType) and hasattr(found, "__path__"):
            inner = _imported(f"{found.__name__}.{part}", where)
        if inner is None:
            raise ConfigError(f"{where} must exist, got {target!r}: {path} has no {part!r}{checks.near(part, _public(found))}")
        if isinstance(inner, ModuleType) and not _related(inner.__name__, allowed):
            raise ConfigError(f"{where} must be defined in one of {', '.join(allowed)}; got {target!r}, which leads through the module {inner.__name__}")
        found = inner
    return found


def _imported(name: str, where: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise ConfigError(f"{where} needs the package {error.name}, which is not installed") from error


def _mappings(node: Any, where: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if isinstance(node, Mapping):
        yield where, node
        for name, value in node.items():
            yield from _mappings(value, f"{where}.{name}")
    elif isinstance(node, (list, tuple)):
        for position, value in enumerate(node):
            yield from _mappings(value, f"{where}[{position}]")


def _accepts(target: Any, arguments: Mapping[str, None], where: str, *, complete: bool) -> None:
    """The target must know every argument and, unless it is partial, miss none."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return
    kinds = inspect.Parameter
    named = {name: p for name, p in signature.parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values())
    listed = ", ".join(name for name in named if name != "context") or "nothing"
    for name in arguments:
        if name not in named and not takes_any:
            raise ConfigError(f"{where}.{name} is no argument of {_name(target)}, which takes {listed}{checks.near(name, named)}")
    missing = [name for name, p in named.items() if p.default is kinds.empty and name not in arguments]
    if complete and missing:
        raise ConfigError(f"{where} must give {', '.join(missing)} to {_name(target)}, got {', '.join(arguments) or 'nothing'}")


def _inside(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _related(module: str, packages: Sequence[str]) -> bool:
    """Inside an allowed package, or on the way to one (torch, on the way to torch.nn)."""
    return _inside(module, packages) or any(package.startswith(f"{module}.") for package in packages)


def _public(thing: Any) -> list[str]:
    names = [name for name in dir(thing) if not name.startswith("_")]
    return names + [module.name for module in pkgutil.iter_modules(getattr(thing, "__path__", [])) if not module.name.startswith("_")]


def _name(target: Any) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def _described(thing: Any) -> str:
    return f"a {type(thing).__name__}" if getattr(thing, "__name__", None) != "<lambda>" else "a lambda"
