"""Projections on the cones of a conic program and their derivatives, for a whole batch.

A slack s lies in K = {0}^z x R+^l x SOC x PSD x EXP, stored in this order (second-order cones as (t, x) with |x| <= t, symmetric matrices as
their lower triangle by columns with the off-diagonal scaled by sqrt 2, exponential cones as (x, y, z) with y e^(x/y) <= z).
Source: Busseti, Moursi & Boyd (2019), Solution refinement at regular points of conic problems, doi:10.1007/s10589-019-00122-9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from dpsc.errors import ProblemError


@dataclass(frozen=True)
class Cones:
    """Sizes of the cones that the rows of a conic program belong to, in the order of the rows."""

    zero: int
    nonnegative: int
    second_order: tuple[int, ...] = ()
    semidefinite: tuple[int, ...] = ()
    exponential: int = 0

    @classmethod
    def of(cls, dims: object) -> Cones:
        """From cvxpy's description of the cones of a canonical program."""
        power = list(getattr(dims, "p3d", ())) + list(getattr(dims, "pnd", ()))
        if power:
            raise ProblemError(f"power cones are not supported (the program has {len(power)}): write the atom with second-order or exponential cones")
        return cls(int(dims.zero), int(dims.nonneg), tuple(map(int, dims.soc)), tuple(map(int, dims.psd)), int(dims.exp))  # type: ignore[attr-defined]

    @property
    def polyhedral(self) -> bool:
        """Only equalities and inequalities: every projection derivative is diagonal."""
        return not (self.second_order or self.semidefinite or self.exponential)

    def curved(self) -> Iterator[tuple[str, slice]]:
        """Kind and rows of every cone behind the equalities and inequalities."""
        start = self.zero + self.nonnegative
        sizes = [("second_order", k) for k in self.second_order] + [("semidefinite", k * (k + 1) // 2) for k in self.semidefinite]
        for kind, size in sizes + [("exponential", 3)] * self.exponential:
            yield kind, slice(start, start + size)
            start += size

    def project(self, z: Tensor) -> Tensor:
        """`(B, m)` -> `(B, m)`: the nearest point of K."""
        s = z.clamp(min=0)
        s[:, : self.zero] = 0
        for kind, rows in self.curved():
            s[:, rows] = PROJECT[kind](z[:, rows])
        return s

    def derivative(self, z: Tensor) -> Tensor:
        """`(B, m)` -> `(B, m)` if polyhedral, the diagonal of the derivative of `project`; else the whole `(B, m, m)` matrix."""
        diagonal = (z > 0).to(z.dtype)
        diagonal[:, : self.zero] = 0
        if self.polyhedral:
            return diagonal
        whole = torch.diag_embed(diagonal)
        for kind, rows in self.curved():
            whole[:, rows, rows] = DERIVATIVE[kind](z[:, rows])
        return whole


def _second_order(z: Tensor) -> Tensor:
    t, x = z[:, :1], z[:, 1:]
    norm = x.norm(dim=1, keepdim=True)
    on_boundary = torch.cat([norm, x], 1) * (0.5 * (1 + t / norm.clamp(min=1e-300)))
    return torch.where(norm <= t, z, torch.where(norm <= -t, torch.zeros_like(z), on_boundary))


def _second_order_derivative(z: Tensor) -> Tensor:
    t, x = z[:, :1, None], z[:, 1:, None]
    norm = x.norm(dim=1, keepdim=True)
    unit, eye = x / norm.clamp(min=1e-300), torch.eye(x.shape[1], dtype=z.dtype)
    corner = torch.ones_like(t)
    block = (1 + t / norm.clamp(min=1e-300)) * eye - (t / norm.clamp(min=1e-300)) * (unit @ unit.mT)
    mixed = 0.5 * torch.cat([torch.cat([corner, unit.mT], 2), torch.cat([unit, block], 2)], 1)
    whole = torch.eye(z.shape[1], dtype=z.dtype).expand_as(mixed)
    return torch.where(norm <= t, whole, torch.where(norm <= -t, torch.zeros_like(mixed), mixed))


def _triangle(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and scale of the entries of a lower triangle stored by columns; `size` entries."""
    n = int((sqrt(8 * size + 1) - 1) / 2)
    columns, rows = torch.triu_indices(n, n)
    return rows, columns, torch.where(rows == columns, 1.0, torch.tensor(sqrt(2.0), dtype=torch.float64))


def _matrix(z: Tensor) -> Tensor:
    rows, columns, scale = _triangle(z.shape[-1])
    n = int(rows.max()) + 1
    out = z.new_zeros(*z.shape[:-1], n, n)
    out[..., rows, columns] = z / scale
    out[..., columns, rows] = z / scale
    return out


def _semidefinite(z: Tensor) -> Tensor:
    value, vector = torch.linalg.eigh(_matrix(z))
    rows, columns, scale = _triangle(z.shape[1])
    return ((vector * value.clamp(min=0)[:, None]) @ vector.mT)[:, rows, columns] * scale


def _semidefinite_derivative(z: Tensor) -> Tensor:
    value, vector = torch.linalg.eigh(_matrix(z))
    rows, columns, scale = _triangle(z.shape[1])
    positive, gap = value.clamp(min=0), value[:, :, None] - value[:, None, :]
    same = gap.abs() < 1e-12 * (1 + value.abs().amax(1))[:, None, None]
    ratio = torch.where(
        same, ((value[:, :, None] + value[:, None, :]) > 0).to(z.dtype), (positive[:, :, None] - positive[:, None, :]) / gap.masked_fill(same, 1)
    )
    basis = _matrix(torch.eye(z.shape[1], dtype=z.dtype))
    turned = vector.mT[:, None] @ basis @ vector[:, None]
    return ((vector[:, None] @ (ratio[:, None] * turned) @ vector.mT[:, None])[..., rows, columns] * scale).mT


def _exponential(z: Tensor) -> Tensor:
    """A first projection by diffcp, then Newton on its optimality conditions s - z + t g'(s) = 0, g(s) = y e^(x/y) - z = 0."""
    from diffcp.cones import EXP, pi

    if not len(z):
        return z
    s = torch.from_numpy(np.stack([pi(row, [(EXP, [1])]) for row in z.numpy()])).clone()
    rows = _on_exponential_boundary(z, s).nonzero()[:, 0]
    point, target = s[rows], z[rows]
    _, slope, _ = _exponential_surface(point)
    t = ((target - point) * slope).sum(1) / (slope * slope).sum(1)
    for _ in range(6):
        height, slope, bend = _exponential_surface(point)
        off = torch.cat([point - target + t[:, None] * slope, height[:, None]], 1)
        step = torch.linalg.solve(_bordered(slope, bend, t), -off)
        point, t = point + step[:, :3], t + step[:, 3]
    sound = torch.isfinite(point).all(1) & (point[:, 1] > 0) & ((point - s[rows]).abs().amax(1) < 1e-3 * (1 + target.abs().amax(1)))
    s[rows] = torch.where(sound[:, None], point, s[rows])
    return s


def _exponential_derivative(z: Tensor) -> Tensor:
    s = _exponential(z)
    curved = _on_exponential_boundary(z, s)
    inside, face = (s - z).abs().amax(1) <= 1e-12 * (1 + z.abs().amax(1)), (z[:, 0] <= 0) & (z[:, 1] <= 0)
    flat = torch.where(
        inside[:, None],
        torch.ones_like(z),
        torch.where(face[:, None], torch.stack([torch.ones_like(z[:, 0]), torch.zeros_like(z[:, 0]), (z[:, 2] > 0).to(z.dtype)], 1), 0.0),
    )
    out, rows = torch.diag_embed(flat), curved.nonzero()[:, 0]
    _, slope, bend = _exponential_surface(s[rows])
    t = ((z[rows] - s[rows]) * slope).sum(1) / (slope * slope).sum(1)
    out[rows] = torch.linalg.inv(_bordered(slope, bend, t))[:, :3, :3]
    return out


def _on_exponential_boundary(z: Tensor, s: Tensor) -> Tensor:
    """Rows that project onto the curved part: neither inside the cone, nor inside its polar, nor onto the face y = 0."""
    scale = 1 + z.abs().amax(1)
    return ((s - z).abs().amax(1) > 1e-12 * scale) & (s.abs().amax(1) > 1e-12 * scale) & ~((z[:, 0] <= 0) & (z[:, 1] <= 0)) & (s[:, 1] > 0)


def _exponential_surface(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g = y e^(x/y) - z with its gradient and Hessian."""
    x, y = s[:, 0], s[:, 1]
    r = x / y
    e = r.exp()
    slope = torch.stack([e, e * (1 - r), -torch.ones_like(e)], 1)
    bend = s.new_zeros(len(s), 3, 3)
    bend[:, 0, 0], bend[:, 1, 1] = e / y, e * r * r / y
    bend[:, 0, 1] = bend[:, 1, 0] = -e * r / y
    return y * e - s[:, 2], slope, bend


def _bordered(slope: Tensor, bend: Tensor, t: Tensor) -> Tensor:
    out = slope.new_zeros(len(slope), 4, 4)
    out[:, :3, :3] = torch.eye(3, dtype=slope.dtype) + t[:, None, None] * bend
    out[:, :3, 3] = out[:, 3, :3] = slope
    return out


PROJECT = {"second_order": _second_order, "semidefinite": _semidefinite, "exponential": _exponential}
DERIVATIVE = {"second_order": _second_order_derivative, "semidefinite": _semidefinite_derivative, "exponential": _exponential_derivative}
