"""A certificate that a deep perceptron has at one step, carried to all later ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun
from lipbook.theorems.after_path import FromStart, mass_since
from lipbook.theorems.deep_path import chain, chain_after
from lipbook.theorems.descent import fall_path, tail_hypotheses
from lipbook.theorems.verdict import Hypothesis


def carried(start: DeepEnsemble, certificates: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return C + L_σ^{L−1}(Π(e) − Π‖W_l‖_op): a bound after a path of length e.

    Args:
        start: the networks before it.
        certificates: C, upper bounds of max ‖W_L D_{L−1}⋯D_1 W_1‖ over all slopes, (K,).
        path: e, (..., K).

    Returns:
        Shaped like `path`, rounded to nearest; never above the chain alone.

    References:
        The book's theorem `thm-deep-promise`.
    """
    product = chain(start)
    return np.asarray(np.minimum(certificates, product) + (chain_after(start, path) - product))


@dataclass(frozen=True)
class DeepPromise(FromStart[DeepRun]):
    """Bound the Lipschitz constant from T₀ on by a certificate there and the mass to come.

    Lip(f_t) ≤ C + L_σ^{L−1}(Π(e) − Π‖W_l‖_op), e = √(2R_{T₀}S), under the hypotheses of eventual
    decay. C is any upper bound that only uses that the slopes lie in [s_min, s_max]: products of
    certified blocks, LipSDP of all layers.

    Attributes:
        start: T₀, a recorded step of the run.
        certificates: C of each network at T₀.

    References:
        The book's theorem `thm-deep-promise`.
    """

    start: int
    certificates: tuple[float, ...]

    label = "thm-deep-promise"
    title = "A certificate carried at any depth"

    def bounds(self, run: DeepRun) -> np.ndarray:
        """Return the bound at every step from the mass spent until then, (T+1, K), NaN before T₀.

        Args:
            run: a training run.
        """
        return self._after(run, fall_path(run, self.start, mass_since(run, self.start)))

    def hypotheses(self, run: DeepRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        return tail_hypotheses(run, network, self.start)

    def last_bound(self, run: DeepRun, network: int) -> float:
        """Return the bound for all steps to come."""
        return float(self._after(run, fall_path(run, self.start))[network])

    def _after(self, run: DeepRun, path: np.ndarray) -> np.ndarray:
        start = run.checkpoints[run.recorded(self.start)]
        return carried(start, np.array(self.certificates), path)
