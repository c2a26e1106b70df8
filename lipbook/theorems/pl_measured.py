"""The Polyak–Łojasiewicz constant of a run, measured from the tangent kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.kernels import LeastEigenvalue, least_eigenvalue
from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.pl_path import quotients, settled_step
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class MeasuredPL:
    """Bound the Polyak–Łojasiewicz constant from below by the tangent kernel.

    μ = λ_min(JJᵀ)/n for MSE; for Huber this times δ/max(δ, 2max|r_i| − δ). Then ‖∇R‖² ≥ 2μR, with
    R* = 0.

    Attributes:
        loss: φ.

    References:
        The book's proposition `prop-pl-measured`.
    """

    loss: Loss

    label = "prop-pl-measured"
    title = "The constant, measured"

    def share(self, residual: float) -> float:
        """Return the least of φ'(r)²/(2φ(r)) over 0 < |r| ≤ `residual`.

        1 for MSE, δ/max(δ, 2·`residual` − δ) for Huber.

        Args:
            residual: the largest residual.
        """
        if not isinstance(self.loss, Huber):
            return 1.0
        return self.loss.delta / max(self.loss.delta, 2.0 * residual - self.loss.delta)

    def kernel(self, ensemble: Ensemble, network: int, x: Tensor) -> LeastEigenvalue:
        """Return λ_min(JJᵀ) with its numerical error.

        Args:
            ensemble: networks with one output.
            network: which of them.
            x: inputs, (n, d).
        """
        return least_eigenvalue(ensemble, network, x)

    def bound(self, ensemble: Ensemble, network: int, x: Tensor, y: Tensor) -> float:
        """Return a lower bound of μ that counts the numerical error; 0 where none is proved.

        Args:
            ensemble: networks with one output.
            network: which of them.
            x: inputs, (n, d).
            y: targets, (n, 1).
        """
        residual = float((ensemble.select([network])(x)[0] - y.reshape(-1, 1)).abs().max())
        if not math.isfinite(residual):
            return 0.0
        return self.kernel(ensemble, network, x).lower / len(x) * self.share(residual)

    def along(self, run: TrainingRun, network: int, x: Tensor, y: Tensor) -> np.ndarray:
        """Return `bound` at the recorded steps, 0 from a divergence on.

        Args:
            run: a training run.
            network: which of its networks.
            x: inputs, (n, d).
            y: targets, (n, 1).

        Returns:
            (S,).
        """
        stopped = int(run.diverged_at[network])
        return np.array(
            [
                0.0 if 0 <= stopped <= step else self.bound(checkpoint, network, x, y)
                for step, checkpoint in zip(run.steps, run.checkpoints, strict=True)
            ]
        )

    def verdict(
        self, run: TrainingRun, network: int, x: Tensor, y: Tensor, subject: str = ""
    ) -> Verdict:
        """Compare μ with ‖∇R_t‖²/(2R_t) at the recorded step where the two are closest.

        Args:
            run: a training run.
            network: which of its networks.
            x: inputs, (n, d).
            y: targets, (n, 1).
            subject: which run this is about.

        Returns:
            The `Verdict`: what is measured is μ from the kernel, what bounds it is the quotient.
        """
        finite = finite_steps(run, network)
        mu, last = self.along(run, network, x, y), settled_step(run, network)
        early = run.steps < last
        positive = Hypothesis(
            "H2",
            "the least eigenvalue is proved positive at every recorded step",
            bool((mu[early] > 0).all()),
            margin=float(mu[early].min(initial=math.inf)),
        )
        bound = measured = None
        if finite.holds and early.any():
            found = quotients(run, network)[run.steps[early]]
            closest = int(np.argmin(found / np.maximum(mu[early], 1e-300)))
            bound, measured = float(found[closest]), float(mu[early][closest])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="μ from the kernel, against the quotient ‖∇R‖²/(2R) of the step, ",
            hypotheses=(finite, positive),
            bound=bound,
            measured=measured,
            subject=subject,
        )
