"""A simulation to first order at one point, by products with its Jacobian; nothing of the size of the Jacobian is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Simulator
from dpsc.errors import InputError, ShapeError
from dpsc.types import Relaxation


class Linearised:
    """Residuals of a simulation at u + v to first order, r + J v, in standard deviations of the observation error.

    With the standard normal prior the objective |r(u)|^2 / 2 + |u|^2 / 2 has the gradient J'r + u and the Gauss-Newton curvature I + J'J. Under Student's t
    the rows of r and J carry the square root of the weight (f + 1) / (f + r^2), which makes the gradient exact and the curvature positive.

    Args:
        simulate: series of columns of coordinates. `forward` needs forward-mode derivatives of it (`torch.func.jvp`).
        observations: what was seen; n of their entries are compared.
        point: `(D,)` coordinates u.
        relax: the reading whose gradient is meant. Read exactly, J belongs to one side of every kink, and a stock that does not bind has a column of zeros.
    Attributes:
        evaluations: spent so far: one for r, one for every column of `forward` and `backward`.
    Raises: ShapeError; InputError if the point, or later the simulation there, is not finite.
    """

    def __init__(self, simulate: Simulator, observations: Observations, point: Tensor, *, relax: Relaxation) -> None:
        checks.floating("point", point)
        if point.dim() != 1:
            raise ShapeError(f"point must have shape (D,), got {tuple(point.shape)}")
        checks.finite("point", point)
        self.point = point.detach()
        self._simulate, self._observations, self._relax = simulate, observations, relax
        self.evaluations = 0

    @cached_property
    def residual(self) -> Tensor:
        """`(n,)` r; one evaluation, when it is first asked for."""
        plain, freedom = self._plain, self._observations.freedom
        return plain if freedom is None else plain * self._root

    @property
    def dimension(self) -> int:
        """D."""
        return self.point.shape[0]

    @property
    def count(self) -> int:
        """n."""
        return self._observations.count

    @property
    def misfit(self) -> float:
        """Negative log-likelihood at the point, as `Observations.misfit`."""
        return float(self._observations.penalty(self._plain[:, None, None]))

    def forward(self, v: Tensor) -> Tensor:
        """J v: `(D,)` -> `(n,)`, or `(D, V)` -> `(n, V)`."""
        columns = self._columns("v", v, self.dimension)
        copies = self.point[:, None].expand_as(columns).contiguous()
        tangent: Tensor = torch.func.jvp(self._unit, (copies,), (columns.contiguous(),))[1]
        self.evaluations += columns.shape[1]
        return tangent.detach().reshape(self.count, *v.shape[1:])

    def backward(self, w: Tensor) -> Tensor:
        """J'w: `(n,)` -> `(D,)`, or `(n, V)` -> `(D, V)`."""
        columns = self._columns("w", w, self.count)
        copies = self.point[:, None].expand(-1, columns.shape[1]).clone().requires_grad_()
        with torch.enable_grad():
            unit = self._unit(copies)
        pulled = torch.autograd.grad(unit, copies, columns, allow_unused=True)[0] if unit.requires_grad else None
        self.evaluations += columns.shape[1]
        return (torch.zeros_like(copies) if pulled is None else pulled).reshape(self.dimension, *w.shape[1:])

    def rows(self, which: Tensor | None = None, *, batch: int = 64) -> Tensor:
        """`(n, D)` the Jacobian, or the rows `which` of it, by one backward product each, `batch` at a time."""
        wanted = torch.arange(self.count, device=self.point.device) if which is None else which
        parts = []
        for part in wanted.split(batch):
            unit = torch.zeros(self.count, len(part), dtype=self.point.dtype, device=self.point.device)
            unit[part, torch.arange(len(part), device=unit.device)] = 1
            parts.append(self.backward(unit).mT)
        return torch.cat(parts) if parts else self.point.new_zeros(0, self.dimension)

    @cached_property
    def _plain(self) -> Tensor:
        with torch.no_grad():
            plain = self._flat(self.point[:, None])[:, 0]
        self.evaluations += 1
        if not bool(torch.isfinite(plain).all()):
            raise InputError(f"the simulation must be finite at the point, got {int((~torch.isfinite(plain)).sum())} of {len(plain)} residuals that are not")
        return plain

    @cached_property
    def _root(self) -> Tensor:
        freedom = self._observations.freedom
        assert freedom is not None
        return ((freedom + 1) / (freedom + self._plain.square())).sqrt()

    def _flat(self, copies: Tensor) -> Tensor:
        unit = self._observations.residuals(self._simulate(copies, relax=self._relax))
        return unit[self._observations.seen(len(unit)).expand_as(unit)[..., 0]]

    def _unit(self, copies: Tensor) -> Tensor:
        flat = self._flat(copies)
        return flat if self._observations.freedom is None else flat * self._root[:, None]

    def _columns(self, name: str, value: Tensor, size: int) -> Tensor:
        if value.dim() not in (1, 2) or value.shape[0] != size:
            raise ShapeError(f"{name} must have shape ({size},) or ({size}, V), got {tuple(value.shape)}")
        return value.to(self.point).reshape(size, -1)


class PeriodRows:
    """The Jacobian period by period. What is seen in period t depends on nothing later, so its rows need runs of t + 1 periods only.

    Args:
        simulate: number of periods -> a simulator of that many.
        observations: over T periods.
        point: `(D,)`.
        relax: see `Linearised`.
        begin: first period in which any coordinate matters (a shock cannot act before it comes); earlier rows are zeros that are not asked for.
    Attributes:
        products: backward products so far.
        evaluations: the same in runs of T periods: a product through t + 1 periods counts (t + 1) / T.
    """

    def __init__(self, simulate: Callable[[int], Simulator], observations: Observations, point: Tensor, *, relax: Relaxation, begin: int = 0) -> None:
        self._simulate, self._observations, self._point, self._relax, self._begin = simulate, observations, point, relax, begin
        self.periods = observations.values.shape[0]
        self.products, self.evaluations = 0, 0.0

    def __call__(self, period: int) -> Tensor:
        """`(rows, D)` of one period, a row for every series seen in it."""
        here = int(self._observations.seen(self.periods)[period].sum())
        if not here or period < self._begin:
            return self._point.new_zeros(here, self._point.shape[0])
        local = Linearised(self._simulate(period + 1), self._observations.periods(0, period + 1), self._point, relax=self._relax)
        found = local.rows(torch.arange(local.count - here, local.count, device=self._point.device))
        self.products += here
        self.evaluations += local.evaluations * (period + 1) / self.periods
        return found
