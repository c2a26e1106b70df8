"""The chain of layers along a path: what the decay condition promises at any depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun
from lipbook.schedules import RateFunction
from lipbook.theorems.after_path import FromStart, mass_since
from lipbook.theorems.descent import (
    WholePath,
    fall_path,
    finite_steps,
    short_steps,
    tail_hypotheses,
)
from lipbook.theorems.verdict import Hypothesis

# Halvings of the logarithm of ν, more than doubles can tell apart.
HALVINGS = 80


def weight_norms(networks: DeepEnsemble) -> np.ndarray:
    """Return ‖W_l‖_op, (L, K)."""
    return networks.weight_norms().cpu().numpy()


def layer_slopes(networks: DeepEnsemble) -> float:
    """Return L_σ^{L−1}, what the activations may add."""
    return float(networks.activation.lipschitz ** (networks.depth - 1))


def chain(networks: DeepEnsemble) -> np.ndarray:
    """Return L_σ^{L−1}Π‖W_l‖_op, (K,), rounded to nearest."""
    return layer_slopes(networks) * weight_norms(networks).prod(axis=0)


def largest_product(norms: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return max{Π(x_l + e_l) : e_l ≥ 0, Σe_l² ≤ e²}, from above.

    The maximum has e_l(x_l + e_l) = ν for every l. For the ν found, which misses Σe_l² = e² by a
    rounding, the concavity of the logarithm bounds the maximum by Π(x_l + e_l)·exp(E(e − E)/ν),
    E = (Σe_l²)^½.

    Args:
        norms: x_l ≥ 0, (L, K).
        path: e ≥ 0, (..., K), possibly infinite.

    Returns:
        Shaped like `path`, rounded to nearest.
    """
    x = norms.reshape(len(norms), *[1] * (path.ndim - 1), norms.shape[1])
    e = np.where(np.isfinite(path) & (path > 0), path, 1.0)
    # In logarithms, by √ν and in shares of e: squares may leave the range of doubles.
    low = np.log(e) - 0.5 * np.log(len(norms))
    high = 0.5 * (np.log(e) + np.log(x.max(axis=0) + e))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        far = np.sum((_moves(x, np.exp(middle)) / e) ** 2, axis=0) > 1.0
        low, high = np.where(far, low, middle), np.where(far, middle, high)
    root = np.exp(high)
    moves = _moves(x, root)
    length = e * np.sqrt(np.sum((moves / e) ** 2, axis=0))
    with np.errstate(over="ignore"):
        missed = np.exp(((e - length) / root) * (length / root))
        largest = np.prod(x + moves, axis=0) * missed
    found = np.where(path > 0, np.where(np.isinf(path), np.inf, largest), np.prod(x, axis=0))
    return np.asarray(np.where(np.isnan(path), np.nan, found))


def _moves(x: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return the e ≥ 0 with e(x + e) = ν, √ν given, without cancellation."""
    return np.asarray(2.0 * root * (root / (x + np.hypot(x, 2.0 * root))))


def chain_after(start: DeepEnsemble, path: np.ndarray) -> np.ndarray:
    """Return L_σ^{L−1}·max Π(‖W_l‖_op + e_l), Σe_l² ≤ e²: a bound after a path of length e.

    Args:
        start: the networks before it.
        path: e, (..., K).

    Returns:
        Shaped like `path`, rounded to nearest; it bounds the constant on every domain.

    References:
        The book's theorem `thm-deep-path`.
    """
    return layer_slopes(start) * largest_product(weight_norms(start), path)


@dataclass(frozen=True)
class DeepPath(WholePath[DeepRun]):
    """Bound the Lipschitz constant by the start and the path of each weight matrix.

    Lip(f_t) ≤ L_σ^{L−1}·Π(‖W_l‖_op + ℓ^{W_l}_t), norms at the start, on the whole space.

    References:
        The book's theorem `thm-deep-path`.
    """

    label = "thm-deep-path"
    title = "Every layer moves no further than its path"

    def bound(self, run: DeepRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), rounded to nearest.

        Args:
            run: a training run.
        """
        start = run.checkpoints[0]
        product = np.full(run.mass.shape, layer_slopes(start))
        for layer, norm in enumerate(weight_norms(start), 1):
            product = product * (norm + run.block_path[f"weight {layer}"])
        return product


@dataclass(frozen=True)
class DeepAdaptive(FromStart[DeepRun]):
    """Bound the Lipschitz constant where each step is at most C·ρ(t − T₀) long, at any depth.

    Lip(f_t) ≤ L_σ^{L−1}·max Π(‖W_l‖_op + e_l), Σe_l² ≤ G², for every t ≥ T₀, with norms at T₀ and
    G = C·Σρ; any data, loss and activation.

    Attributes:
        length: C, in the unit of the weights.
        rate_function: ρ.
        start: T₀, a recorded step of the run.

    References:
        The book's corollary `cor-deep-adaptive`.
    """

    length: float
    rate_function: RateFunction
    start: int = 0

    label = "cor-deep-adaptive"
    title = "A rate divided by the gradient, at any depth"

    def hypotheses(self, run: DeepRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        finite_sum = bool(self.rate_function.tail(0) < np.inf)
        return (
            finite_steps(run, network),
            Hypothesis("H2", "the rate function has a finite sum", finite_sum),
            short_steps(run, network, self.length, self.rate_function, self.start),
        )

    def last_bound(self, run: DeepRun, network: int) -> float:
        """Return the bound for ever."""
        start = run.checkpoints[run.recorded(self.start)]
        total = np.full(start.size, self.length * self.rate_function.tail(0))
        return float(chain_after(start, total)[network])


@dataclass(frozen=True)
class DeepEventualDecay(FromStart[DeepRun]):
    """Bound the Lipschitz constant from step T₀ on by the state there and the mass to come.

    Lip(f_t) ≤ L_σ^{L−1}·max Π(‖W_l‖_op + e_l), Σe_l² ≤ 2R_{T₀}S, for every t ≥ T₀, with S the mass
    of all rates from T₀ on, if each step lowers the risk by half the rate times the squared
    gradient.

    Attributes:
        start: T₀, a recorded step of the run.

    References:
        The book's corollary `cor-deep-eventual`.
    """

    start: int

    label = "cor-deep-eventual"
    title = "Eventual decay at any depth"

    def bounds(self, run: DeepRun) -> np.ndarray:
        """Return the bound at every step from the mass spent until then, (T+1, K), NaN before T₀.

        Args:
            run: a training run.
        """
        start = run.checkpoints[run.recorded(self.start)]
        return chain_after(start, fall_path(run, self.start, mass_since(run, self.start)))

    def hypotheses(self, run: DeepRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        return tail_hypotheses(run, network, self.start)

    def last_bound(self, run: DeepRun, network: int) -> float:
        """Return the bound for all steps to come."""
        start = run.checkpoints[run.recorded(self.start)]
        return float(chain_after(start, fall_path(run, self.start))[network])
