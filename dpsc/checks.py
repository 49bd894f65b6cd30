"""The only writer of validation messages: each check names the thing, what was expected and what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dpsc.errors import DtypeError, InputError, ShapeError

LISTED = 12  # names that a message lists before it becomes a wall


def floating(name: str, value: object) -> Tensor:
    """`value` as it is, if it is a floating-point tensor."""
    if not isinstance(value, Tensor):
        raise DtypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise DtypeError(f"{name} must be a floating-point tensor, got dtype {value.dtype}")
    return value


def trailing_shape(name: str, value: Tensor, shape: Sequence[int], letters: str = "") -> None:
    """The last dimensions of `value` must equal `shape`; any leading ones are allowed."""
    shape = tuple(shape)
    if value.dim() < len(shape) or value.shape[value.dim() - len(shape) :] != shape:
        want = "(" + ", ".join(["...", *map(str, shape)]) + ")"
        raise ShapeError(f"{name} must have shape {f'{letters} = ' if letters else ''}{want}, got {tuple(value.shape)}")


def same_shape(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Two tensors must have one shape."""
    if value.shape != other.shape:
        raise ShapeError(f"{name} must have the shape of {other_name}, {tuple(other.shape)}, got {tuple(value.shape)}")


def same_rows(values: Mapping[str, Tensor], dim: int = 0) -> int:
    """Named tensors must agree in the length of `dim`; returns that length."""
    lengths = {name: value.shape[dim] for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"{', '.join(lengths)} must have one number of rows, got " + ", ".join(f"{n}: {k}" for n, k in lengths.items()))
    return next(iter(lengths.values()), 0)


def broadcast(shapes: Mapping[str, Sequence[int]]) -> torch.Size:
    """The common leading shape of named tensors."""
    try:
        return torch.broadcast_shapes(*(tuple(s) for s in shapes.values()))
    except RuntimeError:
        listed = ", ".join(f"{name}: {tuple(shape)}" for name, shape in shapes.items())
        raise ShapeError(f"leading (batch) shapes must broadcast, got {listed}") from None


def finite(name: str, value: Tensor) -> None:
    """No NaN and no infinity; says how many and where the first one is."""
    bad = ~torch.isfinite(value)
    count = int(bad.sum())
    if count:
        where = tuple(bad.nonzero()[0].tolist())
        raise InputError(f"{name} must be finite, got {count} of {value.numel()} entries NaN or infinite, the first, {value[where].item()}, at index {where}")


def positive(name: str, value: float) -> float:
    """A finite number above zero."""
    if not (isinstance(value, (int, float)) and 0 < value < float("inf")):
        raise InputError(f"{name} must be a finite number > 0, got {value!r}")
    return float(value)


def at_least(name: str, value: int, low: int) -> int:
    """An integer not below `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be an integer >= {low}, got {value!r}")
    return value


def one_of(name: str, value: str, options: Iterable[str]) -> str:
    """A known name; the message lists the near ones first."""
    options = sorted(options)
    if value not in options:
        shown = options if len(options) <= LISTED else [*options[:LISTED], f"... ({len(options)} in all)"]
        raise InputError(f"{name} must be one of {', '.join(shown)}; got {value!r}{near(value, options)}")
    return value


def near(value: str, options: Iterable[str]) -> str:
    """' (did you mean a, b?)', or nothing when no option is near."""
    close = difflib.get_close_matches(value, list(options), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def exact_names(name: str, got: Iterable[str], expected: Iterable[str]) -> None:
    """Keyword arguments must be exactly the expected ones."""
    if isinstance(got, Mapping) and isinstance(expected, Mapping) and got.keys() == expected.keys():
        return
    got, expected = list(got), list(expected)
    missing, unknown = [n for n in expected if n not in got], [n for n in got if n not in expected]
    if missing or unknown:
        parts = ([f"missing {', '.join(missing)}"] if missing else []) + ([f"unknown {', '.join(u + near(u, expected) for u in unknown)}"] if unknown else [])
        raise InputError(f"{name} takes the parameters {', '.join(expected) or '(none)'}; {'; '.join(parts)}")
