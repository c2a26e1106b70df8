"""Cells of an arrangement: their number in any dimension, and in the plane all of them, naively.

The naive way cuts a square with one line after another. `lipbook.lipschitz` walks along the lines
instead; both must find the same steepest cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz import LipschitzBracket
from lipbook.lipschitz.domains import box_arrays
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.verdict import Hypothesis, Verdict

# A vertex is on a line if it is nearer to it than this share of the square's half-width.
_ON_LINE = 1e-12


def cell_count_bound(n_hyperplanes: int, dimension: int) -> int:
    """Return the greatest number of cells into which m hyperplanes can cut ℝ^d.

    Σ_{i ≤ d} C(m, i).

    Args:
        n_hyperplanes: m ≥ 0.
        dimension: d ≥ 1.

    Returns:
        The number.

    References:
        The book's theorem `thm-cells`.
    """
    return sum(math.comb(n_hyperplanes, i) for i in range(dimension + 1))


def cut_square(weight: np.ndarray, bias: np.ndarray, half_width: float) -> list[np.ndarray]:
    """Cut the square (−B, B)² along the lines ⟨w_j, x⟩ + b_j = 0, one after another.

    Args:
        weight: W, (m, 2); rows that are zero cut nothing.
        bias: b, (m,).
        half_width: B.

    Returns:
        The cells as polygons, each (corners, 2), counterclockwise.
    """
    corner = half_width * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    cells = [corner]
    size = np.linalg.norm(weight, axis=1)
    for w, b, length in zip(weight, bias, size, strict=True):
        if length == 0.0:
            continue
        pieces: list[np.ndarray] = []
        for cell in cells:
            height = (cell @ w + b) / length
            height[np.abs(height) < _ON_LINE * half_width] = 0.0
            pieces += [cell] if height.min() * height.max() >= 0.0 else _halves(cell, height)
        cells = pieces
    return cells


def _halves(cell: np.ndarray, height: np.ndarray) -> list[np.ndarray]:
    """Return the part of a polygon where an affine function is positive, and the other part."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for here, after, h, g in zip(
        cell, np.roll(cell, -1, axis=0), height, np.roll(height, -1), strict=True
    ):
        if h >= 0.0:
            sides[0].append(here)
        if h <= 0.0:
            sides[1].append(here)
        if h * g < 0.0:
            crossing = here + h / (h - g) * (after - here)
            for side in sides:
                side.append(crossing)
    return [np.array(side) for side in sides]


def areas(cells: list[np.ndarray]) -> np.ndarray:
    """Return the area of each polygon.

    Args:
        cells: polygons, each (corners, 2), counterclockwise.

    Returns:
        (cells,).
    """
    following = [np.roll(cell, -1, axis=0) for cell in cells]
    return np.array(
        [
            0.5 * float((cell[:, 0] * after[:, 1] - cell[:, 1] * after[:, 0]).sum())
            for cell, after in zip(cells, following, strict=True)
        ]
    )


def gradient_norms(
    hidden_weight: np.ndarray,
    hidden_bias: np.ndarray,
    output_weight: np.ndarray,
    kink_slopes: tuple[float, float],
    points: np.ndarray,
) -> np.ndarray:
    """Return ‖J(x)‖ of a network with one kink at points off the kinks, rounded to nearest.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m).
        kink_slopes: slopes of σ left and right of 0.
        points: x, (n, d).

    Returns:
        (n,).
    """
    left, right = kink_slopes
    slopes = np.where(points @ hidden_weight.T + hidden_bias > 0.0, right, left)
    jacobians = np.einsum("km,nm,md->nkd", output_weight, slopes, hidden_weight)
    return np.asarray(np.linalg.norm(jacobians, ord=2, axis=(1, 2)))


def reach_of_crossings(weight: np.ndarray, bias: np.ndarray) -> float:
    """Return B such that every cell of the plane meets the square (−B, B)².

    Args:
        weight: W, (m, 2).
        bias: b, (m,).

    Returns:
        Twice the largest coordinate of a crossing or of a line's point nearest to 0, at least 1.
    """
    alive = np.linalg.norm(weight, axis=1) > 0.0
    w, b = weight[alive], bias[alive]
    if len(w) == 0:
        return 1.0
    nearest = np.abs(b[:, None] * w) / (w**2).sum(axis=1, keepdims=True)
    i, j = np.triu_indices(len(w), 1)
    determinant = w[i, 0] * w[j, 1] - w[i, 1] * w[j, 0]
    x = b[j] * w[i, 1] - b[i] * w[j, 1]
    y = b[i] * w[j, 0] - b[j] * w[i, 0]
    cross = np.abs(np.stack([x, y]))[:, determinant != 0.0] / np.abs(determinant[determinant != 0])
    return 2.0 * max(0.5, float(nearest.max()), float(cross.max(initial=0.0)))


@dataclass(frozen=True)
class SweptCells:
    """With two inputs and one kink, walking along every line gives the exact constant.

    Lip_D(f) is the largest of the gradients on both sides of the pieces of the lines.

    References:
        The book's theorem `thm-sweep`.
    """

    label = "thm-sweep"
    title = "Walking along the lines gives the exact constant"

    def verdict(self, ensemble: Ensemble, network: int, known: LipschitzBracket) -> Verdict:
        """Return what the theorem says of one network with two inputs.

        Args:
            ensemble: the networks.
            network: which of them.
            known: a bracket of its Lipschitz constant on the plane or on a square around 0.

        Returns:
            The `Verdict`; measured is the steepest gradient among the cells cut naively.
        """
        kinked = ensemble.activation.is_piecewise_linear
        planar = ensemble.input_dim == 2
        measured = self.measured(ensemble, network, known) if kinked and planar else None
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="steepest gradient among the cells cut naively",
            hypotheses=(
                Hypothesis("H1", "the network has two inputs", planar),
                Hypothesis("H2", "the activation is linear on either side of 0", kinked),
            ),
            bound=known.upper,
            measured=measured,
        )

    def measured(self, ensemble: Ensemble, network: int, known: LipschitzBracket) -> float:
        """Return the largest ‖J‖ at the centres of the cells, rounded to nearest."""
        hidden, bias, output = weights_of(ensemble, network)
        box = box_arrays(known.domain, 2)
        reach = reach_of_crossings(hidden, bias) if box is None else float(box[1].max())
        centres = np.array([cell.mean(axis=0) for cell in cut_square(hidden, bias, reach)])
        kinks = ensemble.activation.kink_slopes
        assert kinks is not None
        return float(gradient_norms(hidden, bias, output, kinks, centres).max())
