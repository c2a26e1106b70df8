"""Bounded activations at any depth: every finite mass bounds every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import Polynomial

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun
from lipbook.losses import Huber
from lipbook.theorems.after_path import mass_since
from lipbook.theorems.bounded_activation import Bounding
from lipbook.theorems.deep_path import layer_slopes, weight_norms
from lipbook.theorems.deep_setting import DeepSetting


@dataclass(frozen=True)
class DeepBounded(Bounding[DeepRun]):
    """Bound the Lipschitz constant by the mass, for |σ| ≤ M, at any depth; MSE and Huber.

    Γ_0 = √(1 + B_x²), Γ_l = √(1 + m_lM²), Γ = Γ_{L−1}; E = ‖(W_L, b_L)‖ + Y/Γ at T₀;
    P = (E/Γ)(e^{Γ²S} − 1), under Huber min(δS, P). With the polynomials X_L(p) = ‖W_L‖_op + Γp and
    X_l' = Γ_{l−1}·L_σ^{L−l}·Π_{j>l} X_j, X_l(0) = ‖W_l‖_op: Lip(f_t) ≤ L_σ^{L−1}·Π X_l(P).

    Attributes:
        setting: gives Γ_l, Y and the loss.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-deep-bounded`.
    """

    setting: DeepSetting
    start: int = 0

    label = "thm-deep-bounded"
    budget = "thm-deep-budget"
    title = "A bounded activation, at any depth"

    @property
    def gammas(self) -> tuple[float, ...]:
        """(Γ_0, …, Γ_{L−1}).

        Raises:
            HypothesisError: σ is unbounded.
        """
        bound = self.largest_value()
        hidden = (float(np.hypot(1.0, np.sqrt(m) * bound)) for m in self.setting.hidden_widths)
        return (float(np.hypot(1.0, self.setting.input_radius)), *hidden)

    def pull_path(self, start: DeepEnsemble, mass: np.ndarray) -> np.ndarray:
        """Return P ≥ Σα_tλ_t, (..., K), rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).

        Raises:
            HypothesisError: σ is unbounded.
        """
        gamma = self.gammas[-1]
        blocks = torch.cat([start.weights[-1].flatten(1), start.biases[-1]], dim=1)
        last = blocks.norm(dim=1).cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            first = last + self.setting.target_rms / gamma
            pull = first / gamma * np.expm1(gamma**2 * mass)
            if isinstance(self.setting.loss, Huber):
                pull = np.minimum(pull, self.setting.loss.delta * mass)
        return np.asarray(pull)

    def layer_bounds(self, norms: np.ndarray) -> list[Polynomial]:
        """Return X_1, …, X_L, polynomials in the pull; their degrees double towards the input.

        Args:
            norms: ‖W_l‖_op at T₀ of one network, (L,).

        Raises:
            HypothesisError: σ is unbounded.
        """
        gammas, slope = self.gammas, self.setting.activation.lipschitz
        found = [Polynomial([norms[-1], gammas[-1]])]
        above = found[0]
        for layer in range(len(norms) - 1, 0, -1):
            speed = gammas[layer - 1] * slope ** (len(norms) - layer) * above
            found.insert(0, speed.integ(k=float(norms[layer - 1])))
            above = above * found[0]
        return found

    def bound(self, start: DeepEnsemble, mass: np.ndarray) -> np.ndarray:
        """Return the bound of the Lipschitz constant after a mass S, rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).

        Raises:
            HypothesisError: σ is unbounded.
        """
        pull, norms = self.pull_path(start, mass), weight_norms(start)
        product = np.empty_like(pull)
        with np.errstate(over="ignore", invalid="ignore"):
            for network in range(start.size):
                layers = [x(pull[..., network]) for x in self.layer_bounds(norms[:, network])]
                product[..., network] = layer_slopes(start) * np.prod(layers, axis=0)
        # Beyond the largest double some terms are infinite, and nothing more is said.
        return np.where(np.isnan(product) & ~np.isnan(mass), np.inf, product)

    def bounds(self, run: DeepRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.

        Raises:
            HypothesisError: σ is unbounded.
        """
        start = run.checkpoints[run.recorded(self.start)]
        return self.bound(start, mass_since(run, self.start))
