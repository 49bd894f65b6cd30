"""Rivals and referees: exact solvers and search without gradients, to compete with and to certify."""

from dpsc.search.average_cost import AverageCost, average_cost_optimum
from dpsc.search.economic_order_quantity import DisruptedSupply, EconomicOrderQuantity, LotSize, UncertainYield
from dpsc.search.finite_horizon import FiniteHorizon, HorizonPlan
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
from dpsc.search.guaranteed_service import GuaranteedService, ServicePlan
from dpsc.search.integers import BestInteger, integer_box_optimum
from dpsc.search.joint_replenishment import JointPlan, JointReplenishment
from dpsc.search.lost_sales import LostSales, capped_base_stock
from dpsc.search.newsvendor import BaseStock, NormalNewsvendor, newsvendor_costs
from dpsc.search.order_up_to import OrderUpTo, OrderUpToCost, power_approximation
from dpsc.search.orders import Referee, orders_by_milp
from dpsc.search.polish import Lattice, Polished, polish, polish_together
from dpsc.search.reorder_quantity import NormalReorder, PoissonReorder, ReorderQuantity
from dpsc.search.serial import SerialCost, serial_cost
from dpsc.search.wagner_whitin import LotPlan, plan_cost, wagner_whitin

__all__ = [
    "CMA",
    "SHGO",
    "TPE",
    "AverageCost",
    "BaseStock",
    "BestInteger",
    "CrossEntropyByItem",
    "DifferentialEvolution",
    "DisruptedSupply",
    "EconomicOrderQuantity",
    "FiniteHorizon",
    "Found",
    "GuaranteedService",
    "HorizonPlan",
    "JointPlan",
    "JointReplenishment",
    "Lattice",
    "LostSales",
    "LotPlan",
    "LotSize",
    "Method",
    "NelderMead",
    "NormalNewsvendor",
    "NormalReorder",
    "OrderUpTo",
    "OrderUpToCost",
    "PoissonReorder",
    "Polished",
    "RandomSearch",
    "Referee",
    "ReorderQuantity",
    "SerialCost",
    "ServicePlan",
    "UncertainYield",
    "average_cost_optimum",
    "capped_base_stock",
    "integer_box_optimum",
    "minimise",
    "newsvendor_costs",
    "orders_by_milp",
    "plan_cost",
    "polish",
    "polish_together",
    "power_approximation",
    "serial_cost",
    "wagner_whitin",
]
