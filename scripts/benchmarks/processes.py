"""The parent's end of a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerError(Exception):
    """A worker or a contender in it failed; the text is for the reader of the table."""


class MissingError(Exception):
    """A library is not there; the text says which."""


class Process:
    """A warm process that runs `worker.py`, under any Python.

    Args:
        python: the interpreter.
        timeout_s: how long one request may take.
    """

    def __init__(self, python: str | Path, *, timeout_s: float = 900.0) -> None:
        self.python, self.timeout_s = str(python), timeout_s
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._child = subprocess.Popen(
                [self.python, "-u", str(HERE / "worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env=environment(),
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"{self.python} cannot be started: {error.strerror or error}") from error
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """One request and its reply.

        Raises: MissingError; WorkerError if the contender failed, the process ended or the time ran out.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._child.stdin.flush()
            line = self._replies.get(timeout=self.timeout_s)
        except queue.Empty:
            self._child.kill()
            raise WorkerError(f"no reply to {do!r} within {self.timeout_s:g} s") from None
        except OSError:
            line = None
        if line is None:
            raise WorkerError(f"the process ended during {do!r}: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "missing" in reply:
            raise MissingError(reply["missing"])
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(OSError):  # it may have ended by itself
            stdin.write(json.dumps({"do": "stop"}) + "\n")
        with contextlib.suppress(OSError):
            stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._listener.join(timeout=10)
        stdout.close()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._replies.put(line)
        self._replies.put(None)

    def _last_words(self) -> str:
        self._child.wait(timeout=10)
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"exit code {self._child.returncode}"


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a worker: one thread everywhere, and none of the caller's Python settings, which belong to another environment."""
    kept = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP")
    }
    return {**kept, **dict.fromkeys(ONE_THREAD, "1")}


def run_once(python: str | Path, arguments: Sequence[str], **details: Any) -> None:
    """A fresh process, to its end. Raises: WorkerError."""
    done = subprocess.run([str(python), *arguments], capture_output=True, text=True, check=False, env=environment(), **details)
    if done.returncode:
        raise WorkerError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
