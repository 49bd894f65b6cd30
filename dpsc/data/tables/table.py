"""An input-output table: who sells how much to whom, checked before anything is computed from it.

Letters: N sectors, K categories of final demand. Rows sell, columns buy. All values are in the table's own unit of value a period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import DataError, InputError, ShapeError

ROUNDING = 1e-9  # relative gap of a row between its sales and its output that counts as rounding of floating-point numbers
DENSE_EIGENVALUES = 600  # sectors up to which all eigenvalues are computed


@dataclass(frozen=True)
class Findings:
    """What the checks found in a table. Nothing in here was repaired unless the caller chose how.

    Attributes:
        imbalance: largest |sales + final demand - output| / output of a sector, as the table came.
        leontief_error: largest |x - (I - A)^-1 f| / x of the table as it is used.
        spectral_radius: of A; below 1.
        masked: sectors without output, left out.
        negative_final_demand: sector -> its total final demand, where that is negative, as the table came.
        negative_cells: how many cells of final demand are negative, by category.
        negative_value_added: sector -> output less inputs, where that is negative.
        raised_output: largest relative rise of a sector's output after negative final demand was set to zero; 0 where it was kept.
        notes: what a reader found out about the file by itself.
    """

    imbalance: float
    leontief_error: float
    spectral_radius: float
    masked: tuple[str, ...]
    negative_final_demand: Mapping[str, float]
    negative_cells: Mapping[str, int]
    negative_value_added: Mapping[str, float]
    raised_output: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The findings as sentences for a reader."""
        said = [
            *self.notes,
            f"Rows balance to {self.imbalance:.1e} of output as the table came; as used, output agrees with (I - A)^-1 f to {self.leontief_error:.1e}.",
            f"The largest eigenvalue of the input coefficients is {self.spectral_radius:.3f}.",
        ]
        if self.masked:
            said.append(f"Left out, because they produce nothing: {_listed(self.masked)}.")
        if self.negative_final_demand:
            how = f"set to zero, which raises the output of a sector by up to {self.raised_output:.2%}" if self.raised_output else "kept as they are"
            said.append(f"Negative final demand, {how}: {_listed([f'{name} {value:.4g}' for name, value in self.negative_final_demand.items()])}.")
        if any(self.negative_cells.values()):
            said.append("Negative cells of final demand: " + _listed([f"{count} in {name}" for name, count in self.negative_cells.items() if count]) + ".")
        if self.negative_value_added:
            said.append(f"Negative value added: {_listed([f'{name} {value:.4g}' for name, value in self.negative_value_added.items()])}.")
        return said


@dataclass(frozen=True)
class Table:
    """A checked input-output table in balance; made by `checked_table`.

    Attributes:
        sectors: N names.
        flow: `(N, N)` Z, row sells to column, float64.
        final_demand: `(N, K)` f by category; its sum over categories is what `output` balances with.
        categories: K names.
        output: `(N,)` x = Z 1 + f, all positive.
        findings: what the checks found.
    """

    sectors: tuple[str, ...]
    flow: Tensor
    final_demand: Tensor
    categories: tuple[str, ...]
    output: Tensor
    findings: Findings

    @property
    def coefficients(self) -> Tensor:
        """`(N, N)` A_ji = Z_ji / x_i, the input of j for one unit of i."""
        return self.flow / self.output

    @property
    def value_added(self) -> Tensor:
        """`(N,)` x_i - sum_j Z_ji."""
        return self.output - self.flow.sum(0)

    def index(self, sector: str) -> int:
        """Position of a sector. Raises: InputError (lists the near names)."""
        checks.one_of("sector", sector, self.sectors)
        return self.sectors.index(sector)


