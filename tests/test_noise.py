"""Counter-based noise: the published vectors of Philox, then what the package builds on it."""

import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc import noise
from dpsc.errors import DpscError, InputError

ONES = 0xFFFFFFFF

# Random123 (D. E. Shaw Research), tests/kat_vectors, philox4x32 with 10 rounds: counter, key, result.
PUBLISHED = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
}

words = st.integers(0, ONES)
seeds = st.integers(0, 2**64 - 1)
purposes = st.sampled_from(["demand", "lead_time", "shock", ""])


def reference(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox 4x32-10 in integers of any size, from the definition in Salmon et al. (2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & ONES, (p0 >> 32) ^ c3 ^ k1, p0 & ONES
        k0, k1 = (k0 + 0x9E3779B9) & ONES, (k1 + 0xBB67AE85) & ONES
    return c0, c1, c2, c3


def tensors(counter: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d = (torch.tensor([w]) for w in counter)
    return a, b, c, d


def kolmogorov_smirnov(probability: Tensor) -> float:
    """sqrt(n) times the largest distance between the empirical distribution of `probability` and the uniform one."""
    ordered, n = probability.double().flatten().sort().values, probability.numel()
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return math.sqrt(n) * float(torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).max())


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vectors(name: str) -> None:
    counter, key, expected = PUBLISHED[name]
    assert tuple(int(w) for w in noise.philox(tensors(counter), key)) == expected
    assert reference(counter, key) == expected


@given(st.lists(st.tuples(words, words, words, words), min_size=1, max_size=5), st.tuples(words, words))
def test_philox_is_its_definition_for_any_words(counters: list[tuple[int, int, int, int]], key: tuple[int, int]) -> None:
    columns = [torch.tensor(column) for column in zip(*counters, strict=True)]
    got = torch.stack(noise.philox((columns[0], columns[1], columns[2], columns[3]), key), 1).tolist()
    assert [tuple(row) for row in got] == [reference(counter, key) for counter in counters]


@given(seeds, purposes, st.tuples(words, words, words))
def test_a_number_is_the_first_bits_of_its_address(seed: int, purpose: str, address: tuple[int, int, int]) -> None:
    """Which word holds what is fixed: numbers of a published run can be recomputed from their address alone."""
    a, b, _, _ = reference((*address, zlib.crc32(purpose.encode())), (seed & ONES, seed >> 32))
    indices = [torch.tensor(i) for i in address]
    assert abs(float(noise.uniform(seed, purpose, *indices)) - ((a >> 6) * 2**26 + (b >> 6)) / 2**52) <= 2.0**-53
    assert abs(float(noise.uniform(seed, purpose, *indices, dtype=torch.float32)) - (a >> 9) / 2**23) <= 2.0**-24


@given(seeds, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.data())
def test_shards_equal_the_whole(seed: int, periods: int, paths: int, items: int, data: st.DataObject) -> None:
    first, second, third = data.draw(words), data.draw(words), data.draw(words)
    t, s, n = (
        torch.arange(max(0, end - length), end) for end, length in ((max(first, periods), periods), (max(second, paths), paths), (max(third, items), items))
    )
    whole = noise.uniform(seed, "demand", t[:, None, None], s[:, None], n)
    assert whole.shape == (periods, paths, items)
    cut = data.draw(st.integers(0, paths))
    shards = [noise.uniform(seed, "demand", t[:, None, None], part[:, None], n) for part in (s[:cut], s[cut:])]
    assert torch.equal(torch.cat(shards, 1), whole)
    for i in range(periods):
        assert torch.equal(noise.uniform(seed, "demand", t[i], s[:, None], n), whole[i])
    order = torch.tensor(data.draw(st.permutations(range(items))), dtype=torch.int64)
    assert torch.equal(noise.uniform(seed, "demand", t[:, None, None], s[:, None], n[order]), whole[:, :, order])
    assert torch.equal(noise.normal(seed, "demand", t[:, None, None], s[:, None], n), torch.special.ndtri(whole))


def test_the_position_of_an_index_counts_and_missing_indices_are_zero() -> None:
    one, zero = torch.tensor(1), torch.tensor(0)
    draws = [float(noise.uniform(7, "demand", *indices)) for indices in ((one, zero, zero), (zero, one, zero), (zero, zero, one), (zero, zero, zero))]
    assert len(set(draws)) == 4
    assert float(noise.uniform(7, "demand", one)) == float(noise.uniform(7, "demand", one, zero)) == draws[0]


def test_the_integer_type_of_an_index_does_not_count() -> None:
    wide = torch.arange(100)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(noise.uniform(3, "demand", wide.to(dtype)), noise.uniform(3, "demand", wide))


def test_purposes_and_seeds_are_independent_streams() -> None:
    n = 100_000
    index = torch.arange(n)
    streams = [
        noise.uniform(seed, purpose, index) for seed, purpose in ((0, "demand"), (0, "lead_time"), (1, "demand"), (2**32, "demand"), (2**64 - 1, "demand"))
    ]
    for i, a in enumerate(streams):
        assert abs(correlation(a[1:], a[:-1])) < 4 / math.sqrt(n)
        for b in streams[:i]:
            assert abs(correlation(a, b)) < 4 / math.sqrt(n)
            assert not bool((a == b).any())


def test_uniform_moments_and_distribution() -> None:
    u = noise.uniform(2024, "demand", torch.arange(1000), torch.arange(300)[:, None])
    n = u.numel()
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    for power in (1, 2, 3, 4):  # E u^k = 1 / (k + 1), within five standard errors
        error = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / n)
        assert abs(float((u**power).mean()) - 1 / (power + 1)) < 5 * error
    assert kolmogorov_smirnov(u) < 1.63  # 1 % point
    assert abs(correlation(u[1:], u[:-1])) < 4 / math.sqrt(n)
    assert abs(correlation(u[:, 1:], u[:, :-1])) < 4 / math.sqrt(n)
    cells = torch.bincount((u.flatten()[0::2] * 16).long() * 16 + (u.flatten()[1::2] * 16).long(), minlength=256).double()
    chi_square = float(((cells - n / 512) ** 2 / (n / 512)).sum())
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


def test_normal_moments_and_distribution() -> None:
    z = noise.normal(2024, "shock", torch.arange(200_000))
    n = z.numel()
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((z**power).mean()) - moment) < 5 * math.sqrt(variance / n)
    assert kolmogorov_smirnov(torch.special.ndtr(z)) < 1.63


