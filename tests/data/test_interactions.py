"""The synthetic rows of the notebook: the published first rows, and the order in which numbers are drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpsc.data.interactions import interaction_data
from dpsc.errors import InputError
from dpsc.instances.notebook import ALLOCATION, PORTFOLIO

STREAM = ("weights", "pairs", "interaction", "noise", "center")
SETTINGS: dict[str, Any] = {"weights": [[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]], "pairs": [(0, 1), (1, 1), (0, 0)], "interaction": 0.3, "noise": 0.1}


def draw(random: np.random.RandomState, rows: int, instance: Any) -> tuple[Tensor, Tensor]:
    return interaction_data(random, rows, **{name: instance.parameters[name] for name in STREAM})


def test_published_first_rows() -> None:
    random = np.random.RandomState(42)
    _, train = draw(random, 30, ALLOCATION)
    _, test = draw(random, 15, ALLOCATION)
    np.testing.assert_allclose(train[0], ALLOCATION.known["first_training_cost"], rtol=0, atol=5e-4)
    np.testing.assert_allclose(test[0], ALLOCATION.known["first_test_cost"], rtol=0, atol=5e-4)
    assert (float(train.min()), float(train.max())) == pytest.approx((-0.70, 2.26), abs=5e-3)  # dfl.md, section 1: the range of the costs
    assert float((train.amax(1) - train.amin(1)).mean()) == pytest.approx(1.14, abs=5e-3)  # ... and their mean spread


def by_global_generator(rows: int, instance: Any) -> tuple[np.ndarray, np.ndarray]:
    """The notebook's code, row by row: numpy's global generator, features first, then the noise."""
    p = instance.parameters
    features = np.random.randn(rows, 5)  # noqa: NPY002
    targets = np.empty((rows, 3))
    for r, f in enumerate(features):
        for k in range(3):
            i, j = p["pairs"][k]
            targets[r, k] = sum(w * value for w, value in zip(p["weights"][k], f, strict=True)) + p["interaction"] * f[i] * f[j]
    targets += p["noise"] * np.random.randn(rows, 3)  # noqa: NPY002
    if p["center"] is not None:
        targets += p["center"] - targets.mean(1, keepdims=True)
    return features, targets


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_the_stream_is_that_of_numpys_global_legacy_generator(seed: int) -> None:
    """Allocation rows, permutations, portfolio rows, permutations: the published portfolio depends on all draws before it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        random = np.random.RandomState(seed)
        for instance in (ALLOCATION, PORTFOLIO):
            for rows in (30, 15):
                features, targets = draw(random, rows, instance)
                expected_features, expected_targets = by_global_generator(rows, instance)
                assert features.dtype == targets.dtype == torch.float64
                assert np.array_equal(features.numpy(), expected_features)
                np.testing.assert_allclose(targets.numpy(), expected_targets, rtol=0, atol=1e-14)
            for _ in range(10):
                assert np.array_equal(random.permutation(30), np.random.permutation(30))  # noqa: NPY002
        assert random.randn() == np.random.randn()  # noqa: NPY002
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_rows_are_shifted_to_their_mean_only_where_asked() -> None:
    _, free = interaction_data(np.random.RandomState(0), 50, **SETTINGS)
    assert float(free.mean(1).std()) > 0.1
    for center in (0.0, 1.0, -3.5):
        _, shifted = interaction_data(np.random.RandomState(0), 50, center=center, **SETTINGS)
        torch.testing.assert_close(shifted.mean(1), torch.full((50,), center, dtype=torch.float64), rtol=0, atol=1e-14)
        torch.testing.assert_close(shifted - shifted[:, :1], free - free[:, :1], rtol=0, atol=1e-13)


def test_every_part_of_a_target_by_hand() -> None:
    """y_1 = f_1 + 2 f_2 + a f_1 f_2, y_2 = -f_2 + a f_2^2, y_3 = (f_1 + f_2) / 2 + a f_1^2, then s times the noise drawn after the features."""
    features, targets = interaction_data(np.random.RandomState(1), 7, **SETTINGS)
    random = np.random.RandomState(1)
    f, noise = random.randn(7, 2), random.randn(7, 3)
    exact = np.stack([f[:, 0] + 2 * f[:, 1] + 0.3 * f[:, 0] * f[:, 1], -f[:, 1] + 0.3 * f[:, 1] ** 2, (f[:, 0] + f[:, 1]) / 2 + 0.3 * f[:, 0] ** 2], 1)
    assert np.array_equal(features.numpy(), f)
    np.testing.assert_allclose(targets.numpy(), exact + 0.1 * noise, rtol=0, atol=1e-14)


def test_without_interaction_and_noise_a_target_is_linear() -> None:
    features, targets = interaction_data(np.random.RandomState(1), 1, **{**SETTINGS, "interaction": 0.0, "noise": 0.0})
    torch.testing.assert_close(targets, features @ torch.tensor(SETTINGS["weights"], dtype=torch.float64).T, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (0, {}, "rows must be an integer >= 1, got 0"),
        (3, {"pairs": [(0, 1)]}, r"weights must be \(K, F\) with one pair of features an output, got shape \(3, 2\) and 1 pairs"),
        (3, {"weights": [1.0, 2.0, 3.0]}, r"got shape \(3,\) and 3 pairs"),
    ],
)
def test_errors(rows: int, change: dict[str, Any], message: str) -> None:
    random = np.random.RandomState(0)
    with pytest.raises(InputError, match=message):
        interaction_data(random, rows, **{**SETTINGS, **change})
    assert random.randn() == np.random.RandomState(0).randn()  # nothing was drawn


@pytest.mark.parametrize("change", [{"noise": -1.0}, {"pairs": [(0, 9)]}, {"weights": [[float("nan"), 1.0]]}], ids=str)
def test_interaction_data_arguments(change):
    with pytest.raises(InputError):
        interaction_data(np.random.RandomState(0), 3, **{"weights": [[1.0, 2.0]], "pairs": [(0, 1)], "interaction": 0.1, "noise": 0.1, **change})
