"""What may happen: futures with addresses, and laws that fill them."""

from dpsc.demand.futures import USES, Futures
from dpsc.demand.laws import clipped_normal, delays, drawn, empirical, gamma_poisson, negative_binomial, poisson

__all__ = ["USES", "Futures", "clipped_normal", "delays", "drawn", "empirical", "gamma_poisson", "negative_binomial", "poisson"]
