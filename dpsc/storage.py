"""Files that are written whole or not at all, and checked when read. The only module that calls `torch.load`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any

import torch

from dpsc.errors import DataError, DataNotFoundError


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a temporary file beside it, flushed to disk, then renamed. A reader sees the old file or the new one.

    Raises: OSError, after removing what was begun.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # its own, should two write at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def encode(tree: Any) -> bytes:
    """A tree of tensors, numbers, strings, lists and dicts as bytes."""
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


def decode(content: bytes, origin: str) -> Any:
    """The tree behind `encode`, on the CPU; tensors are read and nothing in the bytes is run.

    Raises: DataError naming `origin` for anything else.
    """
    try:
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a crafted file makes of the reader
        raise DataError(f"{origin} must hold tensors and plain values and nothing else, got {type(error).__name__}") from error


def save(path: Path, tree: Any) -> None:
    """Write a tree (see `encode`), followed by its SHA-256."""
    content = encode(tree)
    write(path, content + hashlib.sha256(content).digest())


def load(path: Path) -> Any:
    """Read what `save` wrote.

    Raises: DataNotFoundError if there is no such file; DataError if its content is not what was written, cut short or changed.
    """
    if not path.exists():
        raise DataNotFoundError(f"no file {path}")
    content = path.read_bytes()
    body, digest = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise DataError(f"{path} is damaged: its content ({len(content)} bytes) does not match the checksum stored with it; delete it to start afresh")
    return decode(body, str(path))
