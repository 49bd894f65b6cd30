"""An input-output table made ready for ARIO: flows by product, region and buyer, a day's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

YEAR = 365
NEGLIGIBLE = 1e-5  # a yearly flow below this times the daily output limits nothing


class ByBuyer(NamedTuple):
    """`U` inputs in use, sorted by buyer: `(N + 1,)` whose they are, `(U,)` buyer, product, the same as int32, `(U, R)` flow, `(U,)` recipe, flow over
    regions, and whether it binds."""

    pointer: Tensor
    buyer: Tensor
    product: Tensor
    column: Tensor
    flow: Tensor
    recipe: Tensor
    product_flow: Tensor
    binding: Tensor

    def of(self, value: Tensor) -> Tensor:
        """`(I or 1, N or 1, 1)` -> `(U,)`."""
        wide = value[..., 0].expand(int(self.product.max()) + 1 if value.shape[0] == 1 else -1, len(self.pointer) - 1)
        return wide[self.product, self.buyer]


@dataclass(frozen=True, eq=False)
class Economy:
    """A table made ready; by `Economy.of`.

    Attributes:
        flow: `(I, R, N)` Z, a day's deliveries of product i from region r to industry g.
        final_demand: `(N, 1)` a day's.
        output: `(N, 1)` x0, a day's.
        recipe: `(I, N, 1)` A, units of product i, from wherever, in a unit of g's output.
        product_flow: `(I, N, 1)` flow added over regions.
        binding: `(I, N, 1)` bool, whether the input limits production.
        capital: `(N, 1)` value of the capital.
    """

    flow: Tensor
    final_demand: Tensor
    output: Tensor
    recipe: Tensor
    product_flow: Tensor
    binding: Tensor
    capital: Tensor

    @classmethod
    def of(
        cls, flow: Tensor, final_demand: Tensor, output: Tensor, *, products: int, capital: Tensor | None = None, capital_ratio: float = 4.0, year: int = YEAR
    ) -> Economy:
        """From a yearly table.

        Args:
            flow: `(N, N)` supplier by buyer, region major: industry r I + i makes product i in region r.
            final_demand: `(N,)` or `(N, F)`; its sum must be >= 0. An industry without output is passive.
            output: `(N,)`.
            products: I; N must be a multiple of it.
            capital: `(N,)`; `capital_ratio` times the value added where it is not given.
            capital_ratio: see there.
            year: steps in a year.
        Raises: ShapeError, InputError: negative flows, outputs out of balance.
        """
        checks.finite("flow", checks.floating("flow", flow))
        count = len(output)
        if flow.shape != (count, count) or final_demand.shape[0] != count:
            raise ShapeError(f"flow must be (N, N) and final_demand (N, ...) with N = {count}, got {tuple(flow.shape)} and {tuple(final_demand.shape)}")
        if checks.at_least("products", products, 1) and count % products:
            raise ShapeError(f"the table must have regions x products industries, got N = {count} and {products} products")
        final = final_demand if final_demand.dim() == 1 else final_demand.sum(1)
        for name, value in (("flow", flow), ("final_demand, summed,", final), ("output", output)):
            checks.finite(name, value)
            if float(value.min()) < 0:
                raise InputError(f"{name} must be >= 0, got {float(value.min()):g}; {int((value < 0).sum())} entries are negative")
        off = float((flow.sum(1) + final - output).abs().max()) / float(output.max())
        if off > 1e-6:
            raise InputError(f"output must be the sum of flows and final demand up to 1e-6 of its maximum, got an error of {off:.2g}")
        regions = count // products
        split = flow.reshape(regions, products, count).transpose(0, 1).contiguous()
        total = split.sum(1)
        recipe = torch.where(output > 0, total / torch.where(output > 0, output, torch.ones_like(output)), torch.zeros_like(total))
        held = capital_ratio * (output - flow.sum(0)).clamp_min(0) if capital is None else capital
        return cls(
            split / year,
            final[:, None] / year,
            output[:, None] / year,
            recipe[..., None],
            total[..., None] / year,
            (total > NEGLIGIBLE * output / year)[..., None],
            held[:, None],
        )

    @property
    def industries(self) -> int:
        """N."""
        return len(self.output)

    @property
    def products(self) -> int:
        """I."""
        return len(self.flow)

    @cached_property
    def by_buyer(self) -> ByBuyer:
        """The inputs that are used at all, those of a buyer together."""
        buyer, product = (self.product_flow[..., 0].mT > 0).nonzero(as_tuple=True)
        lengths = torch.bincount(buyer, minlength=self.industries)
        return ByBuyer(
            torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            buyer,
            product,
            product.to(torch.int32),
            self.flow.permute(2, 0, 1)[buyer, product].contiguous(),
            *(v[product, buyer, 0] for v in (self.recipe, self.product_flow, self.binding)),
        )

    @cached_property
    def sold(self) -> Tensor:
        """`(I, R)` what industries sell to industries in a step at rest, by product and region."""
        return self.flow.sum(-1)

    def to_suppliers(self, value: Tensor) -> Tensor:
        """`(I, N, B)` multiples of the flows of each product to each buyer -> `(N, B)` what they add up to at the supplier."""
        return torch.bmm(self.flow, value).transpose(0, 1).reshape(self.industries, -1)

    def from_suppliers(self, value: Tensor) -> Tensor:
        """`(N, B)` multiples of the flows of each supplier -> `(I, N, B)` what they add up to, by product, at the buyer."""
        by_product = value.reshape(-1, self.products, value.shape[1]).transpose(0, 1)
        return torch.bmm(self.flow.transpose(1, 2), by_product)
