"""Search without gradients: one verb, methods as objects, equal budgets."""

from dpsc.search.gradient_free.cma import CMA
from dpsc.search.gradient_free.cross_entropy import CrossEntropyByItem
from dpsc.search.gradient_free.differential_evolution import DifferentialEvolution
from dpsc.search.gradient_free.minimise import Evaluator, Found, Method, Trace, minimise
from dpsc.search.gradient_free.nelder_mead import NelderMead
from dpsc.search.gradient_free.random_search import RandomSearch
from dpsc.search.gradient_free.shgo import SHGO
from dpsc.search.gradient_free.tpe import TPE

__all__ = [
    "CMA",
    "SHGO",
    "TPE",
    "CrossEntropyByItem",
    "DifferentialEvolution",
    "Evaluator",
    "Found",
    "Method",
    "NelderMead",
    "RandomSearch",
    "Trace",
    "minimise",
]
