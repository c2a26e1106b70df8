"""The steepest gradient found so far, proved."""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.node_bounds import set_jacobians
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.jacobians import gradient_norms_lower, witness_at
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import project
from lipbook.lipschitz.results import Witness


class Incumbent:
    """Keep the best witness; its norm in the units of `Switches` is `lower`."""

    def __init__(self, problem: Problem, switches: Switches, witness: Witness | None) -> None:
        """Start from a witness, if there is one."""
        self.problem, self.switches = problem, switches
        self.witness = witness
        self.lower = 0.0 if witness is None else self._scaled(witness.gradient_norm)

    def _scaled(self, norm: float) -> float:
        return float(np.ldexp(norm, -self.switches.exponent))

    def offer(self, points: FloatArray, sides: FloatArray) -> None:
        """Look at the gradients at points (q, d) on these sides (q, n) of the hyperplanes."""
        gradients = set_jacobians(self.switches, np.where(sides > 0.0, 1.0, -1.0))
        if gradients.shape[1] == 1:
            norms = np.sqrt(np.einsum("qkd,qkd->q", gradients, gradients))
        else:
            norms = np.linalg.norm(gradients, 2, axis=(1, 2))
        best = int(norms.argmax())
        if norms[best] <= self.lower * (1.0 + 1e-13):
            return
        point = project(points[best : best + 1], self.problem)
        norm = float(gradient_norms_lower(self.problem, point)[0])
        if self._scaled(norm) > self.lower:
            self.witness = witness_at(self.problem, point[0])
            self.lower = self._scaled(norm)
