"""How much a firm makes out of what it is asked for, what it could make, and what it has in stock; and which inputs that takes.

A production is a function `(network, limits, *, relax) -> Produced`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import minimum
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.smallest import smallest
from dpsc.types import Relaxation


class Limits(NamedTuple):
    """What bounds the output of a step.

    Attributes:
        demand: `(M, B)` units asked for.
        capacity: `(M, B)` units that the firm could make, before the shock.
        productivity: `(M, B)` z, share of it that the shock leaves.
        stock: `(K, B)` units on hand.
        needed: `(M or 1, B or 1)` steps of stock that full production needs.
        shock_on_stock: whether z also multiplies what the stocks allow: z min(cap, min S / A) or min(z cap, min S / A).
    """

    demand: Tensor
    capacity: Tensor
    productivity: Tensor
    stock: Tensor
    needed: Tensor
    shock_on_stock: bool

    def by_stock(self, network: Network) -> Tensor:
        """`(K, B)` S / (A needed), times z where the shock acts on stocks: the output that each input allows."""
        allowed = self.stock / network.recipe[:, None]
        factor = self.productivity / self.needed if self.shock_on_stock else 1 / self.needed
        factor = factor.expand(network.firms, -1)
        return allowed * factor[network.owner]


class Produced(NamedTuple):
    """`(M, B)` units made, and `(K, B)` units of each input used."""

    output: Tensor
    use: Tensor


class Production(Protocol):
    """The signature of a production."""

    def __call__(self, network: Network, limits: Limits, *, relax: Relaxation) -> Produced:
        """Output and use of inputs; use never exceeds the stock.

        Args:
            network: recipes, and whose stock is whose.
            limits: what bounds the output of the step.
            relax: how the smallest of the limits is read.
        """
        ...


def leontief(network: Network, limits: Limits, *, relax: Relaxation) -> Produced:
    """x = min(D, z cap, S / A): inputs in fixed proportions, every one of them needed; use A x.

    Gradient: see `smallest`.
    """
    output = smallest(network, (limits.demand, limits.productivity * limits.capacity), limits.by_stock(network), relax=relax)
    return Produced(output, network.recipe[:, None] * output[network.owner])


def partly_binding(importance: Tensor) -> Production:
    """Inputs that are critical, important or not critical for their buyer.

    A critical input limits output like Leontief, S / A; an important one half as much, (S / A + cap) / 2; the others do not limit it. What is there of a
    limiting or other input is used up to A x.

    Args:
        importance: `(K,)` 1, .5 or 0 for each input (`Network.owner` says whose).
    Source: Pichler, Pangallo, del Rio-Chanona, Lafond & Farmer (2022), doi:10.1016/j.jedc.2022.104527, eq. 12 to 15.
    Raises: InputError for other values.
    """
    weight = checks.floating("importance", importance)
    checks.finite("importance", weight)
    known = (weight == 0) | (weight == 0.5) | (weight == 1)
    if not bool(known.all()):
        raise InputError(f"importance must be 0, 0.5 or 1 for each input, got {weight[~known][0].item()}")

    def produce(network: Network, limits: Limits, *, relax: Relaxation) -> Produced:
        if weight.shape != (network.inputs,):
            raise ShapeError(f"importance must have shape (K,) = ({network.inputs},), got {tuple(weight.shape)}")
        w = weight.to(network.recipe)[:, None]
        z_cap = limits.productivity * limits.capacity
        by_stock = limits.by_stock(network)
        half = 0.5 * (by_stock + z_cap[network.owner])
        bound = torch.where(w == 1, by_stock, torch.where(w == 0.5, half, torch.full_like(half, torch.inf)))
        output = smallest(network, (limits.demand, z_cap), bound, relax=relax)
        wanted = network.recipe[:, None] * output[network.owner]
        return Produced(output, minimum(wanted, limits.stock, relax=_exact(relax)))

    return produce


@dataclass(frozen=True, eq=False)
class CES:
    """Constant elasticity of substitution among inputs, only as far as stocks force it.

    The firm would use the recipe, A y of every input; of what is short it uses all, and more of the others, so that with weights s_k = A_k / sum A the
    aggregate (sum s_k min(S_k / A_k, y)^rho)^(1 / rho) is the output, rho = (sigma - 1) / sigma. Output is limited by the aggregate at y = infinity.
    sigma to 0 is Leontief, 1 Cobb-Douglas, infinity linear.

    Args:
        elasticity: sigma > 0, number, `(M,)` or `(M, B)`; learnable.
    Gradient: exact in the stocks and in sigma, y by the implicit function theorem.
    Source: Arrow, Chenery, Minhas & Solow (1961), doi:10.2307/1927286.
    """

    elasticity: float | Tensor

    def __post_init__(self) -> None:
        low = float(torch.as_tensor(self.elasticity).detach().min())
        if not low > 0:
            raise InputError(f"elasticity must be > 0, got {low}")

    def __call__(self, network: Network, limits: Limits, *, relax: Relaxation) -> Produced:
        """Output and use."""
        from dpsc.simulate.firms.parameters import widened

        sigma = widened("elasticity", self.elasticity, network)
        rho = ((sigma - 1) / sigma).expand(network.firms, -1)
        recipe = network.recipe[:, None]
        weight = recipe / network.held(recipe)[network.owner]
        floor = torch.finfo(recipe.dtype).tiny ** 0.25
        log_stock = (limits.stock / recipe / limits.needed.expand(network.firms, -1)[network.owner]).clamp_min(floor).log()
        has_inputs = torch.diff(network.pointer)[:, None] > 0
        most = torch.where(has_inputs, _aggregate(network, weight, log_stock, rho).exp(), torch.full_like(limits.demand, torch.inf))
        z_cap = limits.productivity * limits.capacity
        own = [limits.demand, z_cap, limits.productivity * most if limits.shock_on_stock else most]
        none = limits.stock.new_full(limits.stock.shape, torch.inf)
        output = smallest(network, own, none, relax=relax)
        target = output.clamp_min(floor).log()
        y = _level(network, weight, log_stock, rho, target)
        used = recipe * torch.minimum(log_stock, y[network.owner]).exp()
        used = torch.where(output[network.owner] > floor, used, torch.zeros_like(used))
        return Produced(output, torch.minimum(used, limits.stock))


def _aggregate(network: Network, weight: Tensor, log_value: Tensor, rho: Tensor) -> Tensor:
    """log (sum s v^rho)^(1 / rho) by firm, safe at any size; the geometric mean where rho is 0."""
    power = rho[network.owner] * log_value
    with torch.no_grad():
        top = -network.lowest(-power)
        top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    inside = network.held(weight * (power - top[network.owner]).exp())
    inside = torch.where(inside > 0, inside, torch.ones_like(inside))
    near = rho.abs() < 1e-6
    safe = torch.where(near, torch.ones_like(rho), rho)
    return torch.where(near, network.held(weight * log_value), (inside.log() + top) / safe)


def _level(network: Network, weight: Tensor, log_stock: Tensor, rho: Tensor, target: Tensor) -> Tensor:
    """log y with aggregate(min(log S / A, log y)) = target: bisection, then one Newton step that carries the derivative."""

    def reached(y: Tensor) -> Tensor:
        return _aggregate(network, weight, torch.minimum(log_stock, y[network.owner]), rho)

    with torch.no_grad():
        low, high = target, torch.maximum(target, -network.lowest(-log_stock).clamp_max(torch.finfo(target.dtype).max)).clamp_max(1e3)
        for _ in range(60):
            middle = 0.5 * (low + high)
            short = reached(middle) < target
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        found = high
        open_ = (log_stock >= found[network.owner]).to(target.dtype)
        unit = torch.minimum(log_stock, found[network.owner])
        slope = network.held(open_ * weight * (rho[network.owner] * (unit - reached(found)[network.owner])).exp())
        slope = torch.where(slope > 1e-12, slope, torch.ones_like(slope))
    residual = reached(found) - target
    return found - (residual - residual.detach()) / slope


def _exact(relax: Relaxation) -> Relaxation:
    """A soft use would eat more or less than is made of it: stocks are kept to the unit under every reading."""
    from dpsc.relax import Exact

    return Exact()
