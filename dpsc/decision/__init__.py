"""What to do: decision layers (convex programs, closed forms) and exact combinatorial oracles; plans with bounds; order policies."""

from typing import TYPE_CHECKING, Any

from dpsc.decision.knapsack import Knapsack
from dpsc.decision.layer import DecisionLayer
from dpsc.decision.orders import BoundedOrders, Containers, OrderPlan
from dpsc.decision.rationing import Rationing
from dpsc.decision.simplex import Allocation, Portfolio

if TYPE_CHECKING:
    from dpsc.decision.convex import ConvexProgram

__all__ = ["Allocation", "BoundedOrders", "Containers", "ConvexProgram", "DecisionLayer", "Knapsack", "OrderPlan", "Portfolio", "Rationing"]


def __getattr__(name: str) -> Any:
    if name == "ConvexProgram":  # cvxpy takes a second to import: only those who need it pay
        from dpsc.decision.convex import ConvexProgram

        return ConvexProgram
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
