"""Files that are written whole or not at all, and checked when read. The only module that calls `torch.load`."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from dpsc.errors import DataError, DataNotFoundError


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a temporary file beside it, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(path: Path, tree: Any) -> None:
    """Write a tree of tensors, numbers, strings, lists and dicts, followed by its SHA-256."""
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    content = buffer.getvalue()
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
    return torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
