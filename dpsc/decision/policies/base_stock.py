"""Base-stock, capped base-stock, constant order.

The kink [S - IP]^+ keeps its sub-gradient in all of them, which is right almost everywhere; `relax` reads the rounding.
"""

from __future__ import annotations

from torch import Tensor

from dpsc import checks
from dpsc.decision.policies.quantity import Quantity, items
from dpsc.relax import Exact, minimum, positive_part
from dpsc.types import Context, Policy, Relaxation, StockState


def base_stock_order(position: Tensor, level: Tensor, *, relax: Relaxation) -> Tensor:
    """Order up to a level; with echelon positions and levels, the echelon base-stock policy.

    q = [S - IP]^+.

    Args:
        position: `(..., S, N)` inventory position, units.
        level: `(..., N)` base-stock level S, units.
        relax: how the kink is read; `Exact()` has its sub-gradient. Whole levels and positions give whole orders.
    Returns: `(..., S, N)` order, units.
    Gradient: exact in `level` where S > IP, zero elsewhere, when exact.
    Raises: DtypeError, ShapeError.
    Source: Snyder & Shen (2019), section 4.3.
    """
    checks.floating("position", position)
    checks.trailing_shape("level", level, position.shape[-1:], "(..., N)")
    return positive_part(level[..., None, :] - position, relax=relax)


class BaseStock(Policy):
    """Order up to a level: q = [S - IP]^+.

    Args:
        level: `(..., N)` S to begin with, units.
        scale: see `Quantity`.
        whole: whether orders are whole units (given whole stocks).
    Source: Snyder & Shen (2019), section 4.3.
    """

    def __init__(self, level: Tensor, *, scale: Tensor | float = 1.0, whole: bool = True) -> None:
        super().__init__()
        self.level = Quantity("level", level, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        level = self.level(relax=relax)
        items("level", level, state)
        return positive_part(level - state.position, relax=Exact())


class CappedBaseStock(Policy):
    """Order up to a level, but never more than a cap: q = min([S - IP]^+, r). Under lost sales close to the optimum.

    Args:
        level: `(..., N)` S to begin with, units.
        cap: `(..., N)` r to begin with, units.
        scale: see `Quantity`.
        whole: as for `BaseStock`.
    Source: Xin (2021), Understanding the performance of capped base-stock policies in lost-sales inventory models, doi:10.1287/opre.2020.2019.
    """

    def __init__(self, level: Tensor, cap: Tensor, *, scale: Tensor | float = 1.0, whole: bool = True) -> None:
        super().__init__()
        self.level, self.cap = Quantity("level", level, scale, whole=whole), Quantity("cap", cap, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        level = self.level(relax=relax)
        items("level", level, state)
        return minimum(positive_part(level - state.position, relax=Exact()), self.cap(relax=relax), relax=Exact())


class ConstantOrder(Policy):
    """The same order every period, whatever the stock: optimal under lost sales as the lead time grows.

    Args:
        order: `(..., N)` to begin with, units.
        scale: see `Quantity`.
        whole: as for `BaseStock`.
    Source: Goldberg, Katz-Rogozhnikov, Lu, Sharma & Squillante (2016), doi:10.1287/moor.2015.0760.
    """

    def __init__(self, order: Tensor, *, scale: Tensor | float = 1.0, whole: bool = True) -> None:
        super().__init__()
        self.quantity = Quantity("order", order, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        order = self.quantity(relax=relax)
        items("order", order, state)
        return order + 0 * state.on_hand
