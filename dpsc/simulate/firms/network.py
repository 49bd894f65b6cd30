"""A network of firms: who supplies whom, how much of what one unit of output takes, what final demand asks for.

Letters: `M` firms, `E` edges (supplier to buyer), `K` inputs (stocks), `B` batch, innermost everywhere. An edge belongs to one input of its buyer; without
products every edge is an input of its own, K = E, and with products the suppliers of one product fill one stock together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import DtypeError, InputError, ShapeError

BALANCE = 1e-9  # largest relative error of a given output against A x + c
ROUNDS = 20_000  # of the fixed point x = A x + c
NEAR_ONE = 1 - 1e-7  # a spectral radius that cannot be told from 1


@dataclass(frozen=True, eq=False)
class Network:
    """Firms and their recipes; made by `Network.of`, which checks, sorts and completes. Indices are int32, the rest has the dtype of `coefficient`.

    Attributes:
        supplier: `(E,)` firm that delivers over the edge.
        buyer: `(E,)` firm that receives; sorted.
        coefficient: `(E,)` A_ji > 0, units of the supplier's good in one unit of the buyer's output.
        final_demand: `(M,)` c >= 0, units a step.
        output: `(M,)` x0 = (I - A)^-1 c, units a step at rest.
        sector: `(M,)` int64 label from 0.
        input: `(E,)` the stock that the edge fills; sorted.
        owner: `(K,)` the buyer that holds the stock; sorted.
        recipe: `(K,)` units of the input in one unit of the owner's output.
    """

    supplier: Tensor
    buyer: Tensor
    coefficient: Tensor
    final_demand: Tensor
    output: Tensor
    sector: Tensor
    input: Tensor
    owner: Tensor
    recipe: Tensor

    @classmethod
    def of(
        cls,
        supplier: Tensor,
        buyer: Tensor,
        coefficient: Tensor,
        final_demand: Tensor,
        *,
        output: Tensor | None = None,
        sector: Tensor | None = None,
        product: Tensor | None = None,
    ) -> Network:
        """Check, sort by buyer and supplier, merge duplicates (their coefficients add), drop edges of coefficient 0, and solve for the output at rest.

        Args:
            supplier: `(E,)` integers in [0, M).
            buyer: `(E,)` integers in [0, M). A firm may buy from itself.
            coefficient: `(E,)` A_ji >= 0.
            final_demand: `(M,)` c >= 0.
            output: `(M,)` x0, if it is known already; checked against A x0 + c.
            sector: `(M,)` integers >= 0 for `by_sector`; sectors may be empty. Default: one sector.
            product: `(M,)` integers >= 0, what each firm makes: inputs of one product share a stock. Default: every edge has a stock of its own.
        Raises: ShapeError, DtypeError; InputError for indices out of range, negative or infinite numbers, an output out of balance, and a technology whose
            spectral radius is 1 or more: such an economy needs more than it makes.
        """
        checks.finite("coefficient", checks.floating("coefficient", coefficient))
        checks.finite("final_demand", checks.floating("final_demand", final_demand))
        if final_demand.dim() != 1 or not len(final_demand):
            raise ShapeError(f"final_demand must have shape (M,) with M >= 1, got {tuple(final_demand.shape)}")
        if coefficient.dim() != 1:
            raise ShapeError(f"coefficient must have shape (E,), got {tuple(coefficient.shape)}")
        firms = len(final_demand)
        supplier, buyer = (_index(name, x, coefficient, firms) for name, x in (("supplier", supplier), ("buyer", buyer)))
        _not_negative("coefficient", coefficient, "units of an input are needed or not")
        _not_negative("final_demand", final_demand, "a net withdrawal, such as falling inventories, cannot be served: set it to 0 and say so")
        labels = torch.zeros(firms, dtype=torch.int64, device=coefficient.device)
        sector = labels if sector is None else _labels("sector", sector, labels)
        made = None if product is None else _labels("product", product, labels)
        kept = coefficient > 0
        supplier, buyer, coefficient = supplier[kept], buyer[kept], coefficient[kept]
        key = buyer * firms + supplier
        ordered = bool((key[1:] > key[:-1]).all())
        if not ordered:
            key, order = torch.sort(key, stable=True)
            coefficient = coefficient[order]
            single, place = torch.unique_consecutive(key, return_inverse=True)
            if len(single) < len(key):
                coefficient = torch.zeros(len(single), dtype=coefficient.dtype, device=key.device).index_add_(0, place, coefficient)
            buyer, supplier = single // firms, single % firms
        del key
        if made is None:
            slot, owner, recipe = torch.arange(len(buyer), dtype=torch.int32, device=buyer.device), buyer, coefficient
        else:
            group = buyer * (int(made.max()) + 1) + made[supplier]
            group, order = torch.sort(group, stable=True)
            supplier, buyer, coefficient = supplier[order], buyer[order], coefficient[order]
            _, slot = torch.unique_consecutive(group, return_inverse=True)
            inputs = int(slot[-1]) + 1 if len(slot) else 0
            owner = torch.zeros(inputs, dtype=torch.int64, device=buyer.device).scatter_(0, slot, buyer)
            recipe = torch.zeros(inputs, dtype=coefficient.dtype, device=buyer.device).index_add_(0, slot, coefficient)
        narrow = [x.to(torch.int32) for x in (supplier, buyer, slot, owner)]
        if made is None:
            narrow[3] = narrow[1]
        rest = _output_at_rest(narrow[0], narrow[1], coefficient, final_demand, output)
        return cls(narrow[0], narrow[1], coefficient, final_demand.to(coefficient.dtype), rest, sector, narrow[2], narrow[3], recipe)

    @property
    def firms(self) -> int:
        """M."""
        return len(self.final_demand)

    @property
    def edges(self) -> int:
        """E."""
        return len(self.supplier)

    @property
    def inputs(self) -> int:
        """K."""
        return len(self.owner)

    @property
    def own_stocks(self) -> bool:
        """Whether every edge fills a stock of its own."""
        return self.inputs == self.edges

    @cached_property
    def pointer(self) -> Tensor:
        """`(M + 1,)` int64: the stocks of firm i are pointer[i] ... pointer[i + 1]."""
        return _pointer(self.owner, self.firms)

    @cached_property
    def by_supplier(self) -> Tensor:
        """`(E,)` int64: the edges in the order of their suppliers, those of one supplier in the order of their buyers."""
        return torch.sort(self.supplier, stable=True).indices

    @cached_property
    def supplier_pointer(self) -> Tensor:
        """`(M + 1,)` int64: firm j supplies the edges by_supplier[supplier_pointer[j] ... supplier_pointer[j + 1]]."""
        return _pointer(self.supplier, self.firms)

    @cached_property
    def use(self) -> Tensor:
        """`(K, 1)` units of each input used a step at rest."""
        return (self.recipe * self.output[self.owner])[:, None]

    @cached_property
    def trade(self) -> Tensor:
        """`(E, 1)` units delivered over each edge a step at rest."""
        return self.use if self.own_stocks else (self.coefficient * self.output[self.buyer])[:, None]

    @cached_property
    def share(self) -> Tensor:
        """`(E, 1)` share of the edge in the orders of its input, as in the recipe."""
        return (self.coefficient / self.recipe[self.input])[:, None]

    def demanded(self, order: Tensor) -> Tensor:
        """`(E, B)` orders -> `(M, B)` what each supplier is asked for; one order of additions whatever the number of threads, on every device."""
        if order.is_cuda:
            return torch.segment_reduce(order[self.by_supplier].contiguous(), "sum", offsets=self.supplier_pointer, axis=0, initial=0)
        return order.new_zeros(self.firms, order.shape[1]).index_add(0, self.supplier, order)

    def held(self, value: Tensor) -> Tensor:
        """`(K, B)` values of stocks -> `(M, B)` their sum by owner."""
        if value.is_cuda:
            return torch.segment_reduce(value.contiguous(), "sum", offsets=self.pointer, axis=0, initial=0)
        return value.new_zeros(self.firms, value.shape[1]).index_add(0, self.owner, value)

    def received(self, value: Tensor) -> Tensor:
        """`(E, B)` deliveries -> `(K, B)` what arrives in each stock."""
        if self.own_stocks:
            return value
        if value.is_cuda:
            return torch.segment_reduce(value.contiguous(), "sum", offsets=_pointer(self.input, self.inputs), axis=0, initial=0)
        return value.new_zeros(self.inputs, value.shape[1]).index_add(0, self.input, value)

    def ordered(self, value: Tensor, share: Tensor) -> Tensor:
        """`(K, B)` wanted of each input and `(E, B)` shares of its suppliers -> `(E, B)` orders."""
        return value if self.own_stocks else value[self.input] * share

    def lowest(self, value: Tensor) -> Tensor:
        """`(K, B)` values of stocks -> `(M, B)` the smallest of each owner, infinite for a firm without inputs; no gradient."""
        with torch.no_grad():
            if value.is_cuda:
                return torch.segment_reduce(value.contiguous(), "min", offsets=self.pointer, axis=0, initial=torch.inf)
            index = self.owner.long()[:, None].expand_as(value)
            return value.new_full((self.firms, value.shape[1]), torch.inf).scatter_reduce(0, index, value, "amin")

    def by_sector(self, value: Tensor, sectors: int | None = None) -> Tensor:
        """Add the firms of each sector: `(..., M, B)` -> `(..., sectors, B)`; an empty sector is 0."""
        count = int(self.sector.max()) + 1 if sectors is None else sectors
        shape = (*value.shape[:-2], count, value.shape[-1])
        return value.new_zeros(shape).index_add(-2, self.sector, value)

    def to(self, *target: Any) -> Network:
        """The same network with another dtype and / or on another device."""
        floats = ("coefficient", "final_demand", "output", "recipe")
        device = self.coefficient.to(*target).device
        moved = {f.name: getattr(self, f.name).to(*target) if f.name in floats else getattr(self, f.name).to(device) for f in fields(self)}
        if self.own_stocks:  # shared memory stays shared
            moved |= {"owner": moved["buyer"], "recipe": moved["coefficient"]}
        return replace(self, **moved)

    def dense(self) -> Tensor:
        """`(M, M)` technology matrix A, supplier by buyer; for small networks."""
        matrix = self.coefficient.new_zeros(self.firms, self.firms)
        return matrix.index_put((self.supplier.long(), self.buyer.long()), self.coefficient, accumulate=True)

    def renumbered(self) -> tuple[Network, Tensor]:
        """Firms in the order of falling numbers of customers, so that what many edges read lies together in the cache.

        Returns: the network, and `(M,)` the old number of each new firm: `new.output == old.output[order]`.
        """
        order = torch.argsort(torch.diff(self.supplier_pointer), descending=True, stable=True)
        return self.reordered(order), order

    def reordered(self, order: Tensor | Sequence[int]) -> Network:
        """The same network with firm `order[i]` as number i. Raises: InputError."""
        order = torch.as_tensor(order, device=self.supplier.device)
        place = torch.empty_like(order)
        place[order] = torch.arange(self.firms, device=order.device)
        if not self.own_stocks:
            raise InputError("reordered must be given a network without products; order the firms before Network.of")
        return Network.of(
            place[self.supplier], place[self.buyer], self.coefficient, self.final_demand[order], output=self.output[order], sector=self.sector[order]
        )


def _pointer(sorted_or_not: Tensor, count: int) -> Tensor:
    lengths = torch.bincount(sorted_or_not, minlength=count)
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _index(name: str, value: Tensor, like: Tensor, firms: int) -> Tensor:
    if not isinstance(value, Tensor):
        raise DtypeError(f"{name} must be a tensor of integers, one an edge, got {type(value).__name__}")
    if value.shape != like.shape:
        raise ShapeError(f"{name} must have the shape of coefficient, {tuple(like.shape)}, got {tuple(value.shape)}")
    if value.is_floating_point() or value.dtype == torch.bool:
        raise InputError(f"{name} must hold integers, got dtype {value.dtype}")
    if len(value) and not 0 <= int(value.min()) <= int(value.max()) < firms:
        raise InputError(f"{name} must lie in [0, M = {firms}), got [{int(value.min())}, {int(value.max())}]")
    return value.to(device=like.device, dtype=torch.int64)


def _labels(name: str, value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise DtypeError(f"{name} must be a tensor of integers, one a firm, got {type(value).__name__}")
    if value.shape != like.shape:
        raise ShapeError(f"{name} must have shape (M,) = {tuple(like.shape)}, got {tuple(value.shape)}")
    if value.is_floating_point() or value.dtype == torch.bool or int(value.min()) < 0:
        raise InputError(f"{name} must hold integers >= 0, got {value.dtype} from {value.min().item()}")
    return value.to(like)


def _not_negative(name: str, value: Tensor, why: str) -> None:
    if len(value) and not float(value.min()) >= 0:
        raise InputError(f"{name} must be >= 0 ({why}), got {float(value.min()):g} at index {int(value.argmin())}, {int((value < 0).sum())} negative in all")


def _output_at_rest(supplier: Tensor, buyer: Tensor, coefficient: Tensor, final_demand: Tensor, given: Tensor | None) -> Tensor:
    """x = A x + c, checked or solved in float64 by its Neumann series."""
    a, c = coefficient.double(), final_demand.double()

    def through(x: Tensor) -> Tensor:
        return torch.zeros_like(c).index_add_(0, supplier, a * x[buyer])

    _viable(a, buyer, through, c)
    if given is not None:
        checks.same_shape("output", given, "final_demand", final_demand)
        checks.finite("output", checks.floating("output", given))
        off = float((through(given.double()) + c - given.double()).abs().max()) / max(float(given.max()), 1e-300)
        allowed = BALANCE if given.dtype == torch.float64 else 1e-4
        if off > allowed:
            raise InputError(f"output must satisfy x = A x + c up to {allowed:g} of its maximum, got an error of {off:.2g}")
        return given.to(coefficient.dtype)
    x = c
    for _ in range(ROUNDS):
        new = c + through(x)
        still = bool(((new - x).abs() <= 1e-15 * new).all())
        x = new
        if still:
            break
    else:  # radii near 1: the series would take too long
        x = _factorised(supplier, buyer, a, c)
    return x.to(coefficient.dtype)


def _factorised(supplier: Tensor, buyer: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """x = A x + c by a sparse factorisation, refined once."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import splu

    count = len(c)
    system = (identity(count, format="csc") - csc_matrix((a.cpu().numpy(), (supplier.cpu().numpy(), buyer.cpu().numpy())), shape=(count, count))).tocsc()
    factors, right = splu(system), c.cpu().numpy()
    x = factors.solve(right)
    x = x + factors.solve(right - system @ x)
    return torch.from_numpy(x).to(c).clamp_min(0)


def _viable(a: Tensor, buyer: Tensor, through: Any, c: Tensor) -> None:
    """The spectral radius must be below 1. Column sums below 1 prove it; else A^k 1 must die out."""
    columns = torch.zeros_like(c).index_add_(0, buyer, a)
    if not len(a) or float(columns.max()) < 1:
        return
    v, rate = torch.ones_like(c), 0.0
    first, before = float(v.sum()), float(v.sum())
    for k in range(1, ROUNDS + 1):
        v = through(v)
        size = float(v.sum())
        if size <= 1e-9 * first:
            return
        if k % 50 == 0:
            rate = (size / before) ** (1 / 50)
            if size > 1e9 * first or (k >= len(c) + 200 and rate >= NEAR_ONE):
                break
            before = size
    if rate >= NEAR_ONE:
        raise InputError(
            f"the technology must have a spectral radius below 1, got about {rate:.9g}: "
            f"somewhere a unit of output takes a unit or more of itself, by way of its suppliers"
        )
