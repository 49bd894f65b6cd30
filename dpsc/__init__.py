"""dpsc: differentiable programming of supply chains."""

__version__ = "0.1.0"
