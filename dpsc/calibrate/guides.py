"""Variational families over unit-normal coordinates. Each holds S starts side by side, which are fitted independently and mixed in equal parts."""

from __future__ import annotations

import abc
import math
from typing import Any

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.calibrate.simulator import columns
from dpsc.errors import InputError, ShapeError


class Guide(nn.Module, abc.ABC):
    """What the fit asks of a family: `distribution()`, a pyro distribution with batch shape `(S,)` and event shape `(D,)`, sampled by reparametrisation.

    Args:
        location: `(D, S)` centres to start from.
        scale: standard deviation to start with, > 0; .1 or less where the simulator has kinks at the scale of the prior: a wide guide sees only their average.
    """

    def __init__(self, location: Tensor, *, scale: float) -> None:
        super().__init__()
        columns("location", location)
        checks.positive("scale", scale)
        self.location = nn.Parameter(location.detach().mT.clone())

    @property
    def starts(self) -> int:
        """S."""
        return self.location.shape[0]

    @property
    def dimension(self) -> int:
        """D."""
        return self.location.shape[1]

    @abc.abstractmethod
    def distribution(self) -> Any:
        """The pyro distribution."""

    def centre(self) -> Tensor:
        """`(D, S)` the centre of each start."""
        return self.location.detach().mT.clone()

    def sample(self, count: int, *, seed: int, weights: Tensor | None = None) -> Tensor:
        """`(D, count)` draws from the mixture of the starts, the same for the same seed.

        Args:
            count: of draws.
            seed: of draws and of the start that each comes from.
            weights: `(S,)` shares of the starts, `Inference.weights()` say; None takes equal parts.
        Raises: ShapeError; InputError for weights that are no shares.
        """
        checks.at_least("count", count, 1)
        if weights is not None:
            if weights.shape != (self.starts,):
                raise ShapeError(f"weights must have shape (S,) = ({self.starts},), got {tuple(weights.shape)}")
            if not (float(weights.min()) >= 0 and 0 < float(weights.sum()) < math.inf):
                raise InputError(f"weights must be >= 0 and not all 0, got {weights.tolist()}")
        rounds = count if weights is not None else math.ceil(count / self.starts)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = self.distribution().sample((rounds,))
            if weights is not None:
                which = torch.multinomial(weights.double(), count, replacement=True).to(drawn.device)
                return drawn[torch.arange(count, device=drawn.device), which].mT.contiguous()
        return drawn.reshape(-1, self.dimension)[:count].mT.contiguous()


def _log_scale(location: Tensor, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.full_like(location.detach().mT, math.log(scale)).contiguous())


class Diagonal(Guide):
    """Independent normal coordinates (mean field): 2 numbers a parameter."""

    def __init__(self, location: Tensor, *, scale: float) -> None:
        super().__init__(location, scale=scale)
        self.log_scale = _log_scale(location, scale)

    def distribution(self) -> Any:
        """N(location, diag(scale^2))."""
        import pyro.distributions as law

        return law.Normal(self.location, self.log_scale.exp()).to_event(1)


class LowRank(Guide):
    """Normal with covariance diag(scale^2) + F F': `rank` directions along which the coordinates move together.

    Args:
        location: as in `Guide`.
        scale: of the diagonal.
        rank: columns of F, which starts at a tenth of the diagonal, in directions drawn with `seed`.
        seed: of those directions.
    """

    def __init__(self, location: Tensor, *, scale: float, rank: int, seed: int = 0) -> None:
        super().__init__(location, scale=scale)
        checks.at_least("rank", rank, 1)
        self.log_scale = _log_scale(location, scale)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(self.starts, self.dimension, rank, generator=generator, dtype=torch.float64).to(location)
        self.factor = nn.Parameter(0.1 * scale * directions / math.sqrt(rank))

    def distribution(self) -> Any:
        """N(location, diag(scale^2) + F F')."""
        import pyro.distributions as law

        return law.LowRankMultivariateNormal(self.location, self.factor, (2 * self.log_scale).exp())


