"""Neurons of homogeneous networks keep the balance of their two layers, as code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.pl_path import decrease_factor
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


def imbalances(ensemble: Ensemble) -> Tensor:
    """Return D_j = a_j² − ‖w_j‖² − b_j² of each neuron, (K, m).

    Args:
        ensemble: networks with one output.
    """
    inner = ensemble.hidden_weight.square().sum(2) + ensemble.hidden_bias.square()
    return ensemble.output_weight[:, 0].square() - inner


def energy(ensemble: Ensemble) -> np.ndarray:
    """Return ‖a‖² + ‖V‖_F² + 2c², (K,).

    Args:
        ensemble: networks with one output.
    """
    c = ensemble.output_bias[:, 0]
    return (ensemble.parameter_norm().square() + c.square()).cpu().numpy()


def path_norms(ensemble: Ensemble) -> np.ndarray:
    """Return Σ_j |a_j|·√(‖w_j‖² + b_j²), (K,).

    Args:
        ensemble: networks with one output.
    """
    inner = ensemble.hidden_weight.square().sum(2) + ensemble.hidden_bias.square()
    return (ensemble.output_weight[:, 0].abs() * inner.sqrt()).sum(1).cpu().numpy()


def growth_rate(y: Tensor, loss: Loss) -> float:
    """Return the mean of y_i² for MSE; of 2φ_{2δ}(y_i), which is less, for Huber.

    Args:
        y: targets, (n, 1).
        loss: φ.
    """
    if isinstance(loss, Huber):
        return float(2.0 * Huber(2.0 * loss.delta).value(y).mean())
    return float(y.square().mean())


@dataclass(frozen=True)
class Balance:
    """Bound how far descent moves the balance of the neurons, and the size of the weights.

    For positively homogeneous σ: Σ_j|D_j(T) − D_j(0)| ≤ Σ_t α_t²(‖∇R_t‖² − (∂_cR_t)²), and ‖a‖² +
    ‖V‖² + 2c² grows by at most S_T·mean(y²) + Σ_t α_t²(‖∇R_t‖² + (∂_cR_t)²).

    References:
        The book's proposition `prop-balance`.
    """

    label = "prop-balance"
    title = "Balanced neurons stay balanced"

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return the bound of Σ_j|D_j(t) − D_j(0)| at every step, (T+1, K).

        Args:
            run: a training run.

        Raises:
            HypothesisError: σ is not positively homogeneous.
        """
        self._demand(run.ensemble)
        whole, last = self._squares(run)
        return np.concatenate([np.zeros_like(whole[:1]), np.cumsum(whole - last, axis=0)])

    def growth_bound(self, run: TrainingRun, y: Tensor) -> np.ndarray:
        """Return the bound of ‖a‖² + ‖V‖² + 2c² at every step, (T+1, K).

        Args:
            run: a training run.
            y: targets, (n, 1).

        Raises:
            HypothesisError: σ is not positively homogeneous.
        """
        self._demand(run.ensemble)
        whole, last = self._squares(run)
        steps = np.concatenate([np.zeros_like(whole[:1]), np.cumsum(whole + last, axis=0)])
        return energy(run.checkpoints[0]) + run.mass * growth_rate(y, run.loss) + steps

    def for_ever(self, run: TrainingRun, network: int) -> float:
        """Return α·R_0/η, which bounds Σ_j|D_j(t) − D_j(0)| while steps lower the risk with this η.

        Args:
            run: a training run.
            network: which of its networks.

        Returns:
            The bound, infinite where the run does not lower the risk at every step, by some η > 0
            times the rate times the squared gradient.
        """
        factor = decrease_factor(run, network)
        if not factor > 0:
            return float("inf")
        return float(run.learning_rates[:, network].max() * run.risk[0, network] / factor)

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1 (finite steps), H2 (σ positively homogeneous) and H3 (one output)."""
        homogeneous = run.ensemble.activation.is_homogeneous
        return (
            finite_steps(run, network),
            Hypothesis("H2", "σ is positively homogeneous", homogeneous),
            Hypothesis("H3", "there is one output", run.ensemble.output_dim == 1),
        )

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the proposition says of the balance of one network.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        hypotheses = self.hypotheses(run, network)
        possible = hypotheses[1].holds and hypotheses[2].holds
        moved = (imbalances(run.ensemble) - imbalances(run.checkpoints[0])).abs().sum(1)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="change of balance, summed over the neurons,",
            hypotheses=hypotheses,
            bound=float(self.bound(run)[-1, network]) + self._rounding(run, network)
            if possible
            else None,
            measured=float(moved[network]),
            subject=subject,
        )

    def growth_verdict(
        self, run: TrainingRun, network: int, y: Tensor, subject: str = ""
    ) -> Verdict:
        """Return what the proposition says of the size of the weights of one network.

        Args:
            run: a training run.
            network: which of its networks.
            y: targets, (n, 1).
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        hypotheses = self.hypotheses(run, network)
        possible = hypotheses[1].holds and hypotheses[2].holds
        return Verdict(
            theorem=self.label,
            title="Weights grow no faster than the targets ask",
            quantity="‖a‖² + ‖V‖² + 2c² at the last step",
            hypotheses=hypotheses,
            bound=float(self.growth_bound(run, y)[-1, network]) + self._rounding(run, network)
            if possible
            else None,
            measured=float(energy(run.ensemble)[network]),
            subject=subject,
        )

    def _demand(self, ensemble: Ensemble) -> None:
        if not ensemble.activation.is_homogeneous:
            name = ensemble.activation.name
            remedy = "Use relu, leaky relu or abs."
            refuse("run", "have a homogeneous activation", self.label, "H2", name, remedy)

    def _rounding(self, run: TrainingRun, network: int) -> float:
        """Return what the rounding of T steps may add to a sum of squares of the weights."""
        largest = max(float(energy(checkpoint)[network]) for checkpoint in run.checkpoints)
        return 1e-15 * run.n_steps * largest

    def _squares(self, run: TrainingRun) -> tuple[np.ndarray, np.ndarray]:
        """Return α_t²‖∇R_t‖² and α_t²(∂_cR_t)², (T, K) each."""
        whole = np.diff(run.path, axis=0) ** 2
        return whole, np.diff(run.block_path["output_bias"], axis=0) ** 2
