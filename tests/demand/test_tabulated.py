"""Tabulated demand: the quantiles of the law, the moments of what is drawn, a shard as the whole."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from dpsc.demand.tabulated import STEPS, level, negative_binomial_table, stream, words
from dpsc.errors import InputError

TABLE = negative_binomial_table(torch.tensor([1.2, 2.0, 3.5], dtype=torch.float64), largest_mean=40.0)
ITEM, PATH = torch.arange(5), torch.arange(2000)


@pytest.mark.parametrize(("row", "dispersion"), [(0, 1.2), (1, 2.0), (2, 3.5)])
def test_quantiles_are_those_of_the_law(row: int, dispersion: float) -> None:
    chance = (torch.arange(STEPS) + 0.5) / STEPS
    for place in (1, 40, 101, 202):
        mean = (place / TABLE.per_root) ** 2
        expected = scipy.stats.nbinom.ppf(chance.double().numpy(), mean / (dispersion - 1), 1 / dispersion)
        assert TABLE.quantile[row, place].tolist() == expected.tolist()
    assert not TABLE.quantile[row, 0].any()  # nothing is demanded where the mean is 0


def test_the_nearest_row_and_mean_are_read() -> None:
    assert TABLE.row(torch.tensor([1.0, 1.5, 1.7, 9.0])).tolist() == [0, 0, 1, 2]
    word = torch.tensor([[0, 30000, 65535]])
    for mean in (0.0, 3.0, 1e9):
        place = min(round(math.sqrt(mean) * 32), TABLE.quantile.shape[1] - 1)
        found = TABLE.look_up(torch.full((1, 3), mean), torch.tensor([2, 2, 2]), word)
        assert found[0].tolist() == [float(TABLE.quantile[2, place, w // 64]) for w in (0, 30000, 65535)]


def test_words_are_uniform_and_belong_to_their_address() -> None:
    key = stream(3, "demand")
    drawn = torch.stack(words(key, ITEM, PATH, 2))
    assert drawn.shape == (8, 2, 2000, 5)
    assert (int(drawn.min()), int(drawn.max())) >= (0, 65000)
    assert abs(float(drawn.double().mean()) - 32767.5) < 4 * 65536 / math.sqrt(12 * drawn.numel())
    assert float(torch.corrcoef(drawn.flatten(1).double()).fill_diagonal_(0).abs().max()) < 4 / math.sqrt(20000)
    part = torch.stack(words(key, ITEM[3:], PATH[7:9], 2))
    assert torch.equal(part, drawn[:, :, 7:9, 3:])
    assert not torch.equal(torch.stack(words(stream(3, "other"), ITEM, PATH, 2)), drawn)
    assert not torch.equal(torch.stack(words(stream(3 + 2**32, "demand"), ITEM, PATH, 2)), drawn)


def test_moments_of_what_is_drawn() -> None:
    word = torch.stack(words(stream(0, "demand"), torch.arange(2), torch.arange(50_000), 1))[:, 0].flatten(0, 1)
    mean, row = torch.tensor([9.0, 9.0], dtype=torch.float64), torch.tensor([1, 2])
    drawn = TABLE.look_up(mean.expand(word.shape), row, word)
    for i, dispersion in enumerate((2.0, 3.5)):
        variance = 9 * dispersion
        assert abs(float(drawn[:, i].mean()) - 9) < 4 * math.sqrt(variance / len(drawn)) + 0.01  # the table ends at 1 - 1 / 2048
        assert abs(float(drawn[:, i].var()) / variance - 1) < 0.02
    z = level(stream(0, "level"), torch.arange(3), torch.arange(40_000), mean=-0.08, deviation=0.4, dtype=torch.float64).log()
    assert abs(float(z.mean()) + 0.08) < 4 * 0.4 / math.sqrt(z.numel())
    assert abs(float(z.std()) - 0.4) < 0.005


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"dispersion must be > 1 \(variance above the mean\), got 1"):
        negative_binomial_table(torch.tensor([1.0, 2.0]), largest_mean=3.0)
    with pytest.raises(InputError, match="below 32768 units, got 40000"):
        negative_binomial_table(torch.tensor([2.0]), largest_mean=40_000.0)
    with pytest.raises(InputError, match=r"seed must be an integer in \[0, 2\^64\), got -1"):
        stream(-1, "demand")
