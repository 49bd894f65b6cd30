"""What was learned: saved, checked, loaded without running code."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from dpsc.errors import DataError, DataNotFoundError, InputError
from dpsc.report import load_learned
from dpsc.report.learned import save_learned


def test_round_trip_gives_the_same_module(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    save_learned(tmp_path, {"predictor": module.state_dict(), "other": {"x": nn.Parameter(torch.ones(2))}})
    again = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    again.load_state_dict(load_learned(tmp_path, "predictor"))
    for name, value in module.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert not load_learned(str(tmp_path), "other")["x"].requires_grad


def test_a_view_is_saved_without_its_storage(tmp_path: Path) -> None:
    save_learned(tmp_path, {"v": {"x": torch.zeros(1_000_000)[:2]}})
    assert (tmp_path / "learned" / "v.pt").stat().st_size < 5_000


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    save_learned(tmp_path, {"v": {"x": torch.arange(4.0)}})
    path = tmp_path / "learned" / "v.pt"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged: its sha256 must be"):
            load_learned(tmp_path, "v")
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="is damaged"):
        load_learned(tmp_path, "v")


def test_a_pickle_in_its_place_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    save_learned(tmp_path, {"v": {"x": torch.ones(1)}})
    path, manifest = tmp_path / "learned" / "v.pt", tmp_path / "learned" / "manifest.json"
    torch.save({"x": Payload()}, path)
    with pytest.raises(DataError, match="is damaged"):
        load_learned(tmp_path, "v")
    manifest.write_text(json.dumps({"v": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}))
    with pytest.raises(DataError, match="must hold tensors and plain values and nothing else, got UnpicklingError"):
        load_learned(tmp_path, "v")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="is no folder of a finished run that learned something"):
        load_learned(tmp_path, "v")
    save_learned(tmp_path, {"predictor": {"x": torch.ones(1)}})
    with pytest.raises(DataNotFoundError, match=r"must be one of predictor; got 'predicter' \(did you mean predictor\?\)"):
        load_learned(tmp_path, "predicter")
    (tmp_path / "learned" / "predictor.pt").unlink()
    with pytest.raises(DataNotFoundError, match="must exist, the manifest lists it"):
        load_learned(tmp_path, "predictor")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"v": 1}', '{"v": {}}', "null"])
def test_a_damaged_manifest(content: str, tmp_path: Path) -> None:
    (tmp_path / "learned").mkdir()
    (tmp_path / "learned" / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"must be the manifest that a run wrote|must be one of"):
        load_learned(tmp_path, "v")


def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "learned").mkdir()
    (tmp_path / "learned" / "manifest.json").write_text(json.dumps({"../../x": {"sha256": "0"}}))
    with pytest.raises(InputError, match="must be named with letters"):
        load_learned(tmp_path, "../../x")


def test_only_tensors_are_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"learned\['v'\]\['x'\] must be a torch.Tensor, got float"):
        save_learned(tmp_path, {"v": {"x": 1.0}})
    assert not (tmp_path / "learned").exists()
