"""Networks of firms under shock: stocks on edges, output on nodes, whole runs with gradients."""

from dpsc.simulate.firms.entry import Entry
from dpsc.simulate.firms.extension import Extended, Extension, Moment, Shipped
from dpsc.simulate.firms.generator import draw, synthetic
from dpsc.simulate.firms.heavy_tailed import heavy_tailed
from dpsc.simulate.firms.labour import Labour
from dpsc.simulate.firms.lags import Lags
from dpsc.simulate.firms.network import Network
from dpsc.simulate.firms.ordering import Ordering, Seen, Switching, inventory_gap, replace_use
from dpsc.simulate.firms.parameters import Parameters
from dpsc.simulate.firms.prices import Prices
from dpsc.simulate.firms.production import CES, Limits, Produced, Production, leontief, partly_binding
from dpsc.simulate.firms.products import SharedCapacity
from dpsc.simulate.firms.rationing import Priority, Rationed, Rationing, firms_first, mixed, proportional, random_priority
from dpsc.simulate.firms.rebuilding import Rebuilding, destruction
from dpsc.simulate.firms.rollout import Run, rollout
from dpsc.simulate.firms.shocks import compose, concave, convex, exponential, linear, observed, piecewise
from dpsc.simulate.firms.smallest import Smallest, smallest
from dpsc.simulate.firms.step import Flow, Rules, Shock, State, start, step
from dpsc.simulate.firms.whole import NATIVE, PLAIN, Kernels

__all__ = [
    "CES",
    "NATIVE",
    "PLAIN",
    "Entry",
    "Extended",
    "Extension",
    "Flow",
    "Kernels",
    "Labour",
    "Lags",
    "Limits",
    "Moment",
    "Network",
    "Ordering",
    "Parameters",
    "Prices",
    "Priority",
    "Produced",
    "Production",
    "Rationed",
    "Rationing",
    "Rebuilding",
    "Rules",
    "Run",
    "Seen",
    "SharedCapacity",
    "Shipped",
    "Shock",
    "Smallest",
    "State",
    "Switching",
    "compose",
    "concave",
    "convex",
    "destruction",
    "draw",
    "exponential",
    "firms_first",
    "heavy_tailed",
    "inventory_gap",
    "leontief",
    "linear",
    "mixed",
    "observed",
    "partly_binding",
    "piecewise",
    "proportional",
    "random_priority",
    "replace_use",
    "rollout",
    "smallest",
    "start",
    "step",
    "synthetic",
]
