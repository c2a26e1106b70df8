"""Rescaled neurons: the function before and after, and how low the product bound can get."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lipbook.lipschitz import path_norm_upper_bound, product_upper_bound
from lipbook.networks import Ensemble
from lipbook.rescaling import rescaled
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Weights that rescaling takes out of this range lose digits, or all of them.
_RANGE = (1e-290, 1e290)
# Roundings of two evaluations of a network, for each term of its sums, relative to their sizes.
_ROUNDING = 2.0**-50


@dataclass(frozen=True)
class NeuronRescaling:
    """Rescaling the neurons of a homogeneous σ leaves f alone; the path norm is below all products.

    (w_j, b_j, A_j) → (λ_jw_j, λ_jb_j, A_j/λ_j). With one input and one output the path norm is the
    least product bound that can be reached.

    Attributes:
        part: "function" or "product".

    Raises:
        HypothesisError: another part.

    References:
        The book's proposition `prop-rescaling`.
    """

    part: str = "function"

    label = "prop-rescaling"
    title = "Rescaling neurons"

    def __post_init__(self) -> None:
        """Refuse a part that the proposition does not have."""
        if self.part not in ("function", "product"):
            refuse(
                "part", "be 'function' or 'product'", self.label, "f, product bound",
                repr(self.part), "Use 'function' for what stays, 'product' for what moves.",
            )  # fmt: skip

    def hypotheses(
        self, ensemble: Ensemble, network: int, factors: Tensor
    ) -> tuple[Hypothesis, ...]:
        """Check the hypotheses of this part.

        Args:
            ensemble: the networks.
            network: which of them.
            factors: λ, (K, m).
        """
        positive = bool((torch.isfinite(factors) & (factors > 0)).all())
        kept = positive and _is_kept(ensemble.select([network]), factors[network][None])
        found = (
            Hypothesis("H1", "the activation is homogeneous", ensemble.activation.is_homogeneous),
            Hypothesis("H2", "the factors are positive, and no weight over- or underflows", kept),
        )
        if self.part == "function":
            return found
        single = ensemble.input_dim == ensemble.output_dim == 1
        return (*found, Hypothesis("H3", "the network has one input and one output", single))

    def verdict(
        self, ensemble: Ensemble, network: int, factors: Tensor, points: Tensor | None = None
    ) -> Verdict:
        """Return what the proposition says of one network and its factors.

        Args:
            ensemble: the networks.
            network: which of them.
            factors: λ, (K, m).
            points: where to compare the outputs, (n, d); "function" needs them, by default 0 alone.

        Returns:
            The `Verdict`. "function": measured is the largest change of an output, relative to the
            sizes of what it is a sum of, and the bound rounding. "product": measured is the path
            norm before, and the bound the product bound after.

        Raises:
            ValueError: factors of another shape.
        """
        hypotheses = self.hypotheses(ensemble, network, factors)
        bound = measured = None
        if hypotheses[1].holds:
            one = ensemble.select([network])
            after = rescaled(one, factors[network][None])
            if self.part == "product":
                measured = path_norm_upper_bound(
                    one.hidden_weight[0], one.output_weight[0], one.activation
                )
                bound = product_upper_bound(
                    after.hidden_weight[0], after.output_weight[0], after.activation
                )
            else:
                x = one.hidden_weight.new_zeros(1, one.input_dim) if points is None else points
                measured, bound = _change(one, after, x), (one.width + 20) * _ROUNDING
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="path norm" if self.part == "product" else "relative change of the outputs",
            hypotheses=hypotheses,
            bound=bound,
            measured=measured,
            subject=f"the {self.part}",
        )


def _is_kept(one: Ensemble, factors: Tensor) -> bool:
    """Tell whether no weight that is not 0 leaves the range of floating point."""
    after = rescaled(one, factors)
    sizes = torch.cat([block.abs().flatten() for block in after.blocks()])
    before = torch.cat([block.flatten() for block in one.blocks()])
    sizes = sizes[before != 0]
    return bool(((sizes > _RANGE[0]) & (sizes < _RANGE[1])).all())


def _change(one: Ensemble, after: Ensemble, x: Tensor) -> float:
    """Return max ‖f'(x) − f(x)‖/(L_σΣ‖A_j‖(‖w_j‖‖x‖ + |b_j|) + ‖c‖), 0 where both are 0."""
    moved = (after(x) - one(x))[0].norm(dim=1)
    inner = one.hidden_weight[0].norm(dim=1) * x.norm(dim=1, keepdim=True)
    terms = (inner + one.hidden_bias[0].abs()) @ one.output_weight[0].norm(dim=0)
    size = one.activation.lipschitz * terms + one.output_bias[0].norm()
    return float(torch.where(moved > 0, moved / size, torch.zeros_like(moved)).max())
