"""Counting laws, once: what an integer may be, with parameters that can be trained. Demand uses them, estimators differentiate through them.

Everything follows from `log_prob` and `cdf`. Two identities carry the gradients. With F the distribution function and p the probabilities,
d E f(X) = E[(f(X + 1) - f(X)) w(X)] with w(x) = -dF(x) / p(x) (summation by parts), and X = floor(Y) with Y = x + (u - F(x - 1)) / p(x), a continuous
variable whose law is the counting law spread evenly over [x, x + 1).
"""

from __future__ import annotations

import abc
import functools
import math

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax.kernels import Number
from dpsc.relax.operations.staircase import floor
from dpsc.types import Relaxation

TAIL = 1e-12
LONGEST = 2**22


class Law(abc.ABC):
    """An integer law, one a entry of `shape`; parameters are tensors that autograd may follow."""

    def __init__(self, **parameters: Tensor) -> None:
        for name, value in parameters.items():
            checks.finite(f"{name} of {type(self).__name__}", checks.floating(f"{name} of {type(self).__name__}", value))
        self.shape = checks.broadcast({name: value.shape for name, value in parameters.items()})
        first = next(iter(parameters.values()))
        self.dtype, self.device = first.dtype, first.device

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """E X, `shape`."""

    @property
    @abc.abstractmethod
    def variance(self) -> Tensor:
        """Var X, `shape`."""

    @abc.abstractmethod
    def log_prob(self, k: Tensor) -> Tensor:
        """log P(X = k) of integers k `(..., *shape)`; -inf outside of the support."""

    @property
    def high(self) -> Tensor | float:
        """Largest possible value, inf where there is none."""
        return math.inf

    def probabilities(self, count: int) -> Tensor:
        """P(X = 0) ... P(X = count - 1), `(*shape, count)`, differentiable."""
        k = torch.arange(count, dtype=torch.float64, device=self.device).reshape(-1, *[1] * len(self.shape))
        return self.log_prob(k.expand(count, *self.shape)).exp().movedim(0, -1)

    @functools.cached_property
    def length(self) -> int:
        """How many values a table needs so that what lies beyond has probability below 1e-12."""
        if isinstance(self.high, Tensor) or self.high < math.inf:
            top = float(torch.as_tensor(self.high).max()) if math.prod(self.shape) else 0.0
            return self._allowed(top + 1)
        with torch.no_grad():
            if not math.prod(self.shape):
                return 1
            size = float((self.mean + 12 * self.variance.sqrt()).max()) + 40
            while True:
                count = self._allowed(size)
                if bool((1 - self.probabilities(count).sum(-1) < TAIL + 1e-15 * count).all()):
                    return count
                size *= 2

    def _allowed(self, size: float) -> int:
        if not size <= LONGEST:
            raise InputError(
                f"{type(self).__name__} needs a table of {size:.3g} values, more than {LONGEST}: its mean {float(self.mean.max()):.3g} or spread is too "
                "large to count one by one; use larger units, or a continuous law"
            )
        return int(size)

    @functools.cached_property
    def _table(self) -> Tensor:
        """F(0) ... F(K), `(*shape, K + 1)`, without gradient; kept, because sampling asks for it again and again."""
        with torch.no_grad():
            return self.probabilities(self.length).cumsum(-1).double().expand(*self.shape, self.length).contiguous()

    def cdf(self, k: Tensor) -> Tensor:
        """P(X <= k) of integers k `(..., *shape)`, differentiable in the parameters."""
        last = self.length - 1
        index = k.clamp(0, last).long()
        lead = index.dim() - len(self.shape)
        flat = index.reshape(-1, *self.shape).movedim(0, -1)
        table = self.probabilities(self.length).cumsum(-1) if torch.is_grad_enabled() else self._table  # a graph is not kept: it lives for one backward pass
        found = table.expand(*self.shape, last + 1).gather(-1, flat).movedim(-1, 0)
        found = torch.where(k.reshape(found.shape) < 0, torch.zeros_like(found), found)
        return found.reshape(*index.shape[:lead], *self.shape)

    def quantile(self, uniform: Tensor) -> Tensor:
        """The integer whose step of the distribution function contains u: inverse transform sampling.

        Args:
            uniform: `(..., *shape)` in (0, 1).
        Returns: `(..., *shape)` whole numbers in the dtype of the law.
        Gradient: none.
        """
        with torch.no_grad():
            flat = uniform.reshape(-1, *self.shape).movedim(0, -1).to(torch.float64).contiguous()
            found = torch.searchsorted(self._table, flat).clamp_max(self.length - 1)
            return found.movedim(-1, 0).reshape(uniform.shape).to(self.dtype)

    def continuous(self, uniform: Tensor) -> Tensor:
        """Y with floor(Y) = X: x + (u - F(x - 1)) / p(x), differentiable in the parameters at a fixed u.

        Args:
            uniform: `(..., *shape)` in (0, 1).
        Returns: `(..., *shape)` float64, in [x, x + 1).
        """
        x = self.quantile(uniform).double()
        below, probability = self.cdf(x - 1), self.log_prob(x).exp()
        inside = (uniform - below) / probability.clamp_min(1e-300)
        # The table and its differences agree to rounding only; the floor of the result must be x all the same.
        kept = inside.detach().clamp(0, 1 - 1e-9) - (inside.detach() - inside)
        return x + kept

    def weight(self, x: Tensor) -> Tensor:
        """A tensor whose gradient in the parameters is w(x) = -dF(x) / p(x); its value means nothing.

        Args:
            x: `(..., *shape)` sampled integers.
        """
        return -self.cdf(x) / self.log_prob(x).detach().exp().clamp_min(1e-300)


