"""The book's numbered statements as code: hypotheses that are checked, bounds, verdicts."""

from lipbook.theorems.descent import EventualDecay, PathBound
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.setting import Setting
from lipbook.theorems.steepness import (
    HalfAndHalf,
    SortedCells,
    SteepestGradient,
    ladder,
    ladder_ratios,
)
from lipbook.theorems.verdict import Hypothesis, Verdict

__all__ = [
    "EventualDecay",
    "HalfAndHalf",
    "Hypothesis",
    "HypothesisError",
    "PathBound",
    "Setting",
    "SortedCells",
    "SteepestGradient",
    "Verdict",
    "ladder",
    "ladder_ratios",
]
