"""Lipschitz constants of two-layer networks: lower bounds, exact values, upper bounds."""

from lipbook.lipschitz.ascent import ascent_lower_bound, sampled_lower_bound, sampled_witness
from lipbook.lipschitz.bracketing import bracket
from lipbook.lipschitz.branching.solver import exact_by_branching
from lipbook.lipschitz.deep import (
    DeepBracket,
    deep_ascent_lower_bound,
    deep_bracket,
    deep_product_upper_bound,
    deep_sampled_lower_bound,
    deep_sdp_upper_bound,
)
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
from lipbook.lipschitz.results import Certificate, LipschitzBracket, Witness
from lipbook.lipschitz.semidefinite.sdp import (
    SdpBracket,
    sdp_bracket,
    sdp_upper_bound,
    sdp_upper_bounds,
)
from lipbook.lipschitz.sort import ExactConstants, exact_piecewise_linear
from lipbook.lipschitz.sweeping.sweep import exact_two_inputs
from lipbook.lipschitz.verification import Verification, verify

__all__ = [
    "Ball",
    "Certificate",
    "DeepBracket",
    "ExactConstants",
    "LipschitzBracket",
    "LipschitzBrackets",
    "SdpBracket",
    "Verification",
    "Witness",
    "ascent_lower_bound",
    "bracket",
    "brackets",
    "centred_upper_bound",
    "deep_ascent_lower_bound",
    "deep_bracket",
    "deep_product_upper_bound",
    "deep_sampled_lower_bound",
    "deep_sdp_upper_bound",
    "exact_by_branching",
    "exact_piecewise_linear",
    "exact_two_inputs",
    "formal_upper_bound",
    "path_norm_upper_bound",
    "pattern_upper_bound",
    "product_upper_bound",
    "product_upper_bounds",
    "sampled_lower_bound",
    "sampled_witness",
    "sdp_bracket",
    "sdp_upper_bound",
    "sdp_upper_bounds",
    "verify",
]