def _not_negative(law: str, name: str, value: Tensor) -> None:
    if value.numel() and float(value.detach().min()) < 0:
        raise InputError(f"{name} of {law} must be >= 0, got {float(value.detach().min())}")


def _share(law: str, name: str, value: Tensor) -> None:
    if value.numel() and not (float(value.detach().min()) >= 0 and float(value.detach().max()) <= 1):
        bad = value.detach()[(value.detach() < 0) | (value.detach() > 1)].flatten()[0]
        raise InputError(f"{name} of {law} must lie in [0, 1], got {float(bad)}")


class Poisson(Law):
    """exp(-lambda) lambda^k / k!; dE f(X) / dlambda = E[f(X + 1) - f(X)].

    Args:
        rate: lambda >= 0, units a period.
    """

    def __init__(self, rate: Tensor) -> None:
        super().__init__(rate=rate)
        _not_negative("Poisson", "rate", rate)
        self.rate = rate

    @property
    def mean(self) -> Tensor:
        """lambda."""
        return self.rate

    @property
    def variance(self) -> Tensor:
        """lambda."""
        return self.rate

    def log_prob(self, k: Tensor) -> Tensor:
        """k log lambda - lambda - log k!."""
        rate = self.rate.double()
        return torch.where(k < 0, -torch.inf, torch.xlogy(k.clamp_min(0), rate) - rate - torch.lgamma(k.clamp_min(0).double() + 1))

    def weight(self, x: Tensor) -> Tensor:
        """w = 1."""
        return self.rate.double().expand(x.shape)


