"""Gradients of a network of two inputs in exact integer arithmetic.

Over a common power of two the terms A_cj·w_j·σ' are whole numbers, and so is J, which is summed
without error. ‖J‖² = ½(Σ|z|² + |Σz²|), z = J₁ + iJ₂, is a whole number for one output; for several
the root is taken to 64 binary places. Used where cancellation leaves the floating-point bracket
open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.exact_sums import rounded_root
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.sweeping.clipping import Clip
from lipbook.lipschitz.sweeping.crossings import crossings
from lipbook.lipschitz.sweeping.inner_points import Place
from lipbook.lipschitz.sweeping.lines import Lines
from lipbook.lipschitz.sweeping.whole_numbers import whole_numbers

ObjectArray = npt.NDArray[Any]  # of Python's whole numbers
_PLACES = 64


@dataclass(frozen=True)
class WholeGradients:
    """Hold J/unit on the cells along n lines, as `LineGradients` does.

    Attributes:
        start: both entries of J on the negative side of line i, before its first crossing,
            (k, 2, n).
        jumps: what is added where entry j is crossed, (k, 2, 2n).
        unit: what 1 stands for.
    """

    start: ObjectArray
    jumps: ObjectArray
    unit: Fraction

    @property
    def is_constant(self) -> bool:
        """Tell whether J is the same on all cells."""
        return not self.jumps.any()

    def squares(self, z: ObjectArray) -> ObjectArray:
        """Return whole numbers proportional to ‖J‖², rounded down, of J (k, 2, N), (N,)."""
        total = (z * z).sum(axis=(0, 1))
        if len(z) == 1:
            return np.asarray(total)
        real, imaginary = (z[:, 0] ** 2 - z[:, 1] ** 2).sum(axis=0), 2 * (z[:, 0] * z[:, 1]).sum(0)
        roots = [math.isqrt(v << (2 * _PLACES)) for v in real * real + imaginary * imaginary]
        return (total << _PLACES) + np.array(roots, dtype=object)

    def bounds(self, square: int) -> tuple[float, float]:
        """Return float64 numbers below and above ‖J‖, from what `squares` returns."""
        if len(self.start) == 1:
            return rounded_root(square, self.unit)
        # square = ⌊2·2^places·‖J‖²⌋ in units of unit²; an even power of two has a root.
        unit = self.unit / (1 << (_PLACES // 2 + 1))
        above = 2 * square + 2 if square else 0
        return rounded_root(2 * square, unit)[0], rounded_root(above, unit)[1]

    def square_of(self, positive: BoolArray) -> int:
        """Return what `squares` does for the cell on these sides of the lines, (n,)."""
        passed = self.jumps[..., : positive.size][..., positive].sum(axis=-1)
        return int(self.squares((self.start[..., 0] + passed)[..., None])[0])

    def steepest(self, lines: Lines, clip: Clip, line: int) -> tuple[int, Place]:
        """Return the largest of `squares` on the cells along a line, −1 without any, and where."""
        found = crossings(lines, line, line + 1)
        edges = clip.edges(lines, found)
        z = np.concatenate([self.start[..., [line]], self.jumps[..., found.order[0]]], axis=-1)
        z = np.cumsum(z, axis=-1)
        both = np.stack([self.squares(z), self.squares(z + self.jumps[..., [line]])])
        both = both if edges is None else np.where(edges[0], both, -1)
        side, edge = divmod(int(np.argmax(both)), lines.count)
        return int(both[side, edge]), Place(found, edge, bool(side))


def whole_gradients(
    problem: Problem, owner: IntArray, sign: FloatArray, n_lines: int
) -> WholeGradients:
    """Add up jumps and the gradients before the first crossings, as `line_gradients` does."""
    kinks, kink_unit = _array(np.array(problem.activation.kink_slopes))
    weight, weight_unit = _array(problem.hidden_weight)
    output, output_unit = _array(problem.output_weight)
    terms = output[:, None, :] * weight.T[None]
    up = sign > 0.0
    base = (terms * kinks[np.where(up, 0, 1)]).sum(axis=-1)
    signed = terms * np.where(up, 1, -1) * (kinks[1] - kinks[0])
    jumps = np.zeros((*base.shape, n_lines), dtype=object)
    for neuron, line in enumerate(owner):
        jumps[..., line] += signed[..., neuron]
    start = np.cumsum(np.concatenate([base[..., None], jumps[..., :-1]], axis=-1), axis=-1)
    unit = kink_unit * weight_unit * output_unit
    return WholeGradients(start, np.concatenate([jumps, -jumps], axis=-1), unit)


def _array(values: FloatArray) -> tuple[ObjectArray, Fraction]:
    """Return an array of whole numbers and a unit with values = numbers·unit."""
    numbers, unit = whole_numbers(values.ravel().tolist())
    return np.array(numbers, dtype=object).reshape(values.shape), unit
