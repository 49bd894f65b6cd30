"""Simulation-based calibration of the firm problem: declared numbers, fresh data sets by the thousand, and a law learnt from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from dpsc.calibrate import Amortised, Simulations, Uniformity, amortise, ranks, uniformity
from dpsc.relax import Exact
from dpsc.simulate.firms import Network
from experiments.firm_cases import FITTED, HIT_SHARE, LARGEST, NOISE, ONSET, SMALLEST, Case, simulator

# Declared before any rank was seen, one number a data set each: the mean coordinate of the recovery rates of the firms that were hit, the mean
# coordinate of all stocks, and the recovery rate of the hit firm with the largest baseline output.
FUNCTIONALS = ("mean rate of hit firms", "mean stock", "rate of the largest hit firm")
CAPACITY = 1.2
TOGETHER = 128  # columns of a run that stay in the cache


def largest_hit(network: Network, size: Tensor) -> Tensor:
    """`(B,)` the hit firm with the largest baseline output, of sizes `(M, B)` of shocks."""
    return torch.where(size > 0, network.output[:, None], torch.zeros_like(size)).argmax(0)


def functionals(network: Network, size: Tensor, coordinates: Tensor) -> Tensor:
    """`(3, B)` the declared numbers of coordinates `(2 M, B)` where shocks have sizes `(M, B)` or `(M, 1)`."""
    size = size.expand(-1, coordinates.shape[1])
    stocks, rates = coordinates[: network.firms], coordinates[network.firms :]
    hit = size > 0
    mean = torch.where(hit, rates, torch.zeros_like(rates)).sum(0) / hit.sum(0).clamp_min(1)
    return torch.stack([mean, stocks.mean(0), rates.gather(0, largest_hit(network, size)[None])[0]])


def encode(network: Network, sector: Tensor, size: Tensor, series: Tensor) -> Tensor:
    """`(C, B)` what is known of data sets: the fitted series `(T, K, B)` from the shock on, their changes, the sizes `(M, B)` of the shocks; and for the
    largest hit firm its name, what its own loss can do to its sector, and the sector in those units."""
    seen = series[ONSET:FITTED]
    column, firm = torch.arange(size.shape[1]), largest_hit(network, size)
    of_sector = torch.zeros(series.shape[1], dtype=size.dtype).index_add_(0, sector, network.output)
    reach = (CAPACITY * network.output / of_sector[sector])[firm] * size[firm, column]
    reach = reach.clamp_min(torch.finfo(size.dtype).tiny ** 0.5)[None]
    own = seen[:, sector[firm], column]
    name = torch.zeros_like(size).scatter_(0, firm[None], 1.0)
    step = 5 * NOISE
    parts = [
        seen.flatten(0, 1),
        (seen.diff(dim=0) / step).clamp(-8, 8).flatten(0, 1),
        size,
        (size > 0).to(size.dtype),
        name,
        ((1 - own) / reach).clamp(-5, 5),
        (own.diff(dim=0) / reach).clamp(-0.25, 0.25),
        reach.log(),
    ]
    return torch.cat(parts)


def fresh(case: Case, batch: int, *, seed: int) -> Simulations:
    """Data sets of the protocol of `drawn` on the network of `case`: batch number -> what is known `(C, batch)` and the declared numbers `(3, batch)`."""
    network, firms, like = case.network, case.network.firms, case.truth
    sectors = case.series.shape[1]

    def simulations(number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed * 2**32 + number)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=like.dtype)

        coordinates = torch.randn(2 * firms, batch, generator=generator, dtype=like.dtype)
        size = torch.where(uniform(firms, batch) < HIT_SHARE, SMALLEST + (LARGEST - SMALLEST) * uniform(firms, batch), torch.zeros(()).to(like))
        error = torch.randn(FITTED, sectors, batch, generator=generator, dtype=like.dtype)
        with torch.no_grad():
            parts = [
                simulator(network, case.sector, s, FITTED - ONSET, onset=0)(u, relax=Exact())
                for u, s in zip(coordinates.split(TOGETHER, 1), size.split(TOGETHER, 1), strict=True)
            ]
        clean = torch.cat([torch.ones(ONSET, sectors, batch, dtype=like.dtype), torch.cat(parts, -1)])
        return encode(network, case.sector, size, clean + NOISE * error), functionals(network, size, coordinates)

    return simulations


def learn(
    case: Case, *, steps: int, batch: int, width: int, depth: int, components: int, optimizer: Callable[..., torch.optim.Optimizer], seed: int,
    track: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> Amortised:  # fmt: skip
    """The law of the declared numbers given a data set on the network of `case`; see `dpsc.calibrate.amortise`."""
    simulations = fresh(case, batch, seed=seed)
    return amortise(simulations, steps=steps, width=width, depth=depth, components=components, optimizer=optimizer, seed=seed, track=track)


def known(case: Case) -> Tensor:
    """`(C, 1)` what is known of one data set."""
    return encode(case.network, case.sector, case.size[:, None], case.series[:, :, None])


def learnt_draws(law: Amortised, cases: Sequence[Case], count: int) -> Tensor:
    """`(3, N, count)` draws of the declared numbers for N data sets."""
    return law.draw(torch.cat([known(case) for case in cases], 1), count)


def calibration(draws: Tensor, cases: Sequence[Case], bins: int) -> dict[str, Uniformity]:
    """For each declared number, whether the ranks of the truths of N data sets among their draws `(3, N, R)` are uniform."""
    truth = torch.cat([functionals(case.network, case.size[:, None], case.truth[:, None]) for case in cases], 1)
    return {name: uniformity(rank, draws=draws.shape[-1], bins=bins) for name, rank in zip(FUNCTIONALS, ranks(draws, truth), strict=True)}


__all__ = ["FUNCTIONALS", "calibration", "encode", "fresh", "functionals", "known", "learn", "learnt_draws"]
