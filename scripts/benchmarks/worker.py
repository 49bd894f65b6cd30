"""One warm process of a benchmark: reads requests as JSON lines, prepares contenders, answers and times their calls.

Runs under any Python with numpy, ours or a rival's, and imports nothing else by itself. Requests are `{"do": ..., ...}`:
    about     distributions                                         -> python, and versions of those that are installed
    prepare   name, module, function, arguments; data, folder       -> build_s; the function maps arrays and arguments to a contender `(call, answer)`
    answer    name                                                  -> the outcome of one call as named numbers, and the seconds it took
    time      name, calls                                           -> ms and cpu_ms (of this process), the mean over that many calls in a row
    stop                                                            -> the process ends
Replies are `{"ok": true, ...}`, `{"missing": reason}` where a library is not there, or `{"error": reason}`.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Worker:
    """The contenders of one process."""

    def __init__(self) -> None:
        self.contenders: dict[str, tuple[Callable[[], Any], Callable[[Any], Mapping[str, Any]]]] = {}
        self.requests: dict[str, Callable[..., dict[str, Any]]] = {"about": self.about, "prepare": self.prepare, "answer": self.answer, "time": self.time}

    def reply(self, do: str, **details: Any) -> dict[str, Any]:
        """Whatever a rival raises is reported; the process goes on."""
        try:
            return {"ok": True, **self.requests[do](**details)}
        except ImportError as error:
            return {"missing": str(error)}
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]}

    def about(self, distributions: Sequence[str]) -> dict[str, Any]:
        """Which versions are here."""
        versions = {}
        for name in distributions:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"python": platform.python_version(), "versions": versions}

    def prepare(
        self, name: str, module: str, function: str, arguments: Mapping[str, Any], data: str | None = None, folder: str | None = None
    ) -> dict[str, Any]:
        """Build a contender."""
        import numpy as np

        if folder is not None and folder not in sys.path:
            sys.path.insert(0, folder)
        arrays = {}
        if data is not None:
            with np.load(data, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        start = time.perf_counter()
        self.contenders[name] = getattr(importlib.import_module(module), function)(arrays, **arguments)
        seconds = time.perf_counter() - start
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        return {"build_s": seconds}

    def answer(self, name: str) -> dict[str, Any]:
        """What a contender finds."""
        call, answer = self.contenders[name]
        start = time.perf_counter()
        outcome = call()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "answer": {key: value.tolist() if hasattr(value, "tolist") else value for key, value in answer(outcome).items()}}

    def time(self, name: str, calls: int) -> dict[str, Any]:
        """How long a contender takes; before a series of short calls one that does not count, because another process had the caches."""
        call, _ = self.contenders[name]
        gc.collect()
        gc.disable()
        try:
            if calls > 1:
                call()
            cpu, start = time.process_time(), time.perf_counter()
            for _ in range(calls):
                call()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        finally:
            gc.enable()
        return {"ms": 1e3 * seconds / calls, "cpu_ms": 1e3 * cpu / calls}


def main() -> None:
    """Answer until told to stop. Replies leave through a copy of stdout; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            break
        out.write(json.dumps(worker.reply(**request)) + "\n")
        out.flush()


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(here), *(place for place in sys.path if os.path.abspath(place or ".") != here)]
    main()
