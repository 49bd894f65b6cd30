"""Estimators of gradients of random integers whose law is trained: `estimate(program, law, noise, estimator)`; one a file."""

from dpsc.relax.estimators.difference import Difference
from dpsc.relax.estimators.disarm import DisARM
from dpsc.relax.estimators.estimator import Estimator, estimate
from dpsc.relax.estimators.expectation import ExactExpectation
from dpsc.relax.estimators.gumbel import GumbelSoftmax
from dpsc.relax.estimators.perturb import PerturbAndMAP
from dpsc.relax.estimators.rebar import Rebar
from dpsc.relax.estimators.score import Score

__all__ = ["Difference", "DisARM", "Estimator", "ExactExpectation", "GumbelSoftmax", "PerturbAndMAP", "Rebar", "Score", "estimate"]