class NegativeBinomial(Law):
    """A Poisson whose rate is gamma-distributed: variance mu + mu^2 / r. In its mean, dE f(X) / dmu = E[(f(X + 1) - f(X)) (X + r) / (r + mu)].

    Args:
        mean: mu >= 0, units a period.
        dispersion: r > 0; the smaller, the wilder (r to infinity is Poisson).
    """

    def __init__(self, mean: Tensor, dispersion: Tensor) -> None:
        super().__init__(mean=mean, dispersion=dispersion)
        _not_negative("NegativeBinomial", "mean", mean)
        if dispersion.numel() and float(dispersion.detach().min()) <= 0:
            raise InputError(f"dispersion of NegativeBinomial must be > 0, got {float(dispersion.detach().min())}")
        self._mean, self.dispersion = mean.expand(self.shape), dispersion.expand(self.shape)

    @classmethod
    def of_variance(cls, mean: Tensor, variance: Tensor) -> NegativeBinomial:
        """By mean and variance, which must be larger."""
        if not bool((variance > mean).all()):
            raise InputError("variance of NegativeBinomial must be > mean everywhere; use Poisson where they are equal")
        return cls(mean, mean.square() / (variance - mean))

    @property
    def mean(self) -> Tensor:
        """mu."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """mu + mu^2 / r."""
        return self._mean + self._mean.square() / self.dispersion

    def log_prob(self, k: Tensor) -> Tensor:
        """log of Gamma(k + r) / (Gamma(r) k!) (r / (r + mu))^r (mu / (r + mu))^k."""
        mean, r, at = self._mean.double(), self.dispersion.double(), k.clamp_min(0).double()
        value = torch.lgamma(at + r) - torch.lgamma(r) - torch.lgamma(at + 1) - r * torch.log1p(mean / r) + torch.xlogy(at, mean / (r + mean))
        return torch.where(k < 0, -torch.inf, value)

    def weight(self, x: Tensor) -> Tensor:
        """w = (x + r) / (r + mu) for the mean; by the distribution function if the dispersion is trained as well."""
        if self.dispersion.requires_grad:
            return super().weight(x)
        mean, r = self._mean.double(), self.dispersion.double()
        return (x + r) / (r + mean.detach()) * mean


class Binomial(Law):
    """n trials that succeed with probability p each; dE f(X) / dp = E[(f(X + 1) - f(X)) (n - X) / (1 - p)].

    Args:
        total_count: n, whole, >= 0; not trained.
        probability: p in [0, 1].
    """

    def __init__(self, total_count: Tensor, probability: Tensor) -> None:
        super().__init__(probability=probability, total_count=total_count)
        _not_negative("Binomial", "total_count", total_count)
        if not torch.equal(total_count, total_count.round()):
            raise InputError("total_count of Binomial must be whole numbers")
        _share("Binomial", "probability", probability)
        self.total_count, self.probability = total_count.detach().expand(self.shape), probability.expand(self.shape)

    @property
    def mean(self) -> Tensor:
        """n p."""
        return self.total_count * self.probability

    @property
    def variance(self) -> Tensor:
        """n p (1 - p)."""
        return self.total_count * self.probability * (1 - self.probability)

    @property
    def high(self) -> Tensor:
        """n."""
        return self.total_count

    def log_prob(self, k: Tensor) -> Tensor:
        """log C(n, k) + k log p + (n - k) log(1 - p)."""
        n, p = self.total_count.double(), self.probability.double()
        inside = (k >= 0) & (k <= n)
        at = torch.where(inside, k.double(), torch.zeros_like(n))
        ways = torch.lgamma(n + 1) - torch.lgamma(at + 1) - torch.lgamma(n - at + 1)
        return torch.where(inside, ways + torch.xlogy(at, p) + torch.special.xlog1py(n - at, -p), -torch.inf)

    def weight(self, x: Tensor) -> Tensor:
        """w = (n - x) / (1 - p)."""
        p = self.probability.double()
        return (self.total_count - x) / (1 - p.detach()).clamp_min(1e-300) * p


class Bernoulli(Binomial):
    """A gate: 1 with probability p, else 0.

    Args:
        probability: p in [0, 1].
    """

    def __init__(self, probability: Tensor) -> None:
        super().__init__(torch.ones_like(probability.detach()), probability)

    @classmethod
    def of_logits(cls, logits: Tensor) -> Bernoulli:
        """p = sigmoid(logits)."""
        return cls(torch.sigmoid(logits))

    @property
    def logits(self) -> Tensor:
        """log p - log(1 - p)."""
        return torch.logit(self.probability)


class Categorical(Law):
    """One of K choices, 0 ... K - 1.

    Args:
        logits: `(*shape, K)` log-probabilities up to a constant.
    """

    def __init__(self, logits: Tensor) -> None:
        checks.finite("logits of Categorical", checks.floating("logits of Categorical", logits))
        if logits.dim() < 1 or logits.shape[-1] < 1:
            raise InputError(f"logits of Categorical must have shape (..., K) with K >= 1, got {tuple(logits.shape)}")
        super().__init__(logits=logits[..., 0])
        self.logits = logits

    @classmethod
    def of_probabilities(cls, probabilities: Tensor) -> Categorical:
        """By probabilities, which must be > 0 and add up to 1."""
        total = probabilities.detach().sum(-1)
        if not bool((probabilities > 0).all()) or not bool(((total - 1).abs() < 1e-6).all()):
            worst = float(total.flatten()[(total - 1).abs().argmax()]) if total.numel() else math.nan
            raise InputError(f"probabilities of Categorical must be > 0 and add up to 1, got a smallest of {float(probabilities.min())} and a sum of {worst}")
        return cls(probabilities.log())

    @property
    def mean(self) -> Tensor:
        """sum of k p_k."""
        return (self.probabilities(self.length) * torch.arange(self.length, dtype=torch.float64, device=self.device)).sum(-1).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """sum of k^2 p_k less the squared mean."""
        k = torch.arange(self.length, dtype=torch.float64, device=self.device)
        return ((self.probabilities(self.length) * k.square()).sum(-1) - self.mean.square()).to(self.dtype)

    @property
    def high(self) -> float:
        """K - 1."""
        return self.logits.shape[-1] - 1

    def log_prob(self, k: Tensor) -> Tensor:
        """The log-softmax at k."""
        logp = torch.log_softmax(self.logits.double(), -1)
        inside = (k >= 0) & (k <= self.high)
        index = torch.where(inside, k, torch.zeros_like(k)).long()
        found = logp.expand(*index.shape, logp.shape[-1]).gather(-1, index[..., None])[..., 0]
        return torch.where(inside, found, -torch.inf)


class ZeroInflated(Law):
    """Nothing with probability pi, else another law: slow movers.

    Args:
        law: what is counted when anything is.
        probability: pi in [0, 1].
    """

    def __init__(self, law: Law, probability: Tensor) -> None:
        super().__init__(probability=probability)
        _share("ZeroInflated", "probability", probability)
        self.law, self.probability = law, probability
        self.shape = checks.broadcast({"law": law.shape, "probability": probability.shape})
        if self.shape != law.shape:
            raise InputError(f"probability of ZeroInflated must broadcast to the shape of its law, {tuple(law.shape)}, got {tuple(probability.shape)}")

    @property
    def mean(self) -> Tensor:
        """(1 - pi) mu."""
        return (1 - self.probability) * self.law.mean

    @property
    def variance(self) -> Tensor:
        """(1 - pi) (v + pi mu^2)."""
        return (1 - self.probability) * (self.law.variance + self.probability * self.law.mean.square())

    @property
    def high(self) -> Tensor | float:
        """That of the law."""
        return self.law.high

    def log_prob(self, k: Tensor) -> Tensor:
        """log(pi [k = 0] + (1 - pi) p(k))."""
        pi = self.probability.double()
        p = (1 - pi) * self.law.log_prob(k).exp() + torch.where(k == 0, pi, torch.zeros_like(pi))
        return torch.where(p > 0, p.clamp_min(1e-300).log(), -torch.inf)


class Truncated(Law):
    """Another law, known to be at most `high`: capacity of a shelf, cap of a table.

    Args:
        law: to condition.
        high: largest value, whole, >= 0.
    """

    def __init__(self, law: Law, high: int) -> None:
        self.law, self._high = law, checks.at_least("high of Truncated", high, 0)
        self.shape, self.dtype, self.device = law.shape, law.dtype, law.device
        inside = law.probabilities(high + 1).sum(-1)
        if inside.numel() and float(inside.detach().min()) < 1e-250:
            raise InputError(f"Truncated at {high} keeps nothing of its law, whose mean reaches {float(law.mean.detach().max()):.3g}")
        self._log_mass = inside.log()

    @property
    def mean(self) -> Tensor:
        """sum of k p_k."""
        return (self.probabilities(self._high + 1) * torch.arange(self._high + 1, dtype=torch.float64, device=self.device)).sum(-1).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """sum of k^2 p_k less the squared mean."""
        k = torch.arange(self._high + 1, dtype=torch.float64, device=self.device)
        return ((self.probabilities(self._high + 1) * k.square()).sum(-1) - self.mean.double().square()).to(self.dtype)

    @property
    def high(self) -> float:
        """The cut."""
        return self._high

    def log_prob(self, k: Tensor) -> Tensor:
        """log p(k) - log F(high)."""
        return torch.where(k > self._high, -torch.inf, self.law.log_prob(k) - self._log_mass)


class Rounded(Law):
    """Stochastic rounding of a real quantity: floor(q), or one more with the probability of the remainder. E f(X) interpolates f linearly.

    Args:
        quantity: q >= 0, units.
    """

    def __init__(self, quantity: Tensor) -> None:
        super().__init__(quantity=quantity)
        _not_negative("Rounded", "quantity", quantity)
        self.quantity = quantity

    @property
    def mean(self) -> Tensor:
        """q."""
        return self.quantity

    @property
    def variance(self) -> Tensor:
        """r (1 - r), r the remainder."""
        part = self.quantity - self.quantity.detach().floor()
        return part * (1 - part)

    @property
    def high(self) -> Tensor:
        """floor(q) + 1."""
        return self.quantity.detach().floor() + 1

    def log_prob(self, k: Tensor) -> Tensor:
        """log(1 - |k - q|) for the two neighbours."""
        p = (1 - (k - self.quantity.double()).abs()).clamp_min(0)
        return torch.where(p > 0, p.clamp_min(1e-300).log(), -torch.inf)

    def cdf(self, k: Tensor) -> Tensor:
        """k + 1 - q, cut at 0 and 1."""
        return (k + 1 - self.quantity.double()).clamp(0, 1)

    def quantile(self, uniform: Tensor) -> Tensor:
        """floor(q), one more where u > 1 - remainder."""
        q = self.quantity.detach().double()
        return (q.floor() + (uniform > 1 - (q - q.floor()))).to(self.dtype)


def count(law: Law, uniform: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """An integer drawn by inverse transform: floor(Y), Y the continuous variable of the law.

    Args:
        law: with trainable parameters.
        uniform: `(..., *shape)` in (0, 1), drawn outside.
        relax: how the floor is read; under a wide kernel the soft count is Y - 1/2, whose mean is that of the law.
        scale: what temperature 1 means, in units.
        lattice: as in `floor`.
    Returns: `(..., *shape)` whole numbers when hard.
    Gradient: dY in the parameters, times the slope of the floor; exact in expectation for a program that is linear in the count, biased at jumps.
    Raises: ShapeError, InputError.
    """
    checks.trailing_shape("uniform", uniform, tuple(law.shape), "(..., *law.shape)")
    return floor(law.continuous(uniform), relax=relax, scale=scale, lattice=lattice).to(law.dtype)
