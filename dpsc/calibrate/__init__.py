"""What we believe: posteriors of simulator parameters, and whether they can be trusted. Simulators arrive as callables, the batch innermost."""

from dpsc.calibrate.abc import Accepted, rejection, sequential
from dpsc.calibrate.amortised import Amortised, Simulations, amortise, warm_then_cosine
from dpsc.calibrate.descend import descend, hold_then_decay
from dpsc.calibrate.diagnostics import Uniformity, coverage_curve, covered, intervals, predictive_check, ranks, uniformity
from dpsc.calibrate.effective import Effective, Sweep, effective_by_period, effective_from_jacobian, effective_parameters
from dpsc.calibrate.ensemble import Ensemble, draw_prior, ensemble, maximum_posterior
from dpsc.calibrate.guides import Diagonal, FirmBlocks, Flow, Guide, Informed, LowRank
from dpsc.calibrate.identify import laplace_spread, silent
from dpsc.calibrate.laplace import Laplace, gauss_newton, solve
from dpsc.calibrate.linearised import Linearised, PeriodRows
from dpsc.calibrate.observations import Growth, Observations, level
from dpsc.calibrate.prior import Hierarchy, LogNormal, Marginal, Normal, Prior, Uniform
from dpsc.calibrate.simulator import Counted, Reading, Simulator, pull_back
from dpsc.calibrate.starts import start_blocks, start_diagonal, start_flow, start_informed, start_low_rank
from dpsc.calibrate.tempered import Chains, Residuals, cooling, residuals_of, tempered
from dpsc.calibrate.variational import Inference, infer

__all__ = [
    "Accepted",
    "Amortised",
    "Chains",
    "Counted",
    "Diagonal",
    "Effective",
    "Ensemble",
    "FirmBlocks",
    "Flow",
    "Growth",
    "Guide",
    "Hierarchy",
    "Inference",
    "Informed",
    "Laplace",
    "Linearised",
    "LogNormal",
    "LowRank",
    "Marginal",
    "Normal",
    "Observations",
    "PeriodRows",
    "Prior",
    "Reading",
    "Residuals",
    "Simulations",
    "Simulator",
    "Sweep",
    "Uniform",
    "Uniformity",
    "amortise",
    "cooling",
    "coverage_curve",
    "covered",
    "descend",
    "draw_prior",
    "effective_by_period",
    "effective_from_jacobian",
    "effective_parameters",
    "ensemble",
    "gauss_newton",
    "hold_then_decay",
    "infer",
    "intervals",
    "laplace_spread",
    "level",
    "maximum_posterior",
    "predictive_check",
    "pull_back",
    "ranks",
    "rejection",
    "residuals_of",
    "sequential",
    "silent",
    "solve",
    "start_blocks",
    "start_diagonal",
    "start_flow",
    "start_informed",
    "start_low_rank",
    "tempered",
    "uniformity",
    "warm_then_cosine",
]
