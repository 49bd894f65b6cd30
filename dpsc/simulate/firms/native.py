"""The C++ kernels of whole runs: compiled when first used, kept in a cache folder, left out where no compiler is.

The folder is `$DPSC_CACHE`, else `$XDG_CACHE_HOME/dpsc`, else `~/.cache/dpsc`; the compiler is `$CXX`, else c++, g++ or clang++. `DPSC_NATIVE=0` leaves
them out. A library is named after its source, its compiler's answer to `--version` and the processor, so that a folder may be shared by machines.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

SOURCES = tuple(Path(__file__).with_name(name) for name in ("firms.cpp", "ario.cpp"))
HEADERS = tuple(Path(__file__).with_name(name) for name in ("firms_weights.h", "firms_problem.h", "firms_columns.h", "firms_buyers.h", "firms_buyers_back.h"))
FLAGS = ("-O3", "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread")
SECONDS = 300


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The loaded library, or None and the reason."""
    if os.environ.get("DPSC_NATIVE", "1") == "0":
        return None, "DPSC_NATIVE is 0"
    named = os.environ.get("CXX")
    compiler = next((path for name in ((named,) if named else ("c++", "g++", "clang++")) if (path := shutil.which(name))), None)
    if compiler is None:
        return None, f"no C++ compiler: {named or 'c++, g++ and clang++'} not found"
    try:
        return _load(compiler), ""
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: a user without a home
        said = getattr(error, "stderr", None)
        return None, f"{compiler} could not build the kernels: {(said or str(error)).strip()[:500]}"


def available() -> bool:
    """Whether the kernels are there; the first call compiles them."""
    return library()[0] is not None


def _load(compiler: str) -> ctypes.CDLL:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    source = b"\0".join(path.read_bytes() for path in SOURCES + HEADERS)
    name = hashlib.sha256(b"\0".join([source, version.encode(), " ".join(FLAGS).encode(), _processor().encode()])).hexdigest()[:24]
    trouble: OSError | None = None
    for folder in _folders():
        place = folder / f"firms-{name}.so"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _ours(folder)
            if not place.exists():
                _build(compiler, place)
            _ours(place)
            loaded = ctypes.CDLL(str(place))
        except OSError as error:  # not ours, read only, full: perhaps the next one
            trouble = error
            continue
        loaded.dpsc_firms.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double, ctypes.c_void_p]
        loaded.dpsc_firms.restype = ctypes.c_int
        loaded.dpsc_ario.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        loaded.dpsc_ario.restype = None
        return loaded
    raise PermissionError("no folder for compiled kernels can be written safely; set DPSC_CACHE to one that is yours alone") from trouble


def _folders() -> list[Path]:
    chosen = os.environ.get("DPSC_CACHE")
    if chosen:
        return [Path(chosen)]
    home = os.environ.get("XDG_CACHE_HOME")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [(Path(home) if home else Path.home() / ".cache") / "dpsc", Path(tempfile.gettempdir()) / f"dpsc-{user}"]


def _ours(path: Path) -> None:
    """Code is loaded only from what this user (or root) owns and nobody else may write: the name of a folder for temporary files can be guessed.

    Raises: PermissionError.
    """
    about = path.stat()
    if hasattr(os, "getuid") and (about.st_uid not in (os.getuid(), 0) or about.st_mode & stat.S_IWOTH):
        raise PermissionError(f"{path} belongs to somebody else, or everybody may write it")


