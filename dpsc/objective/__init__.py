"""What a decision is worth: regret and the losses that train on it, expected costs, risk measures."""

from dpsc.objective.intervals import Interval, mean_interval, quantile_interval
from dpsc.objective.inventory import Costs, breakdown, item_cost, path_cost
from dpsc.objective.losses import DecisionLoss, SPOPlus
from dpsc.objective.multipliers import Multipliers, constrained, cycle_service, fill_rate
from dpsc.objective.newsvendor import interpolated, newsvendor_table, poisson_pmf
from dpsc.objective.normal_loss import normal_loss, normal_second_loss
from dpsc.objective.regret import regret, relative_regret
from dpsc.objective.risk import CVaR, Entropic, Mean, Quantile, RiskMeasure, WorstCase

__all__ = [
    "CVaR",
    "Costs",
    "DecisionLoss",
    "Entropic",
    "Interval",
    "Mean",
    "Multipliers",
    "Quantile",
    "RiskMeasure",
    "SPOPlus",
    "WorstCase",
    "breakdown",
    "constrained",
    "cycle_service",
    "fill_rate",
    "interpolated",
    "item_cost",
    "mean_interval",
    "newsvendor_table",
    "normal_loss",
    "normal_second_loss",
    "path_cost",
    "poisson_pmf",
    "quantile_interval",
    "regret",
    "relative_regret",
]