class FirmBlocks(Guide):
    """Normal, with a full covariance among the coordinates of one firm and none between firms.

    Args:
        location: `(P M, S)`, P blocks of M firms one after the other, as `Prior` lays them out.
        scale: standard deviation to start with.
        firms: M.
    """

    def __init__(self, location: Tensor, *, scale: float, firms: int) -> None:
        super().__init__(location, scale=scale)
        checks.at_least("firms", firms, 1)
        if self.dimension % firms:
            raise ShapeError(f"location must have a multiple of firms = {firms} rows, got {self.dimension}")
        self.firms, self.kinds = firms, self.dimension // firms
        self.log_scale = _log_scale(location, scale)
        self.below = nn.Parameter(torch.zeros(self.starts, firms, self.kinds * (self.kinds - 1) // 2, dtype=location.dtype, device=location.device))

    def distribution(self) -> Any:
        """N(location, one P x P block a firm)."""
        import pyro.distributions as law
        from pyro.distributions import transforms

        by_firm = self.location.view(self.starts, self.kinds, self.firms).mT
        factor = torch.diag_embed(self.log_scale.exp().view(self.starts, self.kinds, self.firms).mT)
        rows, cols = torch.tril_indices(self.kinds, self.kinds, -1)
        lower = torch.zeros_like(factor)
        lower[..., rows, cols] = self.below
        factor = factor + lower * factor.diagonal(dim1=-2, dim2=-1)[..., None]
        joint = law.MultivariateNormal(by_firm, scale_tril=factor).to_event(1)
        flat = transforms.ReshapeTransform(torch.Size((self.firms, self.kinds)), torch.Size((self.dimension,)))
        order = torch.arange(self.dimension, device=self.location.device).view(self.firms, self.kinds).mT.reshape(-1)
        return law.TransformedDistribution(joint, [flat, transforms.Permute(order)])


class Informed(Guide):
    """Normal, the prior shrunk along given directions: covariance D (I + V diag(t^2 - 1) V') D, with D diagonal.

    With D = I and t = (1 + s^2)^-1/2 it is the Gauss-Newton posterior of `Laplace`, whose narrow directions a `LowRank` guide cannot say: that one widens.

    Args:
        location: as in `Guide`.
        directions: `(D, R)` V, the same for all starts, or `(S, D, R)`; orthonormal columns, which are kept.
        strengths: `(R,)` or `(S, R)` s >= 0.
        scale: of D, 1 where the prior shows through.
    """

    directions: Tensor

    def __init__(self, location: Tensor, *, directions: Tensor, strengths: Tensor, scale: float = 1.0) -> None:
        super().__init__(location, scale=scale)
        starts, dimension = self.starts, self.dimension
        if directions.dim() not in (2, 3) or directions.shape[-2] != dimension or (directions.dim() == 3 and len(directions) != starts):
            expected = f"(D, R) or (S, D, R) with S = {starts} and D = {dimension}"
            raise ShapeError(f"directions must have shape {expected}, got {tuple(directions.shape)}")
        if strengths.shape != (*directions.shape[:-2], directions.shape[-1]):
            raise ShapeError(f"strengths must have one entry a direction, {(*directions.shape[:-2], directions.shape[-1])}, got {tuple(strengths.shape)}")
        if not bool((strengths >= 0).all() & torch.isfinite(strengths).all()):
            raise InputError(f"strengths must be finite and >= 0, got {float(strengths.min())} to {float(strengths.max())}")
        square = directions.double().mT @ directions.double()
        off = float((square - torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)).abs().max()) if square.numel() else 0.0
        if not off < 1e-4:
            raise InputError(f"directions must be orthonormal, got products that are off by {off:.2g}")
        self.log_scale = _log_scale(location, scale)
        self.register_buffer("directions", directions.detach().to(location).expand(starts, -1, -1).clone())
        self.log_shrink = nn.Parameter(-torch.log1p(strengths.detach().double().square()).div(2).to(location).expand(starts, -1).clone())

    def distribution(self) -> Any:
        """The law of location + D (e + V (t - 1) V'e), e standard normal."""
        import pyro.distributions as law
        from pyro.distributions import transforms

        unit = law.Normal(torch.zeros_like(self.location), 1.0).to_event(1)
        return law.TransformedDistribution(unit, [_along(self.directions, self.log_shrink), transforms.AffineTransform(self.location, self.log_scale.exp(), 1)])


def _along(directions: Tensor, log_shrink: Tensor) -> Any:
    """x -> x + V (t - 1) V'x, a pyro transform."""
    from torch.distributions import Transform, constraints

    def scaled(x: Tensor, weight: Tensor) -> Tensor:
        seen = x[..., None, :] @ directions
        moved: Tensor = x + ((seen * weight[..., None, :]) @ directions.mT)[..., 0, :]
        return moved

    class Along(Transform):
        domain = codomain = constraints.real_vector
        bijective = True

        def _call(self, x: Tensor) -> Tensor:
            return scaled(x, torch.expm1(log_shrink))

        def _inverse(self, y: Tensor) -> Tensor:
            return scaled(y, torch.expm1(-log_shrink))

        def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
            return log_shrink.sum(-1).expand(x.shape[:-1])

    return Along()


class Flow(Guide):
    """A normalising flow: affine coupling layers on top of a diagonal normal law; skew and bent posteriors.

    Args:
        location: `(D, 1)`: a flow has one start.
        scale: of the diagonal below.
        layers: coupling layers, each changing one half of the coordinates as a function of the other; the halves are drawn with `seed`.
        hidden: width of their networks.
        seed: of halves and weights.
    """

    def __init__(self, location: Tensor, *, scale: float, layers: int = 2, hidden: int = 32, seed: int = 0) -> None:
        super().__init__(location, scale=scale)
        if self.starts != 1:
            raise ShapeError(f"a flow has one start: location must have shape (D, 1), got {tuple(location.shape)}")
        if self.dimension < 2:
            raise InputError("a flow must have at least two coordinates to couple, got 1")
        checks.at_least("layers", layers, 1)
        self.log_scale = _log_scale(location, scale)
        half = self.dimension // 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.orders = [torch.randperm(self.dimension) for _ in range(layers)]
            lasts = [nn.Linear(hidden, 2 * (self.dimension - half)) for _ in range(layers)]
            networks = [nn.Sequential(nn.Linear(half, hidden), nn.Tanh(), last).to(location) for last in lasts]
        for last in lasts:  # the identity to begin with
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.networks = nn.ModuleList(networks)

    def distribution(self) -> Any:
        """The law of location + scale T(e), e standard normal, T the coupling layers."""
        import pyro.distributions as law
        from pyro.distributions import transforms

        half, rest = self.dimension // 2, self.dimension - self.dimension // 2
        chain: list[Any] = []
        for order, network in zip(self.orders, self.networks, strict=True):
            split = _Split(network, rest)
            chain += [transforms.Permute(order.to(self.location.device)), transforms.AffineCoupling(half, split)]
        unit = law.Normal(torch.zeros_like(self.location), 1.0).to_event(1)
        chain.append(transforms.AffineTransform(self.location, self.log_scale.exp(), event_dim=1))
        return law.TransformedDistribution(unit, chain)


class _Split:
    """A network's output as a pair, shift and bounded log scale, as a coupling layer wants it."""

    def __init__(self, network: nn.Module, size: int) -> None:
        self.network, self.size = network, size

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(x)
        return out[..., : self.size], torch.tanh(out[..., self.size :])
