"""Lipschitz constants of two-layer networks: lower bounds, exact values, upper bounds."""

from lipbook.lipschitz.ascent import ascent_lower_bound, sampled_lower_bound, sampled_witness
from lipbook.lipschitz.bracketing import bracket
from lipbook.lipschitz.domains import Ball
from lipbook.lipschitz.ensembles import LipschitzBrackets, brackets
from lipbook.lipschitz.product import (
    centred_upper_bound,
    formal_upper_bound,
    path_norm_upper_bound,
    pattern_upper_bound,
    product_upper_bound,
    product_upper_bounds,
)
from lipbook.lipschitz.results import LipschitzBracket, Witness
from lipbook.lipschitz.sort import ExactConstants, exact_piecewise_linear

__all__ = [
    "Ball",
    "ExactConstants",
    "LipschitzBracket",
    "LipschitzBrackets",
    "Witness",
    "ascent_lower_bound",
    "bracket",
    "brackets",
    "centred_upper_bound",
    "exact_piecewise_linear",
    "formal_upper_bound",
    "path_norm_upper_bound",
    "pattern_upper_bound",
    "product_upper_bound",
    "product_upper_bounds",
    "sampled_lower_bound",
    "sampled_witness",
]
