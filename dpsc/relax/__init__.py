"""How an integer or a branch gets its gradient: operations, readings, kernels, schedules; and the audit of a gradient."""

from dpsc.relax.audit import Audit, Perturbation, Row, audit
from dpsc.relax.kernels import Cauchy, Kernel, Logistic, Normal, Ramp
from dpsc.relax.operations import (
    all_units_cost,
    at_least,
    choose,
    equal,
    floor,
    incremental_cost,
    maximum,
    minimum,
    order_gate,
    pack,
    positive_part,
    round,
    step,
    top_k,
    water_fill,
)
from dpsc.relax.readings import Exact, Smoothed, StraightThrough
from dpsc.relax.schedules import Anneal, cosine, geometric, linear

__all__ = [
    "Anneal",
    "Audit",
    "Cauchy",
    "Exact",
    "Kernel",
    "Logistic",
    "Normal",
    "Perturbation",
    "Ramp",
    "Row",
    "Smoothed",
    "StraightThrough",
    "all_units_cost",
    "at_least",
    "audit",
    "choose",
    "cosine",
    "equal",
    "floor",
    "geometric",
    "incremental_cost",
    "linear",
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
