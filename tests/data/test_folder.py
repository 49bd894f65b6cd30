"""dpsc.data.folder and the catalogue behind it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpsc.data import catalogue, folder
from dpsc.errors import DataError, DataNotFoundError, InputError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPSC_DATA", raising=False)


def put(root: Path, dataset: str, *names: str, content: bytes = b"") -> Path:
    place = root / dataset
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        (place / name).write_bytes(content)
    return place


def test_root_wins_over_the_variable_and_the_variable_over_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data", "energy_knapsack", "Data.npz")
    assert folder.find("energy_knapsack", "Data.npz") == tmp_path / "data" / "energy_knapsack" / "Data.npz"
    put(tmp_path / "named", "energy_knapsack", "Data.npz")
    monkeypatch.setenv("DPSC_DATA", str(tmp_path / "named"))
    assert folder.find("energy_knapsack", "Data.npz") == tmp_path / "named" / "energy_knapsack" / "Data.npz"
    put(tmp_path / "given", "energy_knapsack", "Data.npz")
    assert folder.find("energy_knapsack", "Data.npz", root="given") == tmp_path / "given" / "energy_knapsack" / "Data.npz"


def test_working_folder_fills_what_the_variable_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data", "energy_knapsack", "Data.npz")
    monkeypatch.setenv("DPSC_DATA", str(tmp_path / "named"))
    assert folder.find("energy_knapsack", "Data.npz").parent == tmp_path / "data" / "energy_knapsack"


def test_given_root_is_the_only_place(tmp_path: Path) -> None:
    put(tmp_path / "data", "energy_knapsack", "Data.npz")
    with pytest.raises(DataNotFoundError) as caught:
        folder.find("energy_knapsack", "Data.npz", root="given")
    assert str(tmp_path / "given" / "energy_knapsack") in str(caught.value)
    assert str(tmp_path / "data") not in str(caught.value)


@pytest.mark.parametrize("value", ["", None])
def test_empty_variable_counts_as_unset(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("DPSC_DATA", value)
    assert folder.places() == [tmp_path / "data"]


def test_missing_file_says_which_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPSC_DATA", str(tmp_path / "named"))
    put(tmp_path / "data", "belgium", "BE.csv")
    with pytest.raises(DataNotFoundError) as caught:
        folder.find("belgium", "policies_BE.csv")
    said = str(caught.value)
    assert "policies_BE.csv" in said
    assert f"{tmp_path / 'named' / 'belgium'} (no such folder)" in said
    assert f"{tmp_path / 'data' / 'belgium'} (without policies_BE.csv)" in said
    assert said.endswith("How to get it: python scripts/fetch_data.py belgium")
    assert isinstance(caught.value, FileNotFoundError)


def test_missing_file_that_may_not_be_passed_on_names_the_manual_way() -> None:
    with pytest.raises(DataNotFoundError, match="Accept the rules of the competition") as caught:
        folder.find("favorita_21", "favorita_21.parquet")
    assert "fetch_data" not in str(caught.value)


def test_whole_folder_needs_every_file(tmp_path: Path) -> None:
    names = [file.name for file in catalogue.BELGIUM.files]
    place = put(tmp_path / "data", "belgium", *names[:-1])
    with pytest.raises(DataNotFoundError, match=f"all 11 files in one folder.*without {re.escape(names[-1])}"):
        folder.find("belgium")
    put(tmp_path / "data", "belgium", names[-1])
    assert folder.find("belgium") == place


def test_folder_of_the_name_of_a_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "data" / "energy_knapsack" / "Data.npz").mkdir(parents=True)
    with pytest.raises(DataNotFoundError):
        folder.find("energy_knapsack", "Data.npz")


@pytest.mark.parametrize("call", [folder.find, lambda name: folder.verify("x", name)])
def test_unknown_data_set_lists_the_near_names(call: object) -> None:
    with pytest.raises(InputError, match=r"data set must be one of belgium, .*got 'belgum' \(did you mean belgium\?\)"):
        call("belgum")  # type: ignore[operator]


@pytest.mark.parametrize("name", ["BE.cvs", "../energy_knapsack/Data.npz", "/etc/passwd", ""])
def test_unknown_file_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="file of the data set belgium must be one of BE.csv"):
        folder.find("belgium", name)


def test_verify_names_expected_and_got(tmp_path: Path) -> None:
    be = catalogue.BELGIUM.file("BE.csv")
    place = put(tmp_path, "belgium", "BE.csv", content=b"x" * 873)
    with pytest.raises(DataError, match="BE.csv must be the published file of belgium: expected 874 bytes, got 873"):
        folder.verify(place / "BE.csv", "belgium")
    (place / "BE.csv").write_bytes(b"x" * 874)
    with pytest.raises(DataError, match=f"expected sha256 {be.sha256}, got [0-9a-f]{{64}}"):
        folder.verify(place / "BE.csv", "belgium")
    (place / "BE.csv").unlink()
    with pytest.raises(DataNotFoundError, match="no file .*BE.csv"):
        folder.verify(place / "BE.csv", "belgium")
    with pytest.raises(DataNotFoundError, match="no file .*IO_BE_NACE64.csv"):
        folder.verify(place, "belgium")


def test_verify_takes_a_conversion_as_it_is(tmp_path: Path) -> None:
    place = put(tmp_path, "wiod_2008", "wiot_2008.npz", content=b"whatever")
    folder.verify(place, "wiod_2008")


@pytest.mark.data
@pytest.mark.parametrize("name", catalogue.CATALOGUE)
def test_data_at_hand_are_the_published_ones(name: str, data_root: Path) -> None:
    try:
        place = folder.find(name, root=data_root)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    folder.verify(place, name)


@pytest.mark.parametrize("entry", catalogue.CATALOGUE.values(), ids=lambda entry: entry.name)
def test_catalogue_is_complete(entry: catalogue.DataSet) -> None:
    assert all((entry.title, entry.source, entry.licence, entry.how_to_get, entry.files))
    assert len({file.name for file in entry.files}) == len(entry.files)
    for file in entry.files:
        if entry.redistributable:
            assert file.size
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "")
            # A commit in full, or the address could change its content.
            assert re.match(r"https://[^/]+/[^/]+/[^/]+/[0-9a-f]{40}/", file.address or "")
            assert (file.address or "").endswith("/" + file.name)
        else:
            assert file.address is None
    assert (f"fetch_data.py {entry.name}" in entry.how_to_get) == entry.redistributable


def test_needs_no_torch() -> None:
    code = "import sys; import dpsc.data.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
