"""The book's numbered statements as code: hypotheses that are checked, bounds, verdicts."""

from lipbook.theorems.descent import EventualDecay, PathBound
from lipbook.theorems.verdict import Hypothesis, Verdict

__all__ = ["EventualDecay", "Hypothesis", "PathBound", "Verdict"]
