"""Files that are written whole or not at all, and whose damage is noticed."""

import contextlib
import errno
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dpsc import storage
from dpsc.errors import DataError, DataNotFoundError

ROOT = Path(__file__).parents[1]
TREE = {
    "epoch": 3,
    "rate": 0.1,
    "name": "überlauf",
    "none": None,
    "flag": True,
    "weights": torch.linspace(-1, 1, 7, dtype=torch.float64),
    "nested": [{"half": torch.ones(2, 3, dtype=torch.float32)}, (1, "two"), torch.zeros(0, 4), torch.tensor([1, -1], dtype=torch.int8)],
}


def assert_same(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for g, e in zip(got, expected, strict=True):
            assert_same(g, e)
    else:
        assert got == expected


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "state.pt"
    storage.save(path, TREE)
    assert_same(storage.load(path), TREE)
    storage.save(path, {"epoch": 4})
    assert storage.load(path) == {"epoch": 4}
    assert list(path.parent.iterdir()) == [path]


@contextlib.contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operating system refuses to write more than the first thousand bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def failing(name: str, error: BaseException) -> Callable[[pytest.MonkeyPatch], contextlib.AbstractContextManager[None]]:
    """A call of the operating system that raises."""

    @contextlib.contextmanager
    def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        def fail(*_: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            yield

    return patched


FAILURES = {
    "the disk is full": (full_disk, OSError),
    "not flushed": (failing("fsync", OSError(errno.EIO, "input/output error")), OSError),
    "interrupted while flushing": (failing("fsync", KeyboardInterrupt()), KeyboardInterrupt),
    "not renamed": (failing("replace", PermissionError(errno.EACCES, "permission denied")), PermissionError),
    "interrupted before renaming": (failing("replace", KeyboardInterrupt()), KeyboardInterrupt),
    "out of memory": (failing("replace", MemoryError()), MemoryError),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("there_before", [True, False], ids=["over a file", "new"])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, there_before: bool) -> None:
    path = tmp_path / "state.pt"
    if there_before:
        storage.save(path, TREE)
    before = path.read_bytes() if there_before else None
    during, error = FAILURES[name]
    with during(monkeypatch), pytest.raises(error):
        storage.save(path, {**TREE, "epoch": 99})
    assert list(tmp_path.iterdir()) == ([path] if there_before else [])
    if there_before:
        assert path.read_bytes() == before
    storage.save(path, {"epoch": 99})  # and the way is free again
    assert storage.load(path) == {"epoch": 99}


def test_a_tree_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    storage.save(path, TREE)
    with pytest.raises((AttributeError, TypeError), match="lambda|pickle"):
        storage.save(path, {"weights": torch.ones(3), "schedule": lambda epoch: epoch})
    assert_same(storage.load(path), TREE)
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    storage.write(path, b"old")
    program = (
        "import os, sys; from pathlib import Path; from dpsc import storage; os.fsync = lambda _: os._exit(9); storage.write(Path(sys.argv[1]), b'new' * 10**6)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == 9
    assert path.read_bytes() == b"old"


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    contents = [bytes([i]) * 50_000 for i in (1, 2)]
    storage.write(path, contents[0])
    seen, done = [], threading.Event()

    def write() -> None:
        for i in range(40):
            storage.write(path, contents[i % 2])

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    writer, reader = threading.Thread(target=write), threading.Thread(target=read)
    for thread in (writer, reader):
        thread.start()
    writer.join()
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "state.pt"
    storage.save(path, TREE)
    return path.read_bytes()


def test_every_flipped_bit_is_noticed(saved: bytes, tmp_path: Path) -> None:
    path, draw = tmp_path / "state.pt", random.Random(0)
    positions = {0, 1, len(saved) - 33, len(saved) - 32, len(saved) - 1} | {draw.randrange(len(saved)) for _ in range(300)}
    assert len(positions) > 250
    for position in positions:
        damaged = bytearray(saved)
        damaged[position] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged"):
            storage.load(path)


def test_every_cut_and_every_addition_is_noticed(saved: bytes, tmp_path: Path) -> None:
    path, draw = tmp_path / "state.pt", random.Random(1)
    lengths = {0, 1, 31, 32, 33, 64, len(saved) - 32, len(saved) - 1} | {draw.randrange(len(saved)) for _ in range(300)}
    assert len(lengths) > 250
    for length in lengths:
        path.write_bytes(saved[:length])
        with pytest.raises(DataError, match=rf"is damaged: its content \({length} bytes\)"):
            storage.load(path)
    for more in (b"\0", b"x" * 32, saved):
        path.write_bytes(saved + more)
        with pytest.raises(DataError, match="is damaged"):
            storage.load(path)
    path.write_bytes(saved)
    assert_same(storage.load(path), TREE)


def test_the_damage_message_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"something else")
    with pytest.raises(
        DataError, match=r"state\.pt is damaged: its content \(14 bytes\) does not match the checksum stored with it; delete it to start afresh"
    ):
        storage.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no file .*/state\.pt"):
        storage.load(tmp_path / "state.pt")


class RunsCode:
    """Unpickling it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "state.pt", tmp_path / "it ran"
    storage.save(path, {"weights": torch.ones(2), "code": RunsCode(str(trace))})  # its checksum is right
    with pytest.raises(DataError, match=r"state\.pt must hold tensors and plain values and nothing else"):
        storage.load(path)
    assert not trace.exists()


def test_two_writers(tmp_path):
    errors = []

    def write(content):
        try:
            for _ in range(40):
                storage.write(tmp_path / "state", content)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bytes([i]) * 50_000,)) for i in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