def checked_table(
    sectors: Sequence[str],
    flow: Tensor,
    final_demand: Tensor | None,
    *,
    output: Tensor | None = None,
    categories: Sequence[str] | None = None,
    balance: str = "refuse",
    negative_final_demand: str = "keep",
    source: str = "table",
) -> Table:
    """Check a table and put it into balance in the way that the caller names.

    Args:
        sectors: N different names.
        flow: `(N, N)` Z, row sells to column, not negative.
        final_demand: `(N, K)` or `(N,)`; None where the table gives only output: then f = x - Z 1.
        output: `(N,)`; None where the table gives none: then x = Z 1 + f.
        categories: K names; default `final demand` or 1, 2 ...
        balance: what to do where sales and output of a row differ by more than rounding: `refuse`; `final_demand` makes the residual final
            demand (f = x - Z 1, one category); `output` makes the sum output (x = Z 1 + f).
        negative_final_demand: of a sector's total: `keep` it (stock of the past is sold), `refuse`, or `zero`: f becomes max(f, 0) and output (I - A)^-1 f.
        source: what messages call the table.
    Raises: InputError or ShapeError that names the labels, the cell or the sectors; DataError for a table that cannot be in balance.
    """
    checks.one_of("balance", balance, ("refuse", "final_demand", "output"))
    checks.one_of("negative_final_demand", negative_final_demand, ("keep", "refuse", "zero"))
    names = labels(f"{source}: sectors", sectors)
    count = len(names)
    Z = _matrix(f"{source}: flows", flow, names, names)
    if Z.shape != (count, count):
        raise ShapeError(f"{source}: flows must have shape (N, N) = ({count}, {count}), one row and one column a sector, got {tuple(Z.shape)}")
    if final_demand is None and output is None:
        raise InputError(f"{source} must give final demand, output or both, got neither")
    kinds: tuple[str, ...] = ("final demand",)
    f = None
    if final_demand is not None:
        f = final_demand[:, None] if final_demand.dim() == 1 else final_demand
        kinds = labels(f"{source}: categories of final demand", categories if categories is not None else _numbered(f.shape[-1]))
        if f.shape != (count, len(kinds)):
            raise ShapeError(f"{source}: final demand must have shape (N, K) = ({count}, {len(kinds)}), got {tuple(f.shape)}")
        f = _matrix(f"{source}: final demand", f, names, kinds)
    if output is not None:
        if output.shape != (count,):
            raise ShapeError(f"{source}: output must have shape (N,) = ({count},), got {tuple(output.shape)}")
        x = _matrix(f"{source}: output", output[:, None], names, ("output",))[:, 0]
    else:
        assert f is not None
        x = Z.sum(1) + f.sum(1)
    _not_negative(source, names, Z, x)
    negative_cells = {} if f is None else {kind: int((f[:, k] < 0).sum()) for k, kind in enumerate(kinds)}

    kept = x > 0
    masked = tuple(name for name, there in zip(names, kept.tolist(), strict=True) if not there)
    stray = Z.sum(0) + Z.sum(1) + (0 if f is None else f.abs().sum(1))
    wrong = [f"{name} ({stray[i]:.4g})" for i, name in enumerate(names) if not kept[i] and stray[i] > 0]
    if wrong:
        raise DataError(f"{source}: a sector without output must neither buy nor sell, got flows of {_listed(wrong)}")
    if not bool(kept.any()):
        raise DataError(f"{source} must have a sector with output, got none among {count}")
    names = tuple(name for name, there in zip(names, kept.tolist(), strict=True) if there)
    Z, x = Z[kept][:, kept], x[kept]
    f = x[:, None] - Z.sum(1, keepdim=True) if f is None else f[kept]

    gap = Z.sum(1) + f.sum(1) - x
    imbalance = float((gap.abs() / x).max())
    if imbalance > ROUNDING and balance == "refuse":
        worst = [i for i in (gap.abs() / x).argsort(descending=True)[:3].tolist() if gap[i].abs() > ROUNDING * x[i]]
        raise DataError(
            f"{source} must balance, sales + final demand = output in every row; got "
            + _listed([f"{names[i]}: {Z[i].sum() + f[i].sum():.6g} sold, {x[i]:.6g} produced" for i in worst])
            + f" ({int((gap.abs() / x > ROUNDING).sum())} of {len(names)} rows differ). Choose balance=final_demand (what is not sold to sectors is "
            "final demand) or balance=output (what is sold is the output)"
        )
    if imbalance > ROUNDING and balance == "final_demand":
        f, kinds = x[:, None] - Z.sum(1, keepdim=True), ("final demand",)
    else:
        x = Z.sum(1) + f.sum(1)  # exactly, to the last digit
        _not_negative(source, names, Z, x)

    A = Z / x
    radius = spectral_radius(A)
    if radius >= 1:
        heavy = [i for i in (Z.sum(0) / x).argsort(descending=True).tolist() if Z[:, i].sum() >= x[i]][:3]
        raise DataError(
            f"{source}: the spectral radius of the input coefficients must be below 1, or no output meets the demand, got {radius:.4g}"
            + (f"; these buy more than they produce: {_listed([f'{names[i]} {Z[:, i].sum() / x[i]:.3g} a unit' for i in heavy])}" if heavy else "")
        )
    total = f.sum(1)
    below = {names[i]: float(total[i]) for i in (total < 0).nonzero()[:, 0].tolist()}
    if below and negative_final_demand == "refuse":
        raise DataError(f"{source}: final demand of a sector must not be negative, got {_listed([f'{n} {v:.4g}' for n, v in below.items()])}")
    raised = 0.0
    if below and negative_final_demand == "zero":
        f = torch.where((total < 0)[:, None], torch.zeros_like(f), f)
        higher = solve(A, f.sum(1))
        raised = float((higher / x - 1).max())
        Z = A * higher
        x = Z.sum(1) + f.sum(1)
    value_added = x - Z.sum(0)
    findings = Findings(
        imbalance=imbalance,
        leontief_error=float(((solve(Z / x, f.sum(1)) - x).abs() / x).max()),
        spectral_radius=radius,
        masked=masked,
        negative_final_demand=MappingProxyType(below),
        negative_cells=MappingProxyType(negative_cells),
        negative_value_added=MappingProxyType({names[i]: float(value_added[i]) for i in (value_added < -ROUNDING * x).nonzero()[:, 0].tolist()}),
        raised_output=raised,
    )
    return Table(names, Z, f, kinds, x, findings)


