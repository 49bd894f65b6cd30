"""The one error tree. Every message names the thing, what was expected and what came."""


class DpscError(Exception):
    """Root of every error that dpsc raises on purpose."""


class ShapeError(DpscError, ValueError):
    """A tensor has the wrong shape."""


class InputError(DpscError, ValueError):
    """A value is outside its domain: NaN, negative, an empty set, an unknown name."""


class DtypeError(DpscError, TypeError):
    """A tensor has the wrong dtype or device, or is no tensor at all."""


class ProblemError(DpscError, ValueError):
    """A decision problem is not of the form that the component needs (not DPP, not affine ...)."""


class SolveError(DpscError, RuntimeError):
    """Rows of a batch could not be solved; raised only where the caller asked for it, or no row is left."""


class NegativeRegretError(DpscError, ArithmeticError):
    """A regret is below zero beyond rounding: the decision beat the optimum, so one of the two is wrong."""


class ExactJumpError(DpscError, RuntimeError):
    """A backward pass reached a jump that is read exactly, where no gradient exists."""


class DivergenceError(DpscError, ArithmeticError):
    """A fit left the finite numbers; the message names the step, the parameter block and where the last good state lies."""


class DataError(DpscError, RuntimeError):
    """A data set is damaged or does not hold what its reader expects."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A data file is not where it was looked for."""

    def __str__(self) -> str:  # FileNotFoundError would otherwise quote a single argument
        return str(self.args[0]) if self.args else ""


class ConfigError(DpscError, ValueError):
    """A configuration names something that does not exist or is not allowed."""


class ObjectiveMismatchWarning(UserWarning):
    """A loss scores decisions by another objective than the one their layer optimises."""


class ZeroGradientWarning(UserWarning):
    """A gradient that was asked for is zero almost everywhere (a linear program, an integer program)."""


class InaccurateWarning(UserWarning):
    """Rows were solved less accurately than the gradient promise needs."""
