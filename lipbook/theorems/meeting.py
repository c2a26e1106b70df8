"""Where the squared loss and the Huber loss become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.losses import Huber
from lipbook.theorems.descent import RISK_ROUNDING, finite_steps
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class Meet:
    """Bound every residual by δ from the step on at which the risk is at most δ²/(2n).

    From there on MSE and Huber have the same risk and the same gradient, as long as the risk does
    not rise. Residuals below δ alone would not do: one of them may grow while the risk falls.

    References:
        The book's theorem `thm-meet`.
    """

    label = "thm-meet"
    title = "MSE and Huber meet"

    def threshold(self, delta: float, n_samples: int) -> float:
        """Return δ²/(2n).

        Args:
            delta: δ > 0.
            n_samples: n.
        """
        return delta * delta / (2.0 * n_samples)

    def meeting_step(self, run: TrainingRun, network: int, delta: float, n_samples: int) -> int:
        """Return the first step with R_t ≤ δ²/(2n), or −1.

        Args:
            run: a training run.
            network: which of its networks.
            delta: δ.
            n_samples: n.
        """
        below = np.flatnonzero(run.risk[:, network] <= self.threshold(delta, n_samples))
        return int(below[0]) if len(below) else -1

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        data: tuple[Tensor, Tensor],
        delta: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run, under MSE or under Huber with the same δ.
            network: which of its networks.
            data: inputs (n, d) and targets (n, 1).
            delta: δ.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest residual at the recorded steps from then on.
        """
        x, y = data
        first = self.meeting_step(run, network, delta, len(x))
        same = not isinstance(run.loss, Huber) or run.loss.delta == delta
        met = Hypothesis("H2", "at some step the risk is at most δ²/(2n)", first >= 0 and same)
        later = [c for c, t in zip(run.checkpoints, run.steps, strict=True) if 0 <= first <= t]
        residuals = [float((c.select([network])(x)[0] - y).abs().max()) for c in later]
        risk = run.risk[max(first, 0) :, network]
        still = hypothesis_over_steps(
            "H3", "from there on the risk does not rise",
            (risk[:-1] * (1.0 + RISK_ROUNDING)).tolist(), risk[1:].tolist(),
        )  # fmt: skip
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest residual from the meeting on",
            hypotheses=(finite_steps(run, network), met, still),
            bound=delta,
            measured=max(residuals, default=None),
            subject=subject,
        )
