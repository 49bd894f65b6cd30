"""Any parametrised convex problem as a decision layer. Only this folder imports cvxpy and cvxpylayers."""

from dpsc.decision.convex.program import ConvexProgram

__all__ = ["ConvexProgram"]
