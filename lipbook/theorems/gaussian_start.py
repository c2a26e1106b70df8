"""What a Gaussian start costs, as code: norms of the first weights with high probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.activations import Activation
from lipbook.networks import INITIAL_SCALES, Ensemble, InitialScale
from lipbook.theorems.chance import deviation, verdict_over_seeds
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.tools import davidson_szarek_bound
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


def one_output(ensemble: Ensemble) -> Hypothesis:
    """Check that a network has one output: H2 of the theorems on the start."""
    return Hypothesis("H2", "the network has one output", ensemble.output_dim == 1)


def drawn_as(scale: InitialScale, ensemble: Ensemble) -> Hypothesis:
    """Check what can be checked of H1: the output bias is 0, and blocks of deviation 0 are zero.

    That the weights are independent Gaussians is taken from whoever drew them.
    """
    zero = not bool(ensemble.output_bias.any())
    for name in ("hidden_weight", "hidden_bias", "output_weight"):
        zero &= getattr(scale, name) > 0.0 or not bool(getattr(ensemble, name).any())
    return Hypothesis(
        "H1", "the weights are independent Gaussians of the named scale, and c = 0", zero
    )


@dataclass(frozen=True)
class GaussianStart:
    """Bound the norms of Gaussian first weights, each with probability at least 1 − η.

    With ϑ = √(2 ln(1/η)): ‖W_0‖ ≤ ω_W(√m + √d + ϑ), ‖a_0‖ ≤ ω_A(√m + ϑ) and
    ‖Θ_0‖ ≤ √(m(d·ω_W² + ω_b² + ω_A²)) + ϑ·max(ω_W, ω_b, ω_A).

    Attributes:
        width: m.
        input_dim: d.
        scale: the standard deviations ω_W, ω_b, ω_A.
        failure: η.

    References:
        The book's theorem `thm-gaussian-start`.
    """

    width: int
    input_dim: int
    scale: InitialScale
    failure: float

    label = "thm-gaussian-start"
    title = "What a Gaussian start weighs"

    @classmethod
    def of(cls, ensemble: Ensemble, scale: str, failure: float) -> GaussianStart:
        """Return the theorem for networks of this shape and a named scale.

        Args:
            ensemble: gives m and d.
            scale: a name in `INITIAL_SCALES`.
            failure: η.
        """
        m, d = ensemble.width, ensemble.input_dim
        return cls(m, d, INITIAL_SCALES[scale](m, d), failure)

    @property
    def deviation(self) -> float:
        """ϑ = √(2 ln(1/η))."""
        return deviation(self.failure, self.label)

    @property
    def hidden_norm(self) -> float:
        """ω_W(√m + √d + ϑ), the bound of ‖W_0‖."""
        bound = davidson_szarek_bound(self.width, self.input_dim, self.failure)
        return self.scale.hidden_weight * bound

    @property
    def output_norm(self) -> float:
        """ω_A(√m + ϑ), the bound of ‖a_0‖."""
        return self.scale.output_weight * (math.sqrt(self.width) + self.deviation)

    @property
    def parameter_norm(self) -> float:
        """√(m(d·ω_W² + ω_b² + ω_A²)) + ϑ·max(ω_W, ω_b, ω_A), the bound of ‖Θ_0‖."""
        sizes = self.scale.hidden_weight, self.scale.hidden_bias, self.scale.output_weight
        total = self.input_dim * sizes[0] ** 2 + sizes[1] ** 2 + sizes[2] ** 2
        return math.sqrt(self.width * total) + self.deviation * max(sizes)

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return L_σ(ω_W(√m + √d + ϑ) + ℓ^W_t)(ω_A(√m + ϑ) + ℓ^A_t) at every step.

        Args:
            run: a training run of networks with one output.

        Returns:
            (T+1, K). It bounds all of Lip(f_0), Lip(f_1), … with probability at least (1 − η)².

        Raises:
            HypothesisError: the networks have several outputs.
        """
        if run.ensemble.output_dim != 1:
            refuse(
                "run", "be of networks with one output", self.label, "H2",
                run.ensemble.output_dim, "Look at one output at a time.",
            )  # fmt: skip
        hidden = self.hidden_norm + run.block_path["hidden_weight"]
        output = self.output_norm + run.block_path["output_weight"]
        return run.ensemble.activation.lipschitz * hidden * output

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network at the last step of its run.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: Lip(f_T) or an upper bound of it.
            subject: which run this is about.

        Returns:
            The `Verdict`. It applies where the start lies in the set of probability (1 − η)².
        """
        start = run.checkpoints[0].select([network])
        single = one_output(start)
        sizes = float(start.hidden_norm()[0]), float(start.output_norm()[0])
        margin = min(self.hidden_norm - sizes[0], self.output_norm - sizes[1])
        chance = 100.0 * (1.0 - self.failure) ** 2
        statement = f"the start is one of the likely ones, {chance:.3g} % at least"
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant at the last step",
            hypotheses=(
                drawn_as(self.scale, start),
                single,
                Hypothesis("H3", statement, margin >= 0.0, margin=margin),
                Hypothesis("H4", *_finite(run, network)),
            ),
            bound=float(self.bound(run)[-1, network]) if single.holds else None,
            measured=None if math.isnan(lipschitz) else lipschitz,
            subject=subject,
        )

    def verdicts_over_seeds(self, starts: Ensemble) -> dict[str, Verdict]:
        """Return what the theorem says of many independent starts.

        Args:
            starts: networks as they were drawn, one per seed.

        Returns:
            {"hidden", "output", "all"}: a `Verdict` for ‖W_0‖, ‖a_0‖ and ‖Θ_0‖.
        """
        found = {
            "hidden": ("norm of W", starts.hidden_norm(), self.hidden_norm),
            "output": ("norm of a", starts.output_norm(), self.output_norm),
            "all": ("norm of all weights", starts.parameter_norm(), self.parameter_norm),
        }
        hypotheses = drawn_as(self.scale, starts), one_output(starts)
        return {
            key: verdict_over_seeds(
                GaussianStart, quantity, hypotheses, norms.cpu().numpy(), bound, self.failure
            )
            for key, (quantity, norms, bound) in found.items()
        }


def _finite(run: TrainingRun, network: int) -> tuple[str, bool, int | None]:
    """Return statement, standing and step of the hypothesis that every step was finite."""
    found = finite_steps(run, network)
    return found.statement, found.holds, found.step


@dataclass(frozen=True)
class StartCount:
    """Count what the start costs in parameters: O(√p/d), and O(√p) after any bounded path.

    At the scales standard, zero-bias and tangent-kernel: ‖W_0‖‖a_0‖ ≤ (1 + ϑ)²(1 + √(m/d)) with
    probability at least (1 − η)², and ≥ (1 − ϑ/√m)²√(m/d) with at least (1 − η²)²; at mean-field
    both ends are smaller by the factor 1/√m. At every named scale Lip(f_T) ≤ (3/2)L_σ(1 + ϑ + P)²√p
    if ℓ^W_T, ℓ^A_T ≤ P.

    Attributes:
        start: the shape, the scale and η.

    References:
        The book's theorem `thm-start-count`.
    """

    start: GaussianStart

    label = "thm-start-count"
    title = "The start costs the root of the number of parameters"

    @property
    def shrink(self) -> float:
        """ω_W·ω_A·√(md): 1 at every named scale but mean-field, 1/√m there."""
        scale, m, d = self.start.scale, self.start.width, self.start.input_dim
        return scale.hidden_weight * scale.output_weight * math.sqrt(m * d)

    @property
    def n_parameters(self) -> int:
        """p = m(d + 2) + 1."""
        return self.start.width * (self.start.input_dim + 2) + 1

    @property
    def upper(self) -> float:
        """(1 + ϑ)²(1 + √(m/d)), shrunk: the upper bound of ‖W_0‖‖a_0‖."""
        ratio = math.sqrt(self.start.width / self.start.input_dim)
        return self.shrink * (1.0 + self.start.deviation) ** 2 * (1.0 + ratio)

    @property
    def lower(self) -> float:
        """(1 − ϑ/√m)²√(m/d), shrunk: the lower bound of ‖W_0‖‖a_0‖.

        Raises:
            HypothesisError: ϑ > √m.
        """
        m, ratio = self.start.width, math.sqrt(self.start.width / self.start.input_dim)
        share = self.start.deviation / math.sqrt(m)
        if share > 1.0:
            refuse(
                "failure", "be at least exp(−m/2)", self.label, "H3", self.start.failure,
                "Allow more failures or take more neurons.",
            )  # fmt: skip
        return self.shrink * (1.0 - share) ** 2 * ratio

    def after(self, path: float, activation: Activation) -> float:
        """Return (3/2)L_σ(1 + ϑ + P)²√p.

        Args:
            path: P, a bound of ℓ^W_T and ℓ^A_T.
            activation: σ.
        """
        reach = 1.0 + self.start.deviation + path
        return 1.5 * activation.lipschitz * reach**2 * math.sqrt(self.n_parameters)

    def verdicts_over_seeds(self, starts: Ensemble) -> dict[str, Verdict]:
        """Return what the theorem says of the products ‖W_0‖‖a_0‖ of many independent starts.

        Args:
            starts: networks as they were drawn, one per seed.

        Returns:
            {"upper", "lower"}: a `Verdict` for each end.
        """
        product = (starts.hidden_norm() * starts.output_norm()).cpu().numpy()
        # 1 − (1 − η)² and 1 − (1 − η²)², without cancellation.
        eta = self.start.failure
        above_failure, below_failure = eta * (2.0 - eta), eta**2 * (2.0 - eta**2)
        hypotheses = drawn_as(self.start.scale, starts), one_output(starts)
        short = self.start.deviation <= math.sqrt(self.start.width)
        low = np.full_like(product, self.lower if short else math.nan)
        third = Hypothesis("H3", "ϑ is at most √m", short)
        above, below = "product of the norms, from above", "product of the norms, from below"
        return {
            "upper": verdict_over_seeds(
                StartCount, above, hypotheses, product, self.upper, above_failure
            ),
            "lower": verdict_over_seeds(
                StartCount, below, (*hypotheses, third), low, product, below_failure
            ),
        }
