"""`deep_bracket`: bounds of the Lipschitz constant of a perceptron of any depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from lipbook.activations import Activation
from lipbook.lipschitz.deep.chain import Chain
from lipbook.lipschitz.deep.climbing import affine_witness, perceptron, steepest_witness
from lipbook.lipschitz.deep.gradients import Perceptron
from lipbook.lipschitz.deep.upper import (
    chain_upper,
    checked_chain,
    joint_uppers,
    product_upper,
)
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.results import LipschitzBracket, Witness, is_exact

# The share of the time limit that climbing for the lower bound may take.
_CLIMBING = 0.3


@dataclass(frozen=True)
class DeepBracket(LipschitzBracket):
    """Hold lower ≤ Lip(f, domain) ≤ upper for a perceptron of any depth.

    The attributes are those of `LipschitzBracket`. `upper` holds on the whole space, whatever the
    domain; `witness.pattern` runs through the hidden layers in order.
    """


def deep_bracket(
    layers: Any,
    activation: str | Activation | None = None,
    domain: Any = None,
    rel_gap: float = 1e-6,
    time_limit: float = 60.0,
    seed: int = 0,
    watch: Callable[[float, float], None] | None = None,
) -> DeepBracket:
    """Bracket the Lipschitz constant of f(x) = W_n σ(… σ(W_1 x + b_1) …) + b_n, Euclidean norms.

    Above: LipSDP of all layers at once, or products of bounds of one or two layers. Below: the
    steepest gradient that a search finds. As a rule the two do not meet.

    Args:
        layers: pairs (W_i, b_i), W_i (out, in), b_i (out,) or None; or a torch `nn.Sequential`.
        activation: σ; None takes the module's own, and "relu" for pairs.
        domain: None for ℝ^d, (low, high) or a `Ball`: where gradients are sampled.
        rel_gap: `exact` says whether upper ≤ (1 + rel_gap)·lower.
        time_limit: stop after about so many seconds and return the bracket so far; so does Ctrl-C.
        seed: of random starts and directions.
        watch: called with (lower, upper) whenever the bracket has narrowed.

    Returns:
        A `DeepBracket`.

    Raises:
        ValueError: the layers, the activation and the domain do not fit together.
    """
    options = Options(rel_gap=rel_gap, time_limit=time_limit, seed=seed, watch=watch)
    chain = checked_chain(layers, activation)
    network = perceptron(chain, domain)
    if len(chain.layers) == 1:
        return _result(network, product_upper(chain), "norm", affine_witness(network), options)
    upper, method = product_upper(chain), "product"
    witness: Witness | None = None
    try:
        climbing = replace(options, time_limit=_CLIMBING * options.time_limit)
        witness = steepest_witness(network, climbing)
        for found in _uppers(chain, options, upper):
            method, upper = found
            if options.watch is not None:
                options.watch(0.0 if witness is None else witness.gradient_norm, upper)
    except KeyboardInterrupt:
        pass  # the bounds so far are valid
    return _result(network, upper, method, witness, options)


def _uppers(chain: Chain, options: Options, upper: float) -> Iterator[tuple[str, float]]:
    """Yield smaller and smaller upper bounds, with the names of their methods."""
    blocks = chain_upper(chain)
    if blocks < upper:
        yield "chain", blocks
    for joint in joint_uppers(chain, options, min(upper, blocks)):
        yield "joint sdp", joint


_UPPER_BASIS = {
    "norm": "the norm of the affine map, proved from an approximate SVD with rounding bounds",
    "product": "the product of the layers' norms, each proved with rounding bounds",
    "chain": "the best product of certified SDP bounds of neighbouring layers",
    "joint sdp": "LipSDP of all layers at once, its matrix proved positive semidefinite",
}


def _result(
    network: Perceptron, upper: float, method: str, witness: Witness | None, options: Options
) -> DeepBracket:
    lower = 0.0 if witness is None else witness.gradient_norm
    return DeepBracket(
        lower=lower,
        upper=upper,
        exact=math.isfinite(upper) and is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=f"upper: {_UPPER_BASIS[method]}; lower: a gradient at the witness, rounded down",
        method=method,
        witness=witness,
        domain=network.domain,
        seconds=options.seconds,
    )
