"""Tell a person: what a run found, what was promised, and everything needed to repeat it."""

from dpsc.report.expected import check_rows, compare
from dpsc.report.learned import load_learned
from dpsc.report.outcome import Outcome, Section
from dpsc.report.record import RunRecord

__all__ = ["Outcome", "RunRecord", "Section", "check_rows", "compare", "load_learned"]
