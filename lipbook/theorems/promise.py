"""A promise for all later steps: a certificate, carried from a checkpoint along the path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.product import slope_magnitude
from lipbook.theorems.after_path import checkpoint, path_growth
from lipbook.theorems.descent import EventualDecay, tail_hypotheses
from lipbook.theorems.moduli import certificates, check_certificate
from lipbook.theorems.refusal import refuse
from lipbook.theorems.smooth_modulus import slope_lever
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class Promise:
    """Bound the Lipschitz constant from step T₀ on by a certificate at T₀ and the path to come.

    With x = ‖W_{T₀}‖, y = ‖a_{T₀}‖, and e = √(2R_{T₀}S) a bound of the path from T₀ on:
    Lip(f_t) ≤ C(Θ_{T₀}) + L_σ(e√(x² + y²) + e²/2) for every t ≥ T₀, on every domain.

    Attributes:
        start: T₀; it must be one of the run's recorded steps.
        certificate: C: "product" (this is `thm-eventual`), "formal" or "sdp".

    References:
        The book's theorem `thm-promise`, part (a).
    """

    start: int
    certificate: str = "formal"

    label = "thm-promise"
    title = "A promise for all later steps"

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return the bound for all steps from T₀ on, (K,), rounded to nearest.

        Args:
            run: a training run.

        Returns:
            (K,), unit of the outputs per unit of the inputs; infinite where the rates are not
            summable.

        Raises:
            HypothesisError: several outputs with a certificate other than "product".
            ValueError: T₀ was not recorded, or the certificate does not fit the networks.
        """
        return self._carried(run, EventualDecay(self.start).path_bound(run))

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound for each recorded step by itself, from the mass spent until then.

        Args:
            run: a training run.

        Returns:
            (S, K), NaN before T₀; finite for every schedule.

        Raises:
            HypothesisError, ValueError: as `bound`.
        """
        return np.where(
            _early(run, self.start), np.nan, self._carried(run, _spent(run, self.start))
        )

    def _carried(self, run: TrainingRun, path: np.ndarray) -> np.ndarray:
        state = checkpoint(run, self.start)
        if state.output_dim != 1 and self.certificate != "product":
            refuse(
                "run", "be of networks with one output", self.label, "H4",
                f"{state.output_dim} outputs", "Carry the product bound.",
            )  # fmt: skip
        x, y = state.hidden_norm().cpu().numpy(), state.output_norm().cpu().numpy()
        return certificates(state, self.certificate) + path_growth(state.activation, x, y, path)

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        largest: float,
        what: str = "Lipschitz constant",
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run.
            network: which of its networks.
            largest: of the constants, or of the certificates C, at the recorded steps from T₀ on.
            what: which of the two it is, in words.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        fits = run.ensemble.output_dim == 1 or self.certificate == "product"
        check_certificate(self.certificate, run.ensemble.input_dim, 1)
        return Verdict(
            theorem=self.label,
            title=f"{self.title}, {self.certificate}",
            quantity=f"largest {what} at the recorded steps from {self.start} on",
            hypotheses=(
                *tail_hypotheses(run, network, self.start),
                Hypothesis("H4", "the networks have one output", fits),
            ),
            bound=float(self.bound(run)[network]) if fits else None,
            measured=largest,
            subject=subject,
        )


@dataclass(frozen=True)
class SmoothPromise:
    """Bound the constant on a domain from step T₀ on by the constant there at T₀; σ smooth.

    With q = L_σ'√(1 + B²)‖a_{T₀}‖_∞x: Lip_D(f_t) ≤ Lip_D(f_{T₀}) + e√(L_σ²x² + (L_σy + q)²) +
    L_σe²/2.

    Attributes:
        start: T₀; it must be one of the run's recorded steps.
        radius: B; ‖x‖ ≤ B for every x in the domain.

    References:
        The book's theorem `thm-promise`, part (b).
    """

    start: int
    radius: float

    label = "thm-promise"
    title = "A promise for all later steps, exact constant carried"

    def bound(self, run: TrainingRun, known: np.ndarray) -> np.ndarray:
        """Return the bound for all steps from T₀ on, (K,), rounded to nearest.

        Args:
            run: a training run.
            known: Lip_D(f_{T₀}) or upper bounds of it, (K,).

        Raises:
            HypothesisError: several outputs, or σ has no Lipschitz slope.
            ValueError: T₀ was not recorded.
        """
        return self._carried(run, known, EventualDecay(self.start).path_bound(run))

    def bounds(self, run: TrainingRun, known: np.ndarray) -> np.ndarray:
        """Return the bound for each recorded step by itself, (S, K), NaN before T₀.

        Args:
            run: a training run.
            known: as for `bound`.

        Raises:
            HypothesisError, ValueError: as `bound`.
        """
        found = self._carried(run, known, _spent(run, self.start))
        return np.where(_early(run, self.start), np.nan, found)

    def _carried(self, run: TrainingRun, known: np.ndarray, path: np.ndarray) -> np.ndarray:
        state = checkpoint(run, self.start)
        q = slope_lever(state, self.radius, self.label)
        x, y = state.hidden_norm().cpu().numpy(), state.output_norm().cpu().numpy()
        steep = slope_magnitude(state.activation)
        return known + path * np.hypot(steep * x, steep * y + q) + 0.5 * steep * path * path

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        constants: tuple[float, float],
        reach: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run.
            network: which of its networks.
            constants: an upper bound of Lip_D(f_{T₀}), and the largest Lip_D(f_t) at the recorded
                steps from T₀ on.
            reach: the largest ‖x‖ on the domain D.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        one = run.ensemble.output_dim == 1
        smooth = run.ensemble.activation.slope_lipschitz is not None
        known = np.full(run.ensemble.size, constants[0])
        words = (
            "the slope of the activation is Lipschitz, and the domain lies in the ball of "
            f"radius {self.radius:g}"
        )
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest Lipschitz constant on the domain at the recorded steps from "
            f"{self.start} on",
            hypotheses=(
                *tail_hypotheses(run, network, self.start),
                Hypothesis("H4", "the networks have one output", one),
                Hypothesis("H5", words, smooth and reach <= self.radius),
            ),
            bound=float(self.bound(run, known)[network]) if one and smooth else None,
            measured=constants[1],
            subject=subject,
        )


def _early(run: TrainingRun, start: int) -> np.ndarray:
    return (run.steps < start)[:, None]


def _spent(run: TrainingRun, start: int) -> np.ndarray:
    """Return e = √(2R_{T₀}(S_t − S_{T₀})) at every recorded step, (S, K)."""
    checkpoint(run, start)
    spent = np.maximum(run.mass[run.steps] - run.mass[start], 0.0)
    return EventualDecay(start).path_bound(run, spent)
