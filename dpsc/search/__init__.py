"""Rivals and referees: exact solvers and search without gradients, to compete with and to certify."""

from dpsc.search.average_cost import AverageCost, average_cost_optimum
from dpsc.search.gradient_free import (
    CMA,
    SHGO,
    TPE,
    CrossEntropyByItem,
    DifferentialEvolution,
    Found,
    Method,
    NelderMead,
    RandomSearch,
    minimise,
)
from dpsc.search.integers import BestInteger, integer_box_optimum
from dpsc.search.lost_sales import LostSales, capped_base_stock
from dpsc.search.orders import Referee, orders_by_milp
from dpsc.search.polish import Lattice, Polished, polish, polish_together
from dpsc.search.serial import SerialCost, serial_cost

__all__ = [
    "CMA",
    "SHGO",
    "TPE",
    "AverageCost",
    "BestInteger",
    "CrossEntropyByItem",
    "DifferentialEvolution",
    "Found",
    "Lattice",
    "LostSales",
    "Method",
    "NelderMead",
    "Polished",
    "RandomSearch",
    "Referee",
    "SerialCost",
    "average_cost_optimum",
    "capped_base_stock",
    "integer_box_optimum",
    "minimise",
    "orders_by_milp",
    "polish",
    "polish_together",
    "serial_cost",
]
