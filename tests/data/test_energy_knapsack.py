"""The reader of the energy prices: on the published file where it is at hand, and on small files that are made up or damaged."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpsc.data import folder
from dpsc.data.energy_knapsack import EnergyPrices, load
from dpsc.errors import DataError, DataNotFoundError, DpscError, InputError

# ------------------------------------------------------------------------------------------------------ the published file


@pytest.fixture(scope="module")
def published(data_root: Any) -> EnergyPrices:
    return load(str(data_root))


@pytest.mark.data
def test_the_file_is_the_published_one(data_root: Any) -> None:
    folder.verify(Path(data_root) / "energy_knapsack" / "Data.npz", "energy_knapsack")


@pytest.mark.data
def test_published_shapes_weights_and_prices(published: EnergyPrices) -> None:
    """dfl.md, section 5: 789 days of 48 half-hours with eight features; sixteen weights each of 3, 5 and 7; prices 0 to 3642.7, mean 319.7."""
    assert published.features.shape == (789, 48, 8)
    assert published.price.shape == (789, 48)
    assert published.features.dtype == published.price.dtype == torch.float32
    assert published.weights.dtype == torch.int64
    weights, counts = published.weights.unique(return_counts=True)
    assert weights.tolist() == [3, 5, 7]
    assert counts.tolist() == [16, 16, 16]
    assert float(published.price.min()) == 0.0
    assert float(published.price.max()) == pytest.approx(3642.7, abs=0.05)
    assert float(published.price.double().mean()) == pytest.approx(319.7, abs=0.05)


@pytest.mark.data
def test_features_are_standardised_by_the_files_training_part(published: EnergyPrices) -> None:
    known, rest = published.features[:552].double().flatten(0, 1), published.features[552:].double().flatten(0, 1)
    torch.testing.assert_close(known.mean(0), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(known.std(0, correction=0), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-6)
    assert float(rest.mean(0).abs().max()) > 0.01  # not fitted on the rest


@pytest.mark.data
def test_a_split_is_a_shuffle_into_550_100_and_139_days(published: EnergyPrices) -> None:
    train, validation, test = published.split(0)
    assert [len(part.price) for part in (train, validation, test)] == [550, 100, 139]
    order = np.arange(789)
    np.random.RandomState(0).shuffle(order)  # what sklearn.utils.shuffle(random_state=0) does
    assert torch.equal(torch.cat([train.price, validation.price, test.price]), published.price[torch.from_numpy(order)])
    assert torch.equal(torch.cat([train.features, validation.features, test.features]), published.features[torch.from_numpy(order)])
    assert torch.equal(published.split(0)[2].price, test.price)
    assert not torch.equal(published.split(1)[2].price, test.price)


# --------------------------------------------------------------------------------------------------------- a file made up


@pytest.mark.parametrize("seed", [0, 9])
def test_every_day_is_in_exactly_one_part_of_a_split(seed: int) -> None:
    day = torch.arange(789.0)
    parts = EnergyPrices(day[:, None, None].expand(789, 48, 8), day[:, None].expand(789, 48), torch.ones(48)).split(seed)
    assert [len(part.price) for part in parts] == [550, 100, 139]
    assert torch.equal(torch.cat([part.price[:, 0] for part in parts]).sort().values, day)
    for part in parts:
        assert torch.equal(part.features[:, 7, 3], part.price[:, 11])


def content(train: int = 2, test: int = 1) -> dict[str, np.ndarray]:
    """Days whose features have other means and deviations than 0 and 1; the first column numbers groups."""
    random = np.random.RandomState(0)
    rows = np.column_stack([np.arange((train + test) * 48) // 48, random.randn((train + test) * 48, 8) * np.arange(1, 9) + 10])
    price = random.rand(len(rows)) * 100
    cut = train * 48
    return {"X_1gtrain": rows[:cut], "X_1gtest": rows[cut:], "y_train": price[:cut], "y_test": price[cut:], "weights": np.tile([3, 5, 7], 16)}


def put(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = root / "energy_knapsack" / "Data.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


def test_a_small_file_by_hand(tmp_path: Path) -> None:
    arrays = content()
    put(tmp_path, arrays)
    data = load(str(tmp_path))
    known = arrays["X_1gtrain"][:, 1:]
    expected = (np.concatenate([known, arrays["X_1gtest"][:, 1:]]) - known.mean(0)) / known.std(0)
    np.testing.assert_allclose(data.features.numpy(), expected.reshape(3, 48, 8), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(data.price.numpy(), np.concatenate([arrays["y_train"], arrays["y_test"]]).reshape(3, 48), rtol=1e-6)
    assert data.weights.tolist() == [3, 5, 7] * 16


def test_a_feature_that_never_changes_is_zero_not_nan(tmp_path: Path) -> None:
    arrays = content()
    arrays["X_1gtrain"][:, 4] = 2.5
    arrays["X_1gtest"][:, 4] = 2.5
    put(tmp_path, arrays)
    features = load(str(tmp_path)).features
    assert not bool(features[..., 3].any())
    assert bool(torch.isfinite(features).all())


def test_data_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, content())
    monkeypatch.setenv("DPSC_DATA", str(tmp_path))
    assert load().price.shape == (3, 48)


# ---------------------------------------------------------------------------------------------------------------- errors

REQUIRED = ("X_1gtrain", "X_1gtest", "y_train", "y_test", "weights")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_array_is_named(tmp_path: Path, name: str) -> None:
    arrays = content()
    del arrays[name]
    path = put(tmp_path, arrays)
    with pytest.raises(DataError, match=rf"{path} must be the archive Data\.npz .* with arrays {', '.join(REQUIRED)}: .*{name}"):
        load(str(tmp_path))


@pytest.mark.parametrize("what", [b"", b"not an archive"], ids=["empty", "text"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, what: bytes) -> None:
    path = put(tmp_path, content())
    path.write_bytes(what)
    with pytest.raises(DataError, match=rf"{path} must be the archive Data\.npz"):
        load(str(tmp_path))


def test_an_archive_of_pickles_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {**content(), "weights": np.array([{"code": 1}] * 48, dtype=object)})
    with pytest.raises(DataError, match=r"must be the archive Data\.npz"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [
        ("X_1gtrain", "training", lambda a: a[:, :8]),
        ("X_1gtest", "test", lambda a: a[:-1]),
        ("y_test", "test", lambda a: a[:-1]),
        ("X_1gtrain", "training", lambda a: a[:, 0]),
    ],
    ids=["a column less", "a row less", "a price less", "one column"],
)
def test_shapes_that_are_not_whole_days_are_named(tmp_path: Path, name: str, part: str, change: Any) -> None:
    arrays = content()
    arrays[name] = change(arrays[name])
    path = put(tmp_path, arrays)
    with pytest.raises(
        DataError, match=rf"{path}: the {part} part must have 9 columns, whole days of 48 rows and as many prices, got features \(\d+,.*\) and prices \(\d+,\)"
    ):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("X_1gtest", (3, 5), r"features must be finite, got 1 of 1152 .* nan, at index \(99, 4\)"),
        ("y_train", (7,), r"prices must be finite, got 1 of 144 .* nan, at index \(7,\)"),
    ],
)
def test_nan_is_named(tmp_path: Path, name: str, index: tuple[int, ...], message: str) -> None:
    arrays = content()
    arrays[name][index] = np.nan
    path = put(tmp_path, arrays)
    with pytest.raises(InputError, match=f"{path}: {message}"):
        load(str(tmp_path))


def test_the_group_number_may_be_anything(tmp_path: Path) -> None:
    arrays = content()
    put(tmp_path, arrays)
    expected = load(str(tmp_path)).features
    arrays["X_1gtrain"][:, 0] = np.nan
    put(tmp_path, arrays)
    assert torch.equal(load(str(tmp_path)).features, expected)


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"data set energy_knapsack: could not find the file Data\.npz; looked in {}\. How to get it: python scripts/fetch_data\.py energy_knapsack"
    with pytest.raises(DataNotFoundError, match=message.format(rf"{tmp_path}/energy_knapsack \(no such folder\)")):
        load(str(tmp_path))
    (tmp_path / "energy_knapsack").mkdir()
    with pytest.raises(DataNotFoundError, match=message.format(rf"{tmp_path}/energy_knapsack \(without Data\.npz\)")):
        load(str(tmp_path))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DPSC_DATA", str(there))
    both = rf"{there}/energy_knapsack \(no such folder\); {here}/data/energy_knapsack \(no such folder\)"
    with pytest.raises(DataNotFoundError, match=message.format(both)) as caught:
        load()
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, DpscError)
    monkeypatch.delenv("DPSC_DATA")
    with pytest.raises(DataNotFoundError, match=message.format(rf"{here}/data/energy_knapsack \(no such folder\)")):
        load()


def archive(tmp_path, **change):
    r = np.random.RandomState(0)
    arrays = {"X_1gtrain": r.randn(96, 9), "y_train": r.rand(96), "X_1gtest": r.randn(48, 9), "y_test": r.rand(48), "weights": np.tile([3, 5, 7], 16)}
    path = tmp_path / "energy_knapsack" / "Data.npz"
    path.parent.mkdir()
    np.savez_compressed(path, **{**arrays, **change})
    return path


def test_energy_cut_archive(tmp_path):
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError):
        load(str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_energy_flipped_bits(tmp_path):
    path = archive(tmp_path)
    content = path.read_bytes()
    for position in np.random.RandomState(0).randint(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position) % 8
        path.write_bytes(damaged)
        with contextlib.suppress(DpscError):  # a flip in a header that nobody reads may pass
            load(str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_energy_plain_npy(tmp_path):
    path = archive(tmp_path)
    np.save(tmp_path / "x.npy", np.ones(3))
    path.write_bytes((tmp_path / "x.npy").read_bytes())
    with pytest.raises(DataError):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"weights": np.ones(10)},
        {"weights": np.full(48, 2.5)},
        {"weights": np.full(48, np.nan)},
        {"y_train": np.ones((96, 2))},
        {"y_train": np.array(3.0)},
        {"X_1gtrain": np.zeros((0, 9)), "y_train": np.zeros(0)},
    ],
    ids=["10 weights", "weights 2.5 become 2", "weights NaN", "prices 2-d", "prices 0-d", "no training rows"],
)
def test_energy_wrong_content(tmp_path, change):
    archive(tmp_path, **change)
    with pytest.raises(DpscError):
        load(str(tmp_path))
