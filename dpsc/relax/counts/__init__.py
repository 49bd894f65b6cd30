"""Counting laws, once: demand uses them, estimators differentiate through them; one family a file."""

from dpsc.relax.counts.binomial import Bernoulli, Binomial
from dpsc.relax.counts.categorical import Categorical
from dpsc.relax.counts.conditioned import Truncated, ZeroInflated
from dpsc.relax.counts.law import Law, count
from dpsc.relax.counts.poisson import NegativeBinomial, Poisson
from dpsc.relax.counts.rounded import Rounded

__all__ = ["Bernoulli", "Binomial", "Categorical", "Law", "NegativeBinomial", "Poisson", "Rounded", "Truncated", "ZeroInflated", "count"]
