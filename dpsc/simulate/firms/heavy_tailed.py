"""Firm networks as registers of whole countries show them: a few firms with thousands of customers, most with one or two."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError
from dpsc.simulate.firms.network import Network


def heavy_tailed(
    firms: int,
    *,
    degree: float = 10.0,
    customer_tail: float = 1.35,
    supplier_tail: float = 1.6,
    together: float = 0.6,
    input_share: tuple[float, float] = (0.3, 0.7),
    sectors: int = 1,
    seed: int = 0,
) -> Network:
    """A network whose numbers of customers and of suppliers have power laws in their tails.

    Each firm has two normal numbers with correlation `together`. One becomes its attractiveness, Pareto with P(a > y) = y^-customer_tail: suppliers are drawn
    in proportion to it. The other becomes its number of suppliers, a Pareto number with tail `supplier_tail` scaled to the mean `degree`, whole and at least 1
    (and at most half of the firms). Repeated draws and draws of the firm itself are dropped. The inputs of one unit of output add up to
    U(input_share), spread by exponential weights; final demand is in proportion to attractiveness times lognormal(0, 1/2).

    Args:
        firms: M >= 2.
        degree: mean number of suppliers drawn, >= 1.
        customer_tail: exponent of the tail of the number of customers, > 1.
        supplier_tail: of the number of suppliers, > 1.
        together: correlation of the two, in [-1, 1]: large sellers are large buyers.
        input_share: interval of the column sums of A, within [0, 1).
        sectors: labels, drawn uniformly.
        seed: of the draws, which do not depend on the machine.
    Returns: a network in float64.
    Raises: InputError.
    Source: exponents of the order of those of about a million Japanese firms, Fujiwara & Aoyama (2010), Eur. Phys. J. B 77: 565-580,
        doi:10.1140/epjb/e2010-00275-2; no firm-level network is public.
    """
    checks.at_least("firms", firms, 2)
    for name, tail in (("customer_tail", customer_tail), ("supplier_tail", supplier_tail)):
        if not tail > 1:
            raise InputError(f"{name} must be > 1, or the mean does not exist, got {tail!r}")
    if not degree >= 1:
        raise InputError(f"degree must be >= 1, got {degree!r}")
    if not -1 <= together <= 1:
        raise InputError(f"together must be a correlation in [-1, 1], got {together!r}")
    if not 0 <= input_share[0] <= input_share[1] < 1:
        raise InputError(f"input_share must be an interval within [0, 1), got {input_share}")
    each = torch.arange(firms)
    first = noise.normal(seed, "customers", each)
    second = together * first + (1 - together**2) ** 0.5 * noise.normal(seed, "suppliers", each)
    attractiveness = _pareto(first, customer_tail)
    wanted = _pareto(second, supplier_tail)
    wanted = (wanted * degree / wanted.mean()).round().clamp(1, max(1, firms // 2)).long()
    buyer = each.repeat_interleave(wanted)
    reach = attractiveness.cumsum(0)
    drawn = torch.searchsorted(reach, reach[-1] * noise.uniform(seed, "who supplies", torch.arange(len(buyer)))).clamp_max(firms - 1)
    key = torch.unique(buyer * firms + drawn)
    buyer, supplier = key // firms, key % firms
    other = buyer != supplier
    buyer, supplier = buyer[other], supplier[other]
    weight = -noise.uniform(seed, "how much", buyer, supplier).log()
    total = torch.zeros(firms, dtype=weight.dtype).index_add(0, buyer, weight)
    low, high = input_share
    share = low + (high - low) * noise.uniform(seed, "input share", each)
    final = attractiveness * torch.exp(0.5 * noise.normal(seed, "final demand", each))
    label = (checks.at_least("sectors", sectors, 1) * noise.uniform(seed, "sector", each)).long()
    return Network.of(supplier, buyer, weight * (share / total)[buyer], final / final.mean(), sector=label)


def _pareto(normal: Tensor, tail: float) -> Tensor:
    """Normal numbers as Pareto ones with minimum 1."""
    return torch.exp(-torch.special.log_ndtr(-normal) / tail)
