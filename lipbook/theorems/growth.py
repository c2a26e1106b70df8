"""How steep the risk can be where the weights are small: the lemma under every a-priori bound.

With κ = L_σ√(1 + B_x²), κ₀ = √(1 + m·σ(0)²) and u = ‖Θ‖, for ‖x‖ ≤ B_x: ‖∇_Θ f(x)‖ ≤ κ₀ + κu,
|f(x)| ≤ κ₀u + κu²/2, and ‖∇R‖ ≤ λ(R)(κ₀ + κu).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.setting import Setting
from lipbook.theorems.verdict import Verdict
from lipbook.training import TrainingRun

Number = float | np.ndarray


def checkpoint(run: TrainingRun, step: int) -> Ensemble:
    """Return the networks at a recorded step.

    Args:
        run: a training run.
        step: T₀.

    Raises:
        ValueError: the run has no checkpoint there.
    """
    found = np.flatnonzero(run.steps == step)
    if len(found) == 0:
        raise ValueError(
            f"`start` must be a recorded step of the run. Got {step}. "
            f"Train with steps=[..., {step}]."
        )
    return run.checkpoints[int(found[0])]


def mass_since(run: TrainingRun, step: int) -> np.ndarray:
    """Return S_t − S_{T₀} at every step t, (T+1, K), NaN before T₀.

    Args:
        run: a training run.
        step: T₀.
    """
    early = np.arange(run.n_steps + 1) < step
    return np.where(early[:, None], np.nan, run.mass - run.mass[step])


def norms(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ‖Θ‖, ‖W‖_op and ‖a‖ of each network, (K,) each."""
    found = ensemble.parameter_norm(), ensemble.hidden_norm(), ensemble.output_norm()
    total, hidden, output = (each.cpu().numpy() for each in found)
    return total, hidden, output


def lipschitz_after(start: Ensemble, path: np.ndarray) -> np.ndarray:
    """Return L_σ(xy + e√(x² + y²) + e²/2), x = ‖W‖_op, y = ‖a‖: a bound after a path of length e.

    Args:
        start: the networks before it.
        path: e, (..., K).

    Returns:
        Shaped like `path`, rounded to nearest; it bounds the constant on every domain.

    References:
        The book's lemma `lem-after-path`.
    """
    _, x, y = norms(start)
    with np.errstate(over="ignore", invalid="ignore"):
        longer = path * np.hypot(x, y) + 0.5 * path * path
        return np.asarray(start.activation.lipschitz * (x * y + longer))


def lipschitz_after_blocks(
    start: Ensemble, hidden_path: np.ndarray, output_norm: np.ndarray
) -> np.ndarray:
    """Return L_σ(‖W‖_op + ξ)·â: a bound where W has moved by ξ and ‖a‖ ≤ â.

    Args:
        start: the networks before the path.
        hidden_path: ξ, (..., K).
        output_norm: â, (..., K).

    Returns:
        Shaped like `hidden_path`, rounded to nearest; it bounds the constant on every domain.
    """
    _, x, _ = norms(start)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(start.activation.lipschitz * (x + hidden_path) * output_norm)


@dataclass(frozen=True)
class GradientGrowth:
    """Bound gradient and output of a network by the norm of its weights.

    ‖∇R‖ ≤ λ(R)(κ₀ + κu), |f(x)| ≤ κ₀u + κu²/2 and, after a path of length e from weights of norm
    u, |f'(x) − f(x)| ≤ (κ₀ + κu)e + κe²/2; ‖x‖ ≤ B_x. It knows nothing of signs.

    Attributes:
        setting: gives κ, κ₀ and λ.

    References:
        The book's lemma `lem-growth`.
    """

    setting: Setting

    label = "lem-growth"
    title = "The gradient grows no faster than the weights"

    def gradient_bound(self, norm: Number) -> Number:
        """Return κ₀ + κu ≥ ‖∇_Θ f(x)‖.

        Args:
            norm: u ≥ ‖Θ‖.
        """
        return self.setting.kappa_0 + self.setting.kappa * norm

    def change_bound(self, norm: Number, path: Number) -> Number:
        """Return (κ₀ + κu)e + κe²/2 ≥ |f'(x) − f(x)|; with u = 0 a bound of |f(x)| for ‖Θ‖ = e.

        Args:
            norm: u ≥ ‖Θ‖.
            path: e, the length of a path from Θ to Θ'.
        """
        return self.gradient_bound(norm) * path + 0.5 * self.setting.kappa * path * path

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the lemma says of the gradients of one network at the recorded steps.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest ‖∇R_t‖/(λ(R_t)(κ₀ + κu_t)).
        """
        shares = [0.0]
        for step, networks in zip(run.steps, run.checkpoints, strict=True):
            gradient, risk = run.gradient_norm[step, network], run.risk[step, network]
            if np.isfinite(gradient) and gradient > 0.0:
                norm = float(networks.parameter_norm()[network])
                allowed = self.setting.pull(float(risk)) * self.setting.growth(norm)
                shares.append(float(gradient / allowed))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest share of the bound that a gradient has reached",
            hypotheses=(finite_steps(run, network),),
            bound=1.0,
            measured=max(shares),
            subject=subject,
        )
