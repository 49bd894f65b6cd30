"""What a decision is worth: regret and the losses that train on it."""

from dpsc.objective.losses import DecisionLoss, SPOPlus
from dpsc.objective.newsvendor import interpolated, newsvendor_table, poisson_pmf
from dpsc.objective.regret import regret, relative_regret

__all__ = ["DecisionLoss", "SPOPlus", "interpolated", "newsvendor_table", "poisson_pmf", "regret", "relative_regret"]
