"""What a Lipschitz budget promises, and what it costs: it stops where the limit is first met."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lipbook.lipschitz.product import slope_magnitude
from lipbook.networks import BLOCKS, Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.moduli import NAMES, certificates, check_certificate
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun

# Block paths are running sums: differences of them carry so much rounding, relative to their size.
_SUM_ROUNDING = 1e-9


@dataclass(frozen=True)
class BudgetSchedule:
    """Bound the Lipschitz constant at every step by the limit of a Lipschitz budget.

    If C(Θ₀) ≤ L* and every step has a rate α ≥ 0 and C + L_σ(xαη + (y + αη)αξ) ≤ L*, then
    Lip(f_t) ≤ C(Θ_t) ≤ L* for all t, whatever the loss, the data and the directions of the steps.

    Attributes:
        limit: L*.
        certificate: C: "product", "formal" or "sdp".

    References:
        The book's theorem `thm-budget-schedule`.
    """

    limit: float
    certificate: str = "product"

    label = "thm-budget-schedule"
    title = "A budget that is never overdrawn"

    def bound(self, run: TrainingRun) -> float:
        """Return L*, which holds for all networks of the run or is refused.

        Args:
            run: a training run.

        Raises:
            HypothesisError: a network starts above the limit.
        """
        worst = float(certificates(run.checkpoints[0], self.certificate).max())
        if not worst <= self.limit:
            refuse(
                "run", f"start at or below the limit {self.limit:g}", self.label, "H1",
                f"a {self.certificate} certificate of {worst:g}",
                "Raise the limit, or start from smaller weights.",
            )  # fmt: skip
        return self.limit

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float | None = None, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run; H2 is checked at its recorded steps.
            network: which of its networks.
            lipschitz: the largest Lipschitz constant at the recorded steps; by default the verdict
                is about the largest certificate there.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        check_certificate(self.certificate, run.ensemble.input_dim, run.ensemble.output_dim)
        recorded = through_time(run, network)
        seen = certificates(recorded, self.certificate)
        first = float(seen[0])
        what = NAMES[self.certificate] if lipschitz is None else "Lipschitz constant"
        start = Hypothesis(
            "H1", "the certificate of the start is at most the limit", first <= self.limit,
            margin=self.limit - first,
        )  # fmt: skip
        return Verdict(
            theorem=self.label,
            title=f"{self.title}, {self.certificate}",
            quantity=f"largest {what} at the recorded steps",
            hypotheses=(start, self._steps(run, network, recorded, seen), _finite(run, network)),
            bound=self.limit,
            measured=float(seen.max()) if lipschitz is None else lipschitz,
            subject=subject,
        )

    def _steps(
        self, run: TrainingRun, network: int, recorded: Ensemble, seen: np.ndarray
    ) -> Hypothesis:
        statement = "each recorded step's rate keeps the certificate's modulus within the limit"
        last = int(run.diverged_at[network])
        at = np.flatnonzero(run.steps < (run.n_steps if last < 0 else last))
        steps, finite = run.steps[at], recorded.select(at.tolist())
        x, y = finite.hidden_norm().cpu().numpy(), finite.output_norm().cpu().numpy()
        paths = (run.block_path[n][:, network] for n in ("hidden_weight", "output_weight"))
        xi, eta = (p[steps + 1] - p[steps] for p in paths)
        rise = slope_magnitude(run.ensemble.activation) * (x * eta + (y + eta) * xi)
        allowed = np.full(len(at), self.limit * (1.0 + _SUM_ROUNDING))
        found = hypothesis_over_steps("H2", statement, allowed.tolist(), (seen[at] + rise).tolist())
        if found.step is None:
            return found
        return Hypothesis("H2", statement, False, int(steps[found.step]), found.margin)


def _finite(run: TrainingRun, network: int) -> Hypothesis:
    found = finite_steps(run, network)
    return Hypothesis("H3", found.statement, found.holds, found.step)


def certificate_history(run: TrainingRun, certificate: str) -> np.ndarray:
    """Return the certificate of every network at every recorded step, (S, K), rounded up.

    Args:
        run: a training run.
        certificate: "product", "formal" or "sdp".
    """
    return np.stack([certificates(each, certificate) for each in run.checkpoints])


def through_time(run: TrainingRun, network: int) -> Ensemble:
    """Return one network at all recorded steps, as an ensemble of its own.

    Args:
        run: a training run.
        network: which of its networks.
    """
    blocks = {n: torch.stack([getattr(c, n)[network] for c in run.checkpoints]) for n in BLOCKS}
    return Ensemble(**blocks, activation=run.ensemble.activation)


@dataclass(frozen=True)
class EarlyStopping:
    """Bound the mass that a budgeted run still spends, by the room left over the speed of rising.

    If from step t₁ on every step raises C by at least ω·α_t, and C never passes L*, then
    Σ_{t ≥ t₁} α_t ≤ (L* − C(Θ_{t₁}))/ω: the schedule is an eventually decaying one by itself. What
    is checked, and bounded, is the part of the run that was made. Any σ and any rates ≥ 0 will do.

    Attributes:
        limit: L*.
        start: t₁.
        certificate: C.

    References:
        The book's theorem `thm-early-stopping`, part (c).
    """

    limit: float
    start: int
    certificate: str = "product"

    label = "thm-early-stopping"
    title = "Early stopping in disguise, part (c)"

    def bound(self, run: TrainingRun, network: int) -> float:
        """Return (L* − C(Θ_{t₁}))/ω with the largest ω that the run allows.

        Args:
            run: a training run with every step recorded.
            network: which of its networks.

        Raises:
            HypothesisError: some step does not raise the certificate.
            ValueError: the run did not record every step.
        """
        seen = self._history(run, network)
        speed = self.speed(run, network)
        if not speed > 0:
            refuse(
                "run", "raise the certificate at every step", self.label, "H6",
                f"a least speed of {speed:g}", "Start later, or lower the limit.",
            )  # fmt: skip
        return float((self.limit - seen[0]) / speed)

    def speed(self, run: TrainingRun, network: int) -> float:
        """Return ω, the least rise of the certificate per mass over the steps from t₁ on.

        Args:
            run: a training run with every step recorded.
            network: which of its networks.

        Returns:
            ω, negative where a step lowers the certificate; infinite if no step moves.
        """
        rates = run.learning_rates[self.start :, network]
        moved = rates > 0
        rises = np.diff(self._history(run, network))
        return float((rises[moved] / rates[moved]).min()) if moved.any() else math.inf

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run with every step recorded.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the mass spent from t₁ on.
        """
        seen, speed = self._history(run, network), self.speed(run, network)
        over = float(seen.max())
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"mass spent from step {self.start} on",
            hypotheses=(
                Hypothesis(
                    "H5", f"from step {self.start} on, as far as was run, the certificate does not "
                    "pass the limit", over <= self.limit, margin=self.limit - over,
                ),
                Hypothesis(
                    "H6", f"every step from {self.start} on, as far as was run, raises the "
                    "certificate, by its rate times ω > 0 at least", speed > 0, margin=speed,
                ),
            ),
            bound=float((self.limit - seen[0]) / speed) if speed > 0 else None,
            measured=float(run.mass[-1, network] - run.mass[self.start, network]),
            subject=subject,
        )  # fmt: skip

    def _history(self, run: TrainingRun, network: int) -> np.ndarray:
        if len(run.steps) != run.n_steps + 1:
            raise ValueError(
                f"`run` must have recorded every step. Got {len(run.steps)} of {run.n_steps + 1}. "
                "Train with steps=range(n_steps + 1)."
            )
        return certificates(through_time(run, network), self.certificate)[self.start :]