def solve(coefficients: Tensor, final_demand: Tensor) -> Tensor:
    """x = (I - A)^-1 f, with one step of refinement."""
    system = torch.eye(len(coefficients), dtype=coefficients.dtype) - coefficients
    factors, pivots = torch.linalg.lu_factor(system)
    x = torch.linalg.lu_solve(factors, pivots, final_demand[:, None])
    x = x + torch.linalg.lu_solve(factors, pivots, final_demand[:, None] - system @ x)
    return x[:, 0]


def spectral_radius(matrix: Tensor) -> float:
    """Largest modulus of an eigenvalue of a matrix without negative cells: all eigenvalues up to 600 sectors, Arnoldi's method beyond."""
    if len(matrix) <= DENSE_EIGENVALUES:
        return float(torch.linalg.eigvals(matrix).abs().max())
    from scipy.sparse.linalg import eigs

    found = eigs(matrix.numpy(), k=1, which="LM", v0=numpy.ones(len(matrix)), return_eigenvectors=False)
    return float(numpy.abs(found).max())


def labels(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """Names as they are, if they are different and none is empty. Raises: InputError."""
    stripped = tuple(str(name).strip() for name in names)
    if not stripped:
        raise InputError(f"{what} must hold at least one name, got none")
    blank = [i + 1 for i, name in enumerate(stripped) if not name or name.lower() == "nan"]
    if blank:
        raise InputError(f"{what} must all have a name, got an empty one at position {_listed(map(str, blank))}")
    twice = sorted({name for name in stripped if stripped.count(name) > 1}) if len(set(stripped)) < len(stripped) else []
    if twice:
        raise InputError(f"{what} must be different, got more than once: {_listed(twice)}")
    return stripped


def _matrix(what: str, value: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    value = checks.floating(what, value).detach().double().cpu()
    bad = (~torch.isfinite(value)).nonzero() if value.dim() == 2 else value[:0]
    if len(bad):
        i, j = bad[0].tolist()
        raise InputError(f"{what} must be finite, got {value[i, j].item()} in row {rows[i]}, column {columns[j]} ({len(bad)} such cells)")
    return value


def _not_negative(source: str, names: Sequence[str], Z: Tensor, x: Tensor) -> None:
    if bool((Z < 0).any()):
        i, j = (Z < 0).nonzero()[0].tolist()
        raise DataError(f"{source}: flows must not be negative, got {Z[i, j]:.4g} from {names[i]} to {names[j]} ({int((Z < 0).sum())} such cells)")
    if bool((x < 0).any()):
        raise DataError(f"{source}: output must not be negative, got {_listed([f'{names[i]} {x[i]:.4g}' for i in (x < 0).nonzero()[:, 0].tolist()])}")


def _numbered(count: int) -> list[str]:
    return ["final demand"] if count == 1 else [f"final demand {k + 1}" for k in range(count)]


def _listed(parts: Sequence[str] | map[str]) -> str:
    parts = list(parts)
    return ", ".join(parts[: checks.LISTED]) + (f" ... ({len(parts)} in all)" if len(parts) > checks.LISTED else "")
