"""Amortised posteriors: a network learns, from simulations alone, the law of a few numbers given what is seen; data sets then cost milliseconds each.

Numbers w = (w_1 ... w_Q) of interest, functions of the parameters, and observations x are drawn together, parameters from the prior and x from the simulator.
The law of w given x is a product of mixtures,

    q(w | x) = prod_k sum_c p_kc N(w_k; m_kc, s_kc^2),    (p_k, m_k, s_k) = head_k(h(x), w_1 ... w_(k-1)) + (0, L_k(x, w_1 ... w_(k-1)), 0),

h a network with `depth` layers, L_k linear, which makes a linear simulator easy. Fitting maximises E log q(w | x) over fresh simulations, one batch a step and
none of them twice. Whatever h is, the best heads give the posterior of w given h(x), for the expectation falls short of its greatest value by the mean
divergence from that law. So a network that reads the data badly has a posterior that is wider than the exact one, but still right about itself; there are no
local minima to be lost in for a sampler, no start and no gradient of the simulator. What it gives away shows in `contraction` and, between networks, in the
log-density. It holds for data sets of the prior and the simulator that it was trained on, for no others, and says nothing of parameters that nobody asked for.

Source: Bishop (1994), Mixture density networks, NCRG/94/004; Papamakarios & Murray (2016), arXiv:1605.06376; Cranmer, Brehmer & Louppe (2020),
doi:10.1073/pnas.1912789117. Why never twice: Hermans et al. (2022), A trust crisis in simulation-based inference?, arXiv:2110.06581.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dpsc import checks, noise
from dpsc.errors import InputError, ShapeError
from dpsc.training import fit

Simulations = Callable[[int], tuple[Tensor, Tensor]]
"""Number of a batch -> what would be seen `(C, B)`, in any encoding, and the numbers asked for `(Q, B)`: new draws of prior and simulator for every number."""

Track = Callable[[Iterable[int]], Iterable[int]]

FARTHEST = 10.0  # standard deviations: what is seen beyond is read as this
FINEST, COARSEST = -7.0, 3.0  # log of the scales of the mixtures, in standard deviations of the prior


class Amortised(nn.Module):
    """The law of Q numbers given C that are seen.

    Args:
        seen: `(C, B)` a batch that tells location and scale of what is seen.
        wanted: `(Q, B)` the numbers that go with it.
        width: of the layers.
        depth: of them.
        components: of each mixture.
        seed: of the weights.
    """

    def __init__(self, seen: Tensor, wanted: Tensor, *, width: int, depth: int, components: int, seed: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth), ("components", components)):
            checks.at_least(name, value, 1)
        _pair(seen, wanted)
        self.location: Tensor
        self.scale: Tensor
        self.centre: Tensor
        self.spread: Tensor
        scales = {"location": seen.mean(1), "scale": _scale(seen), "centre": wanted.mean(1), "spread": _scale(wanted)}
        for buffer, numbers in scales.items():
            self.register_buffer(buffer, numbers.float())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for layer in range(depth):
                layers += [nn.Linear(width if layer else seen.shape[0], width), nn.SiLU(), nn.LayerNorm(width)]
            self.reader = nn.Sequential(*layers)
            straight = [nn.Linear(seen.shape[0] + k, 1, bias=False) for k in range(len(wanted))]
            heads = [nn.Sequential(nn.Linear(width + k, 64), nn.SiLU(), nn.Linear(64, 3 * components)) for k in range(len(wanted))]
        with torch.no_grad():  # to begin with the components lie side by side
            for head, line in zip(heads, straight, strict=True):
                dict(head.named_parameters())["2.bias"][components : 2 * components] += torch.linspace(-1, 1, components)
                line.weight.zero_()
        self.heads, self.straight = nn.ModuleList(heads), nn.ModuleList(straight)
        self.history = torch.empty(0, len(wanted))

    def log_density(self, seen: Tensor, wanted: Tensor) -> Tensor:
        """`(Q, B)` log q(w_k | x, w_1 ... w_(k-1)), whose sum over k is the log-density; of `seen` `(C, B)` and `wanted` `(Q, B)`."""
        _pair(seen, wanted, len(self.location), len(self.centre))
        (x, h), w = self._read(seen), ((wanted.float() - self.centre[:, None]) / self.spread[:, None]).mT
        found = []
        for k in range(len(self.centre)):
            weight, mean, scale = self._mixture(x, h, k, w[:, :k])
            found.append(torch.logsumexp(weight - scale.log() - ((w[:, k : k + 1] - mean) / scale).square() / 2, 1) - math.log(2 * math.pi) / 2)
        return torch.stack(found) - self.spread.log()[:, None]

    @torch.no_grad()
    def draw(self, seen: Tensor, count: int, *, seed: int = 0) -> Tensor:
        """`(Q, B, count)` independent draws of the numbers for each column of `seen` `(C, B)`; a column's do not depend on the other columns."""
        checks.at_least("count", count, 1)
        _pair(seen, None, len(self.location))
        columns = seen.shape[1]
        x, h = (part.repeat_interleave(count, 0) for part in self._read(seen))
        index = torch.arange(columns, device=seen.device)[:, None], torch.arange(count, device=seen.device)
        w = h.new_empty(len(h), 0)
        for k in range(len(self.centre)):
            weight, mean, scale = self._mixture(x, h, k, w)
            at = torch.as_tensor(k, device=seen.device)
            luck = noise.uniform(seed, "amortised component", *index, at).reshape(-1, 1)
            chosen = (weight.double().exp().cumsum(1) < luck).sum(1, keepdim=True).clamp_max(weight.shape[1] - 1)
            error = noise.normal(seed, "amortised draw", *index, at).reshape(-1, 1).to(h)
            w = torch.cat([w, mean.gather(1, chosen) + scale.gather(1, chosen) * error], 1)
        return (self.centre + self.spread * w).mT.reshape(-1, columns, count).to(seen)

    def contraction(self, seen: Tensor, *, count: int = 200, seed: int = 0) -> Tensor:
        """`(Q,)` 1 - mean standard deviation given what is seen / standard deviation without: 0 where nothing was learnt, 1 where everything was."""
        return 1 - self.draw(seen, count, seed=seed).std(-1).mean(1) / self.spread.to(seen)

    def _read(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = ((seen.float() - self.location[:, None]) / self.scale[:, None]).clamp(-FARTHEST, FARTHEST).mT
        return x, self.reader(x)

    def _mixture(self, x: Tensor, h: Tensor, k: int, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, mean, scale = self.heads[k](torch.cat([h, before], 1)).chunk(3, 1)
        mean = mean + self.straight[k](torch.cat([x, before], 1))
        return torch.log_softmax(weight, 1), mean, scale.clamp(FINEST, COARSEST).exp()


def amortise(
    simulations: Simulations,
    *,
    steps: int,
    width: int = 256,
    depth: int = 3,
    components: int = 8,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    rate: Callable[[float], float] | None = None,
    track: Track | None = None,
    seed: int = 0,
) -> Amortised:
    """Learn the law of some numbers given what is seen.

    Args:
        simulations: batches 0 ... `steps`; the first tells the scales only.
        steps: batches fitted, each once.
        width: of the network's layers.
        depth: of them.
        components: of each mixture.
        optimizer: partial of torch.optim; Adam with a learning rate of .002 if None.
        rate: fraction done -> factor on the learning rate; `warm_then_cosine` if None.
        track: for a progress bar.
        seed: of the weights.
    Returns: the law; `history` `(steps, Q)` is - log q(w_k | x, w_1 ... w_(k-1)), the mean of each batch before it was used.
    Raises: ShapeError; InputError for values that are not finite, naming the batch.
    """
    checks.at_least("steps", steps, 1)
    found = Amortised(*_finite(0, *simulations(0)), width=width, depth=depth, components=components, seed=seed)

    def loss(batch: tuple[Tensor, Tensor], _: float) -> Tensor:
        return -found.log_density(*batch).mean(1)

    history = fit(
        loss,
        optimizer=(optimizer or _adam)(list(found.parameters())),
        batches=lambda step: [_finite(step + 1, *simulations(step + 1))],
        epochs=steps,
        rate=rate or warm_then_cosine,
        track=track,
    )
    found.history = history.loss
    return found.eval()


def _adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-3)


def warm_then_cosine(done: float) -> float:
    """A learning rate that rises over the first twentieth of a fit and then falls to zero as half a cosine."""
    return min(1.0, done / 0.05 + 1e-3) * (1 + math.cos(math.pi * done)) / 2


def _scale(values: Tensor) -> Tensor:
    """`(C,)` standard deviations; 1 where nothing varies."""
    spread = values.double().std(1, correction=0)
    return torch.where(spread > 1e-12 * (1 + values.double().abs().amax(1)), spread, torch.ones_like(spread))


def _pair(seen: Tensor, wanted: Tensor | None, rows: int | None = None, numbers: int | None = None) -> None:
    """Shapes of what is seen and what is wanted."""
    if seen.dim() != 2 or not seen.numel() or rows not in (None, seen.shape[0]):
        raise ShapeError(f"seen must have shape (C, B){'' if rows is None else f' with C = {rows}'}, neither of them 0, got {tuple(seen.shape)}")
    if wanted is None:
        return
    if wanted.dim() != 2 or not wanted.numel() or wanted.shape[1] != seen.shape[1] or numbers not in (None, wanted.shape[0]):
        which = "" if numbers is None else f" with Q = {numbers}"
        raise ShapeError(f"wanted must have shape (Q, B){which}, B = {seen.shape[1]} as in seen, got {tuple(wanted.shape)}")


def _finite(number: int, seen: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    _pair(seen, wanted)
    for name, value in (("seen", seen), ("wanted", wanted)):
        bad = ~torch.isfinite(value)
        if bool(bad.any()):
            raise InputError(f"simulations must be finite, got {int(bad.sum())} of {bad.numel()} entries of {name} that are not in batch {number}")
    return seen.detach(), wanted.detach()


__all__ = ["Amortised", "Simulations", "amortise", "warm_then_cosine"]
