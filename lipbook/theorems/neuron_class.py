"""How well a class of neurons fits random signs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.activations import Activation
from lipbook.networks import Ensemble
from lipbook.theorems.near_ball import within
from lipbook.theorems.rademacher import RademacherGap, Radii
from lipbook.theorems.verdict import Verdict

# All 2ⁿ signs are tried up to this many points.
MOST_POINTS = 12


@dataclass(frozen=True)
class NeuronClass:
    """Bound Rad(F; x) ≤ (A(χ_σB√(mean ‖x̃_i‖²) + |σ(0)|) + C)/√n for all networks of any width.

    F holds those with ‖a‖₁ ≤ A, max ‖v_j‖ ≤ B and |c| ≤ C; for homogeneous σ those with
    Σ|a_j|‖v_j‖ ≤ A and |c| ≤ C.

    Attributes:
        radii: A, B and C; B = 1 for homogeneous σ.

    References:
        The book's lemma `lem-neuron-class`.
    """

    radii: Radii

    label = "lem-neuron-class"
    title = "Fitting signs with neurons"

    def bound(self, activation: Activation, x: Tensor) -> float:
        """Return the bound of Rad(F; x), rounded to nearest.

        Args:
            activation: σ.
            x: points, (n, d).
        """
        rms = math.sqrt(float(x.double().square().sum(1).mean()))
        return RademacherGap().complexity(activation, self.radii, rms, len(x))

    def verdict(self, members: Ensemble, x: Tensor) -> Verdict:
        """Return what the lemma says of some members of the class, on a few points.

        Args:
            members: networks with one output.
            x: points, (n, d).

        Returns:
            The `Verdict`; measured is the mean over all signs of the best (1/n)Σε_if(x_i) among
            the members and their negatives; None for more than 12 points.
        """
        held = [Radii.of(members.select([i])).values() for i in range(members.size)]
        names = ("sum of the output weights", "length of a neuron", "output bias")
        largest = np.array(held).max(axis=0)
        if members.activation.is_homogeneous:
            names = ("sum of the neurons' lengths", *names[1:])
        triples = zip(names, self.radii.values(), largest, strict=True)
        hypotheses = tuple(
            within(f"H{i}", f"no {name} is beyond its radius", allowed, float(found))
            for i, (name, allowed, found) in enumerate(triples, 1)
        )
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="mean over all signs of the best fit among the members",
            hypotheses=hypotheses,
            bound=self.bound(members.activation, x),
            measured=_best_fit(members(x)[..., 0].numpy()) if len(x) <= MOST_POINTS else None,
        )


def _best_fit(outputs: np.ndarray) -> float:
    """Return the mean over signs ε of max_k |Σ_i ε_if_k(x_i)|/n, outputs (K, n)."""
    n = outputs.shape[1]
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return float(np.abs(signs @ outputs.T).max(axis=1).mean() / n)
