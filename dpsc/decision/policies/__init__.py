"""Order policies: from the state of a world to what is wanted. Each is final; users subclass `dpsc.types.Policy` with one method."""

from dpsc.decision.policies.base_stock import BaseStock, CappedBaseStock, ConstantOrder, base_stock_order
from dpsc.decision.policies.echelon import EchelonBaseStock, allocated, echelon_position
from dpsc.decision.policies.kick_start import KickStart
from dpsc.decision.policies.layered import LayerPolicy
from dpsc.decision.policies.neural import NeuralLevels
from dpsc.decision.policies.newsvendor import QuantileNewsvendor
from dpsc.decision.policies.quantity import Quantity
from dpsc.decision.policies.reorder import OrderUpTo, PeriodicReorder, ReorderPoint

__all__ = [
    "BaseStock",
    "CappedBaseStock",
    "ConstantOrder",
    "EchelonBaseStock",
    "KickStart",
    "LayerPolicy",
    "NeuralLevels",
    "OrderUpTo",
    "PeriodicReorder",
    "QuantileNewsvendor",
    "Quantity",
    "ReorderPoint",
    "allocated",
    "base_stock_order",
    "echelon_position",
]
