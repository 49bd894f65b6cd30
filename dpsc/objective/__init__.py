"""What a decision is worth: regret and the losses that train on it, expected costs, risk measures."""

from dpsc.objective.losses import DecisionLoss, SPOPlus
from dpsc.objective.newsvendor import interpolated, newsvendor_table, poisson_pmf
from dpsc.objective.regret import regret, relative_regret
from dpsc.objective.risk import CVaR, Entropic, Mean, Quantile, RiskMeasure, WorstCase

__all__ = [
    "CVaR",
    "DecisionLoss",
    "Entropic",
    "Mean",
    "Quantile",
    "RiskMeasure",
    "SPOPlus",
    "WorstCase",
    "interpolated",
    "newsvendor_table",
    "poisson_pmf",
    "regret",
    "relative_regret",
]