def _build(compiler: str, place: Path) -> None:
    """Built beside its place and moved there: two processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / place.name
        error: subprocess.CalledProcessError | None = None
        # A block of columns is one vector of 64 bytes; some compilers do not know the machine they run on.
        for tuned in (["-march=native", "-mprefer-vector-width=512"], ["-march=native"], []):
            done = subprocess.run([compiler, *FLAGS, *tuned, *map(str, SOURCES), "-o", str(made)], capture_output=True, text=True, check=False, timeout=SECONDS)
            if not done.returncode:
                made.chmod(0o700)
                os.replace(made, place)
                return
            error = subprocess.CalledProcessError(done.returncode, compiler, done.stdout, done.stderr)
        assert error is not None
        raise error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return platform.machine() + next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.machine() + platform.processor()


def _call(sizes: Sequence[int], sharpness: float, fixed: Sequence[Tensor], grids: Sequence[Tensor | None], made: Sequence[Tensor | None]) -> None:
    loaded = library()[0]
    assert loaded is not None
    tensors = [*fixed, *grids, *made]
    pointers = (ctypes.c_void_p * len(tensors))(*[None if t is None or not t.numel() else t.data_ptr() for t in tensors])
    strides = [s for t in grids for s in _strides(t)]
    if loaded.dpsc_firms((ctypes.c_int64 * len(sizes))(*sizes), (ctypes.c_int64 * len(strides))(*strides), sharpness, pointers):
        raise MemoryError("no memory left for a run of the firm network: lower the batch, or the memory that checkpoints may take")


def _strides(t: Tensor | None) -> tuple[int, int, int]:
    """Distances from step to step, row to row, column to column; 0 where there is one only."""
    if t is None:
        return (0, 0, 0)
    shape, strides = t.shape, t.stride()
    row, column = 0 if shape[-2] == 1 else strides[-2], 0 if shape[-1] == 1 else strides[-1]
    return (strides[0] if len(shape) == 3 and shape[0] > 1 else 0, row, column)


def forward(
    ptr: Tensor, src: Tensor, a: Tensor, use: Tensor, stock: Tensor | None, order: Tensor, inventory: Tensor, demand: Tensor, c: Tensor, z: Tensor,
    cap: Tensor, rate: Tensor, ease: Tensor, interval: int, shock_on_stock: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """See `plain.forward`."""
    horizon, firms, batch = z.shape
    edges = a.shape[0]
    x, demands = z.new_empty(horizon, firms, batch), z.new_empty(horizon + 1, firms, batch)
    last_stock, last_order = z.new_empty(edges, batch), z.new_empty(edges, batch)
    kept = z.new_empty(-(-horizon // interval) - 1 if interval else 0, edges, batch)
    sizes = _sizes(z, c, a, interval or horizon, shock_on_stock, back=False)
    grids = [stock, order, inventory, demand, c, z, cap, rate, ease, None, None, None, None]
    _call(sizes, 0.0, [ptr, src, a, use], grids, [x, demands, last_stock, last_order, kept, *([None] * 9)])
    return x, demands, last_stock, last_order, kept


def backward(
    ptr: Tensor, src: Tensor, a: Tensor, use: Tensor, stock: Tensor | None, order: Tensor, inventory: Tensor, demand: Tensor, c: Tensor, z: Tensor,
    cap: Tensor, rate: Tensor, ease: Tensor, x: Tensor, demands: Tensor, last_stock: Tensor, kept: Tensor, gx: Tensor | None, g_demands: Tensor | None,
    g_last_stock: Tensor | None, g_last_order: Tensor | None, interval: int, shock_on_stock: bool, sharpness: float, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """See `plain.backward`."""
    horizon, firms, batch = z.shape
    edges, lengths = a.shape[0], c.shape[0]
    shapes = ((edges, batch), (edges, batch), (firms, batch), (firms, batch), (lengths, firms, batch), (horizon, firms, batch), *[(firms, batch)] * 3)
    made = [z.new_empty(shape if asked else (0,)) for shape, asked in zip(shapes, needs, strict=True)]
    sizes = _sizes(z, c, a, interval, shock_on_stock, back=True)
    grids = [stock, order, inventory, demand, c, z, cap, rate, ease, gx, g_demands, g_last_stock, g_last_order]
    _call(sizes, sharpness, [ptr, src, a, use], grids, [x, demands, last_stock, None, kept, *made])
    return made[0], made[1], made[2], made[3], made[4], made[5], made[6], made[7], made[8]


def _sizes(z: Tensor, c: Tensor, a: Tensor, interval: int, shock_on_stock: bool, *, back: bool) -> list[int]:
    horizon, firms, batch = z.shape
    return [horizon, firms, a.shape[0], batch, c.shape[0], interval, int(shock_on_stock), torch.get_num_threads(), int(back), a.element_size()]
