"""Rivals and referees: exact solvers and search without gradients, to compete with and to certify."""

from dpsc.search.average_cost import AverageCost, average_cost_optimum
from dpsc.search.orders import Referee, orders_by_milp

__all__ = ["AverageCost", "Referee", "average_cost_optimum", "orders_by_milp"]
