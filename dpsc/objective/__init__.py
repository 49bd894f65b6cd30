"""What a decision is worth: regret and the losses that train on it."""

from dpsc.objective.losses import DecisionLoss, SPOPlus
from dpsc.objective.regret import regret, relative_regret

__all__ = ["DecisionLoss", "SPOPlus", "regret", "relative_regret"]
