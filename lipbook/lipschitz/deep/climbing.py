"""Lower bounds for perceptrons of any depth: the steepest of some points, and climbing."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.deep.chain import Chain
from lipbook.lipschitz.deep.gradients import Perceptron, gradient_norms_lower, witness_at
from lipbook.lipschitz.deep.upper import checked_chain
from lipbook.lipschitz.domains import Ball, box_arrays, checked_domain
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.regions import checked_points, drawn_points, project
from lipbook.lipschitz.results import Witness
from lipbook.lipschitz.rounding import spectral_norm_lower

STARTS = 24
SAMPLES = 2048
ROUNDS = 120
# Lengths tried along one direction, on both sides, as powers of 2 of the climber's own length.
_REACH = np.array([-6.0, -3.0, -1.0, 0.0, 1.0])
# Multiplications that one climb may cost: about ten seconds of one core.
_WORK = 2e11


def deep_sampled_lower_bound(
    layers: Any, points: Any, activation: str | Activation | None = None, domain: Any = None
) -> float:
    """Bound the Lipschitz constant from below by the steepest gradient among points, max ‖J(x)‖_op.

    Points too close to a kink are dropped.

    Args:
        layers: pairs (W_i, b_i), or a torch `nn.Sequential` (see `checked_chain`).
        points: x, (n, d), in the domain.
        activation: σ; None takes the module's own, and "relu" for pairs.
        domain: None, (low, high) or a `Ball`.

    Returns:
        The bound, rounded down; 0 if every point was dropped.

    Raises:
        ValueError: the network, the domain or the points do not fit together.
    """
    network = perceptron(checked_chain(layers, activation), domain)
    checked = checked_points("points", points, network.front)
    return float(gradient_norms_lower(network, checked).max())


def deep_ascent_lower_bound(
    layers: Any,
    activation: str | Activation | None = None,
    domain: Any = None,
    seed: int = 0,
    time_limit: float = 60.0,
) -> float:
    """Bound the Lipschitz constant from below by searching for steep gradients along random lines.

    Args:
        layers: pairs (W_i, b_i), or a torch `nn.Sequential` (see `checked_chain`).
        activation: σ; None takes the module's own, and "relu" for pairs.
        domain: None, (low, high) or a `Ball`.
        seed: of starts and directions.
        time_limit: stop after about so many seconds.

    Returns:
        The bound, rounded down.

    Raises:
        ValueError: the network and the domain do not fit together.
    """
    network = perceptron(checked_chain(layers, activation), domain)
    witness = steepest_witness(network, Options(seed=seed, time_limit=time_limit))
    return 0.0 if witness is None else witness.gradient_norm


def perceptron(chain: Chain, domain: Any) -> Perceptron:
    """Return the network with its domain, checked."""
    activation = get_activation("relu") if chain.activation is None else chain.activation
    checked = checked_domain(domain, chain.layers[0][0].shape[1])
    return Perceptron(chain.layers, activation, checked)


def affine_witness(network: Perceptron) -> Witness:
    """Return the witness of one affine map: its gradient is the same everywhere."""
    (point,) = drawn_points(network.front, 1, 0)
    norm = float(spectral_norm_lower(network.layers[0][0]))
    return Witness(tuple(float(v) for v in point), None, norm)


def steepest_witness(network: Perceptron, options: Options) -> Witness | None:
    """Return the steepest place that climbing finds, if any; so far, on Ctrl-C.

    Each climber tries points along one direction a round, ten at a time: random ones, and every
    third where the last success lay. Its length doubles with a success at the far end and halves
    without one.
    """
    generator = np.random.default_rng([options.seed, 2])
    points = drawn_points(network.front, SAMPLES, options.seed)
    norms = gradient_norms_lower(network, points)
    best = np.argsort(-norms, kind="stable")[:STARTS]
    points, norms = points[best], norms[best]
    lengths = np.full(len(points), _first_length(network, points))
    steps = np.concatenate([-(2.0**_REACH), 2.0**_REACH])
    last = np.zeros_like(points)
    try:
        for index in range(_rounds(network)):
            if options.out_of_time:
                break
            directions = generator.standard_normal(points.shape)
            directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
            if index % 3 == 2:
                directions = np.where(np.any(last, axis=1, keepdims=True), last, directions)
            moves = lengths[:, None, None] * steps[:, None] * directions[:, None, :]
            tried = project((points[:, None] + moves).reshape(-1, points.shape[1]), network.front)
            reached = gradient_norms_lower(network, tried).reshape(len(points), -1)
            chosen = reached.argmax(axis=1)
            better = reached.max(axis=1) > norms
            norms = np.where(better, reached.max(axis=1), norms)
            candidates = tried.reshape(len(points), len(steps), -1)[range(len(points)), chosen]
            points = np.where(better[:, None], candidates, points)
            last = np.where(better[:, None], directions, 0.0)
            far = better & (np.abs(steps[chosen]) >= 1.0)
            lengths = np.clip(lengths * np.where(far, 2.0, 0.7), 1e-150, 1e120)
    except KeyboardInterrupt:
        pass  # what has been found so far is a valid lower bound
    return witness_at(network, points[int(norms.argmax())]) if norms.max() > 0.0 else None


def _rounds(network: Perceptron) -> int:
    """Return how many rounds are affordable."""
    outputs = len(network.layers[-1][0])
    cost = sum(2 * weight.size * (1 + outputs) for weight, _ in network.layers)
    return int(np.clip(_WORK / (cost * STARTS * 2 * len(_REACH)), 4, ROUNDS))


def _first_length(network: Perceptron, points: FloatArray) -> float:
    """Return the size of the domain, or of the cloud of starting points."""
    if isinstance(network.domain, Ball):
        return network.domain.radius
    box = box_arrays(network.domain, points.shape[1])
    if box is not None:
        return float(np.linalg.norm(box[1] - box[0])) / 4.0
    spread = np.median(np.linalg.norm(points, axis=1))
    return float(np.clip(spread, 1e-100, 1e100))
