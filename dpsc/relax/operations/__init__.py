"""Operations that jump or kink, each `op(x, *, relax)` with a hard value and a soft one; one concept a file."""

from dpsc.relax.operations.choose import choose
from dpsc.relax.operations.lots import at_least, order_gate, pack
from dpsc.relax.operations.minimum import maximum, minimum, positive_part
from dpsc.relax.operations.operation import Soft
from dpsc.relax.operations.prices import all_units_cost, incremental_cost
from dpsc.relax.operations.rationing import top_k, water_fill
from dpsc.relax.operations.staircase import floor, round
from dpsc.relax.operations.step import equal, step

__all__ = [
    "Soft",
    "all_units_cost",
    "at_least",
    "choose",
    "equal",
    "floor",
    "incremental_cost",
    "maximum",
    "minimum",
    "order_gate",
    "pack",
    "positive_part",
    "round",
    "step",
    "top_k",
    "water_fill",
]
