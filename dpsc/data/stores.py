"""Synthetic networks of one warehouse and many stores, drawn as in a published benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks, noise


@dataclass(frozen=True)
class StoreNetwork:
    """One warehouse and N stores.

    Attributes:
        mean: `(N,)` units a period, of demand before clipping at zero.
        deviation: `(N,)` units, its standard deviation.
        correlation: of the demands of two stores in a period.
        lead_time: `(N + 1,)` whole periods, the warehouse last.
        holding_cost: `(N + 1,)` money a unit at the end of a period.
        lost_sale: `(N + 1,)` money a unit; zero for the warehouse, which has no customers.
    """

    mean: Tensor
    deviation: Tensor
    correlation: float
    lead_time: Tensor
    holding_cost: Tensor
    lost_sale: Tensor

    @property
    def stores(self) -> int:
        """N."""
        return len(self.mean)


def one_warehouse(stores: int, *, seed: int = 2306) -> StoreNetwork:
    """HDPO's setting one_warehouse_lost_demand, with numbers of our own: the publication's random draws are not stored with its code's results.

    Means U(2.5, 7.5), coefficients of variation U(.25, .5), correlation .5, store lead times 2 or 3, holding U(.7, 1.3), lost sales U(6.3, 11.7); warehouse
    lead time 3, holding .3. Store i of a network is store i of every larger one with that seed.

    Args:
        stores: N.
        seed: of the draws, by `dpsc.noise` with the address (seed, name of the number, store).
    Returns: float64.
    Source: Alvo, Russo, Kanoria & Lee (2023), arXiv:2306.11246, and its code (MatiasAlvo/Neural_inventory_control, commit 4d77c14).
    """
    store = torch.arange(checks.at_least("stores", stores, 1))

    def between(name: str, low: float, high: float) -> Tensor:
        return low + (high - low) * noise.uniform(seed, f"one warehouse: {name}", store)

    mean = between("mean", 2.5, 7.5)
    lead = 2 + (between("lead time", 0.0, 1.0) >= 0.5).long()
    own = {"holding_cost": (between("holding cost", 0.7, 1.3), 0.3), "lost_sale": (between("lost sale", 6.3, 11.7), 0.0)}
    return StoreNetwork(
        mean=mean,
        deviation=mean * between("coefficient of variation", 0.25, 0.5),
        correlation=0.5,
        lead_time=torch.cat([lead, lead.new_tensor([3])]),
        **{name: torch.cat([values, values.new_tensor([last])]) for name, (values, last) in own.items()},
    )
