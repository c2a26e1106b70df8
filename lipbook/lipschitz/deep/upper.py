"""Upper bounds of the Lipschitz constant of a perceptron of any depth, on the whole space.

    joint SDP ≤ chain of blocks ≤ L_σ^(n−1)‖W_n‖⋯‖W_1‖ (product)

The chain cuts the n affine maps into blocks of one (its norm) or two (their `sdp_upper_bound`, σ in
between), multiplies these, and L_σ for every cut; the best of all cuts is found layer by layer. The
joint bound (`relaxation`) treats all layers at once; on random networks of three affine maps it is
about 0.6 of the best chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.deep.chain import Chain, chained, same_activation
from lipbook.lipschitz.deep.interior_point import multipliers
from lipbook.lipschitz.deep.modules import chain_of, is_module
from lipbook.lipschitz.deep.relaxation import Sector, Weights, balanced, is_proved
from lipbook.lipschitz.exact_sums import rounded
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.rounding import spectral_norm_upper, up
from lipbook.lipschitz.semidefinite.sdp import sdp_upper_bound

# The joint bound keeps about 15 matrices of the size of Q: half a gigabyte at this size.
MAX_JOINT_SIZE = 2000
# A proof costs about as much as a step of the search; on the way, one pays for a gain of 2 %.
_WORTH_PROVING = 0.98
# The last multipliers may miss positive semidefiniteness by rounding: shrink them so much.
_SHRINKING = (1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def checked_chain(layers: Any, activation: str | Activation | None) -> Chain:
    """Return the perceptron as a finished `Chain`.

    Args:
        layers: pairs (W_i, b_i), W_i (out, in), b_i (out,) or None; or a torch `nn.Sequential`.
        activation: σ; None takes the module's own, and "relu" for pairs.

    Raises:
        ValueError: layers that do not fit together, or another activation than the module's.
    """
    if not is_module(layers):
        if not isinstance(layers, Sequence):
            raise ValueError(
                "`layers` must be a list of pairs (weight, bias) or an nn.Sequential. "
                f"Got {type(layers).__name__}. Use [(W1, b1), (W2, b2)]."
            )
        return chained(layers, get_activation("relu" if activation is None else activation))
    chain = chain_of(layers)
    given = None if activation is None else get_activation(activation)
    if given is not None and chain.activation is not None:
        if not same_activation(given, chain.activation):
            raise ValueError(
                f"`activation` must be the module's own, {chain.activation.name!r}. "
                f"Got {given.name!r}. Leave it out."
            )
        return chain
    return chained(chain.layers, given or chain.activation or get_activation("relu"))


def deep_product_upper_bound(layers: Any, activation: str | Activation | None = None) -> float:
    """Bound the Lipschitz constant from above by the product of the layers' norms,
    L_σ^(n−1)‖W_n‖⋯‖W_1‖.

    Args:
        layers: pairs (W_i, b_i), or a torch `nn.Sequential` (see `checked_chain`).
        activation: σ; None takes the module's own, and "relu" for pairs.

    Returns:
        The bound, rounded up; ∞ if it exceeds all floats.

    Raises:
        ValueError: see `checked_chain`.
    """
    return product_upper(checked_chain(layers, activation))


def deep_chain_upper_bound(layers: Any, activation: str | Activation | None = None) -> float:
    """Bound the Lipschitz constant from above by the best product of bounds of one or two layers.

    Args:
        layers: pairs (W_i, b_i), or a torch `nn.Sequential` (see `checked_chain`).
        activation: σ; None takes the module's own, and "relu" for pairs.

    Returns:
        The bound, rounded up; never above `deep_product_upper_bound`.

    Raises:
        ValueError: see `checked_chain`.
    """
    return chain_upper(checked_chain(layers, activation))


def deep_sdp_upper_bound(
    layers: Any, activation: str | Activation | None = None, time_limit: float = 60.0
) -> float:
    """Bound the Lipschitz constant from above by LipSDP, one multiplier per neuron of every layer.

    Where the network is too large or the time too short for all layers at once, it is the best
    product of bounds of one or two layers.

    Args:
        layers: pairs (W_i, b_i), or a torch `nn.Sequential` (see `checked_chain`).
        activation: σ; None takes the module's own, and "relu" for pairs.
        time_limit: stop improving after about so many seconds.

    Returns:
        The bound, rounded up; never above `deep_chain_upper_bound`.

    Raises:
        ValueError: see `checked_chain`.
    """
    options = Options(time_limit=time_limit)
    chain = checked_chain(layers, activation)
    return min([upper := chain_upper(chain), *joint_uppers(chain, options, upper)])


def _matrices(chain: Chain) -> list[FloatArray]:
    return [weight for weight, _ in chain.layers]


def _activation(chain: Chain) -> Activation:
    return get_activation("relu") if chain.activation is None else chain.activation


def product_upper(chain: Chain) -> float:
    """Return an upper bound of L_σ^(n−1)‖W_n‖⋯‖W_1‖."""
    factors = [_norm(weight) for weight in _matrices(chain)]
    return _product([*factors, *[slope_magnitude(_activation(chain))] * (len(factors) - 1)])


def chain_upper(chain: Chain) -> float:
    """Return the least product of bounds over all cuts into blocks of one or two affine maps."""
    matrices, activation = _matrices(chain), _activation(chain)
    steepness = slope_magnitude(activation)
    norms = [_norm(weight) for weight in matrices]
    best = [norms[0]]
    for i in range(1, len(matrices)):
        pair = sdp_upper_bound(matrices[i - 1], matrices[i], activation)
        before = [best[i - 2], steepness] if i > 1 else []
        best.append(min(_product([best[i - 1], steepness, norms[i]]), _product([*before, pair])))
    return best[-1]


def _norm(matrix: FloatArray) -> float:
    return float(spectral_norm_upper(matrix))


def _product(factors: list[float]) -> float:
    """Return the product, rounded up."""
    if np.inf in factors:
        return np.inf
    product = Fraction(1)
    for factor in factors:
        product *= Fraction(factor)
    try:
        return rounded(product, 1)
    except OverflowError:
        return np.inf


def joint_uppers(chain: Chain, options: Options, below: float = np.inf) -> Iterator[float]:
    """Yield smaller and smaller proved bounds from LipSDP of all layers at once, all under `below`.

    Nothing is yielded where that is out of reach: the network too large, or entries so far apart
    that they cannot be balanced without loss.
    """
    weights = balanced(_matrices(chain))
    if weights is None:
        yield 0.0
        return
    size = sum(matrix.shape[1] for matrix in weights.matrices)
    if not weights.exact or len(weights.matrices) < 2 or size > MAX_JOINT_SIZE:
        return
    sector = Sector.of(_activation(chain))
    search = multipliers(weights, sector)
    found, ended = next(search, None), False
    while found is not None and not ended:
        now = found
        found = next(search, None)
        ended = found is None or options.out_of_time
        if _bound(weights, now[1]) < below * (1.0 if ended else _WORTH_PROVING):
            proved = _proved(weights, sector, *now)
            if proved < below:
                below = proved
                yield proved


def _proved(weights: Weights, sector: Sector, multiplier: FloatArray, inverse: float) -> float:
    """Return the bound that these multipliers prove, shrunk a little towards the last layers.

    λ of layer i times (1 − η)^i leaves (1 − √(1 − η)) of the diagonal to spare (κ ≥ 0): cross terms
    shrink by √(1 − η) against it, and those with κ by 1 − η.
    """
    depth = np.repeat(np.arange(1, len(weights.matrices)), weights.hidden)
    for share in _SHRINKING:
        shrunk = multiplier * (1.0 - share) ** depth
        scaled = inverse * (1.0 - share) ** len(weights.matrices)
        if is_proved(weights, sector, shrunk, scaled):
            return _bound(weights, scaled)
    return np.inf


def _bound(weights: Weights, inverse: float) -> float:
    """Return 2^e/√inverse, rounded up."""
    root = up(1.0 / np.sqrt(inverse), 2)
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.ldexp(root, weights.exponent), np.inf))