def test_single_precision() -> None:
    index = torch.arange(200_000)
    u, wide = noise.uniform(5, "demand", index, dtype=torch.float32), noise.uniform(5, "demand", index)
    assert u.dtype == torch.float32
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert float((u.double() - wide).abs().max()) <= 2.0**-24
    assert kolmogorov_smirnov(u) < 1.63
    z = noise.normal(5, "demand", index, dtype=torch.float32)
    assert z.dtype == torch.float32
    assert torch.equal(z, noise.normal(5, "demand", index).float())


def test_the_smallest_number_is_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "philox", lambda counter, key: tuple(torch.zeros_like(c) for c in counter))
    for dtype in (torch.float32, torch.float64):
        assert float(noise.uniform(0, "demand", torch.tensor(0), dtype=dtype)) > 0
        assert math.isfinite(float(noise.normal(0, "demand", torch.tensor(0), dtype=dtype)))


def test_no_index_no_numbers() -> None:
    empty = noise.uniform(0, "demand", torch.arange(0), torch.arange(3)[:, None])
    assert empty.shape == (3, 0)
    assert empty.dtype == torch.float64


INDEX = torch.arange(3)


@pytest.mark.parametrize(
    ("seed", "indices", "message"),
    [
        (-1, (INDEX,), r"seed must be an integer in \[0, 2\^64\), got -1"),
        (2**64, (INDEX,), r"seed must be an integer in \[0, 2\^64\), got 18446744073709551616"),
        (0, (), "uniform takes one to three index tensors, got 0"),
        (0, (INDEX,) * 4, "uniform takes one to three index tensors, got 4"),
        (0, (INDEX, INDEX.double()), r"index 1 must be an integer tensor, got dtype torch\.float64"),
        (0, (INDEX > 0,), r"index 0 must be an integer tensor, got dtype torch\.bool"),
        (0, (INDEX - 1,), r"index 0 must lie in \[0, 2\^32\), got \[-1, 1\]"),
        (0, (INDEX, INDEX, INDEX + ONES - 1), r"index 2 must lie in \[0, 2\^32\), got \[4294967294, 4294967296\]"),
    ],
)
def test_errors(seed: int, indices: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise.uniform(seed, "demand", *indices)
    with pytest.raises(InputError, match=message):
        noise.normal(seed, "demand", *indices)


def test_uniform_float32_is_below_one():
    assert float(noise.uniform(0, "demand", torch.tensor([9614079]), dtype=torch.float32)) < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_largest_word(dtype, monkeypatch):
    monkeypatch.setattr(noise, "philox", lambda counter, key: tuple(torch.full_like(c, 0xFFFFFFFF) for c in counter))
    assert float(noise.uniform(0, "x", torch.tensor(0), dtype=dtype)) < 1
    assert torch.isfinite(noise.normal(0, "x", torch.tensor(0), dtype=dtype))


def test_uniform_dtype_it_cannot_make():
    try:
        u = noise.uniform(0, "x", torch.arange(3), dtype=torch.float16)
    except InputError:
        return
    assert bool(((u > 0) & (u < 1)).all())


@pytest.mark.parametrize(
    ("seed", "indices"), [(1.5, (torch.arange(3),)), (0, (3,)), (0, (torch.arange(3), torch.arange(4)))], ids=["seed 1.5", "int index", "shapes"]
)
def test_noise_arguments(seed, indices):
    with pytest.raises(DpscError):
        noise.uniform(seed, "x", *indices)
