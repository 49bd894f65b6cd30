"""scripts/fetch_data.py with files in place of the network."""

from __future__ import annotations

import hashlib
import http.client
import io
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from dpsc.data.catalogue import CATALOGUE, DataFile, DataSet
from scripts import fetch_data

CONTENT = {"a.csv": b"x,y\n1,2\n", "b.bin": bytes(range(256)) * 700}


@pytest.fixture(autouse=True)
def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(DataFile(n, len(c), hashlib.sha256(c).hexdigest(), f"https://data.example/{n}") for n, c in CONTENT.items())
    small = DataSet("small", "two files", "data.example, version 1", "CC0-1.0", True, "python scripts/fetch_data.py small", files)
    monkeypatch.setattr(fetch_data, "CATALOGUE", MappingProxyType({**CATALOGUE, "small": small}))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder laid out as a data folder, served by a file address."""
    place = tmp_path / "mirror" / "small"
    place.mkdir(parents=True)
    for name, content in CONTENT.items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def fetch(tmp_path: Path, mirror: Path) -> Callable[..., int]:
    def call(*more: str) -> int:
        return fetch_data.main(["small", "--to", str(tmp_path / "data"), "--from", mirror.parent.as_uri(), *more])

    return call


def here(tmp_path: Path) -> dict[str, bytes]:
    """Every file below the data folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}


def test_good(tmp_path: Path, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch() == 0
    assert here(tmp_path) == CONTENT
    said = capsys.readouterr().out
    assert "CC0-1.0" in said
    assert "data.example, version 1" in said
    assert said.index("CC0-1.0") < said.index("file://")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "cut short"),
        (lambda content: b"", "got 0"),
        (lambda content: content + b"!", "got more"),
        (lambda content: content[:5] + bytes([content[5] ^ 1]) + content[6:], "expected sha256"),
    ],
    ids=["truncated", "empty", "longer", "flipped"],
)
@pytest.mark.parametrize("name", CONTENT)
def test_damaged_source_leaves_nothing(
    name: str, damage: Callable[[bytes], bytes], said: str, tmp_path: Path, mirror: Path, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (mirror / name).write_bytes(damage(CONTENT[name]))
    assert fetch() == 1
    error = capsys.readouterr().err
    assert said in error
    assert name in error
    expected = {} if name == "a.csv" else {"a.csv": CONTENT["a.csv"]}  # a file that was whole stays
    assert here(tmp_path) == expected
    assert (tmp_path / "data").exists() == bool(expected)


def test_missing_source(tmp_path: Path, mirror: Path, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    (mirror / "a.csv").unlink()
    assert fetch() == 1
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_repeated_call_downloads_what_is_missing(tmp_path: Path, mirror: Path, fetch: Callable[..., int]) -> None:
    (mirror / "b.bin").unlink()
    assert fetch() == 1
    (mirror / "b.bin").write_bytes(CONTENT["b.bin"])
    (mirror / "a.csv").unlink()  # not needed again
    assert fetch() == 0
    assert here(tmp_path) == CONTENT


def test_existing_right_file_is_kept(tmp_path: Path, fetch: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch() == 0
    monkeypatch.setattr(fetch_data.urllib.request, "urlopen", lambda *_, **__: pytest.fail("nothing to download"))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    assert fetch() == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == times


def test_existing_wrong_file_is_reported_and_replaced_only_with_force(tmp_path: Path, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "data" / "small"
    place.mkdir(parents=True)
    (place / "a.csv").write_bytes(b"x,y\n1,3\n")
    assert fetch() == 1
    error = capsys.readouterr().err
    assert "expected sha256" in error
    assert "--force" in error
    assert here(tmp_path) == {"a.csv": b"x,y\n1,3\n"}
    assert fetch("--force") == 0
    assert here(tmp_path) == CONTENT


def test_wrong_file_survives_a_failed_replacement(tmp_path: Path, mirror: Path, fetch: Callable[..., int]) -> None:
    place = tmp_path / "data" / "small"
    place.mkdir(parents=True)
    (place / "a.csv").write_bytes(b"mine")
    (mirror / "a.csv").write_bytes(b"worse")
    assert fetch("--force") == 1
    assert here(tmp_path) == {"a.csv": b"mine"}


class Broken(io.BytesIO):
    """A response that delivers a part and then raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(b"x,y")
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if chunk := super().read(size):
            return chunk
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (TimeoutError("timed out"), 1, "timed out after 3 bytes"),
        (ConnectionResetError("connection reset"), 1, "connection reset after 3 bytes"),
        (http.client.IncompleteRead(b"z"), 1, "got 4; the connection broke off"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_broken_off_in_the_middle_leaves_nothing(
    error: BaseException, code: int, said: str, tmp_path: Path, fetch: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch_data.urllib.request, "urlopen", lambda *_, **__: Broken(error))
    assert fetch() == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (urllib.error.HTTPError("https://data.example/a.csv", 404, "Not Found", http.client.HTTPMessage(), io.BytesIO()), "the server answered 404 Not Found"),
        (urllib.error.URLError("Name or service not known"), "is there a connection"),
    ],
    ids=["404", "offline"],
)
def test_unreachable(error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def refuse(address: str, **options: Any) -> None:
        asked.append(address)
        assert options["timeout"] > 0
        raise error

    monkeypatch.setattr(fetch_data.urllib.request, "urlopen", refuse)
    assert fetch_data.main(["small", "--to", str(tmp_path / "data")]) == 1
    assert said in capsys.readouterr().err
    assert asked == ["https://data.example/a.csv"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["favorita_21", "carparts", "wiod_2008"])
def test_refuses_what_may_not_be_passed_on(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_data.main([name, "--to", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert CATALOGUE[name].licence in error
    assert CATALOGUE[name].how_to_get in error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [["belgum"], ["small", "--from", "ftp://data.example"], ["small", "--from", "/just/a/path"]])
def test_not_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_data.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_lists_the_data_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_data.main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in CATALOGUE)


def test_runs_with_a_bare_python() -> None:
    command = [sys.executable, "-I", "-S", fetch_data.__file__, "favorita_21"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


@pytest.mark.data
def test_published_files_pass_their_own_check(tmp_path: Path, data_root: Path) -> None:
    for name in ("energy_knapsack", "belgium"):
        assert fetch_data.main([name, "--to", str(tmp_path), "--from", data_root.as_uri()]) == 0
        assert {path.name for path in (tmp_path / name).iterdir()} == {file.name for file in CATALOGUE[name].files}
