"""Lipschitz bounds of perceptrons of any depth."""

from lipbook.lipschitz.deep.bracketing import DeepBracket, deep_bracket
from lipbook.lipschitz.deep.chain import Chain, leaky_relu, same_activation
from lipbook.lipschitz.deep.climbing import deep_ascent_lower_bound, deep_sampled_lower_bound
from lipbook.lipschitz.deep.upper import (
    deep_chain_upper_bound,
    deep_product_upper_bound,
    deep_sdp_upper_bound,
)

__all__ = [
    "Chain",
    "DeepBracket",
    "deep_ascent_lower_bound",
    "deep_bracket",
    "deep_chain_upper_bound",
    "deep_product_upper_bound",
    "deep_sampled_lower_bound",
    "deep_sdp_upper_bound",
    "leaky_relu",
    "same_activation",
]
