"""What one line sees of a network with one kink: all the gradients along it, from one sort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz import LipschitzBracket
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem, checked_problem
from lipbook.lipschitz.regions import ball_arrays, line_range
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Sizes below this, relative to the terms that they are differences of, count as 0.
_ZERO = 1e-12
# Crossings nearer than this, relative to their distance, count as one; pieces of that length, or
# that overlap with the domain by no more, are not looked at.
_SAME = 1e-10


@dataclass(frozen=True)
class Pieces:
    """Hold the pieces of a line.

    Attributes:
        cuts: θ_(1) < … < θ_(q), (q,).
        jacobians: J on each of the q + 1 pieces, (q + 1, k, d).
    """

    cuts: np.ndarray
    jacobians: np.ndarray


@dataclass(frozen=True)
class SeenAlongLine:
    """One sort gives the gradients on all pieces of the line x + θν; none exceeds the constant.

    At a crossing J changes by (s₊ − s₋)Σ sign⟨w_j, ν⟩A_jw_jᵀ. It says nothing of cells off the
    line.

    Attributes:
        point: x, d coordinates.
        direction: ν ≠ 0, d coordinates.

    Raises:
        HypothesisError: ν is zero, or a coordinate is not finite.

    References:
        The book's proposition `prop-line`.
    """

    point: tuple[float, ...]
    direction: tuple[float, ...]

    label = "prop-line"
    title = "What a line sees"

    def __post_init__(self) -> None:
        """Refuse what is no line."""
        x, v = (np.asarray(each, np.float64) for each in (self.point, self.direction))
        if x.ndim != 1 or x.shape != v.shape or not np.isfinite([x, v]).all() or not v.any():
            refuse(
                "direction", "be finite, not zero, and of the length of `point`", self.label,
                "ν ≠ 0", self.direction, "Give two points of the line and take their difference.",
            )  # fmt: skip
        object.__setattr__(self, "point", tuple(x.tolist()))
        object.__setattr__(self, "direction", tuple(v.tolist()))

    def pieces(self, ensemble: Ensemble, network: int) -> Pieces:
        """Return the pieces of the line, crossings that agree up to rounding taken as one.

        Args:
            ensemble: networks with one kink.
            network: which of them.

        Raises:
            HypothesisError: another number of inputs, or σ has not one kink.
        """
        kinks = ensemble.activation.kink_slopes
        if kinks is None:
            refuse(
                "ensemble", "have an activation that is linear on either side of 0", self.label,
                "H1", repr(ensemble.activation.name), "Use relu, leaky relu or abs.",
            )  # fmt: skip
        hidden, bias, output = self._weights(ensemble, network)
        left, right = kinks
        along, height = self._seen(hidden, bias)
        moving = along != 0.0
        terms = np.einsum("km,md->mkd", output, hidden)
        first = np.where(np.where(moving, along < 0.0, height > 0.0), right, left)
        theta = -height[moving] / along[moving]
        reach = np.linalg.norm(hidden[moving], axis=1) * np.linalg.norm(self.point)
        reach = (reach + np.abs(bias[moving])) / np.abs(along[moving])
        order = np.argsort(theta, kind="stable")
        theta, room = theta[order], _SAME * (np.abs(theta) + reach)[order]
        jumps = (right - left) * np.sign(along[moving][order])[:, None, None] * terms[moving][order]
        apart = np.diff(theta) > room[1:] + room[:-1]
        starts = np.flatnonzero(np.concatenate([[True], apart])) if len(theta) else np.zeros(0, int)
        steps = np.add.reduceat(jumps, starts, axis=0) if len(theta) else jumps
        start = np.einsum("m,mkd->kd", first, terms)[None]
        return Pieces(theta[starts], np.cumsum(np.concatenate([start, steps]), axis=0))

    def _weights(self, ensemble: Ensemble, network: int) -> tuple[np.ndarray, ...]:
        if ensemble.input_dim != len(self.point):
            refuse(
                "ensemble", f"have {len(self.point)} inputs, as the line has", self.label, "x",
                f"{ensemble.input_dim} inputs", "Give the line as many coordinates.",
            )  # fmt: skip
        parts = tuple(np.asarray(each, np.float64) for each in weights_of(ensemble, network))
        alive = np.any(parts[0], axis=1)
        return parts[0][alive], parts[1][alive], parts[2][:, alive]

    def _seen(self, hidden: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ⟨w_j, ν⟩, 0 where it is rounding, and ⟨w_j, x⟩ + b_j."""
        along, sizes = hidden @ self.direction, np.linalg.norm(hidden, axis=1)
        still = np.abs(along) <= _ZERO * sizes * np.linalg.norm(self.direction)
        return np.where(still, 0.0, along), hidden @ self.point + bias

    def _clear(self, ensemble: Ensemble, network: int) -> Hypothesis:
        """Check that the line lies in none of the hyperplanes."""
        hidden, bias, _ = self._weights(ensemble, network)
        along, height = self._seen(hidden, bias)
        sizes = np.linalg.norm(hidden, axis=1)
        distance = np.abs(height) / sizes
        room = distance - _ZERO * (np.linalg.norm(self.point) + np.abs(bias) / sizes)
        nearest = float(room[along == 0.0].min(initial=np.inf))
        statement = "the line lies in no hyperplane on which a neuron sits on its kink"
        margin = nearest if np.isfinite(nearest) else None
        return Hypothesis("H2", statement, nearest > 0.0, margin=margin)

    def verdict(self, ensemble: Ensemble, network: int, known: LipschitzBracket) -> Verdict:
        """Return what the proposition says of one network.

        Args:
            ensemble: the networks, of as many inputs as the line has coordinates.
            network: which of them.
            known: a bracket of its Lipschitz constant on a domain.

        Returns:
            The `Verdict`; measured is the largest gradient on the pieces that meet the domain,
            None if none does or a hypothesis fails.

        Raises:
            HypothesisError: another number of inputs.
        """
        kinked = ensemble.activation.is_piecewise_linear
        clear, weights = self._clear(ensemble, network), weights_of(ensemble, network)
        problem = checked_problem(*weights, ensemble.activation, known.domain)
        inside, measured = self._is_inside(problem), None
        if kinked and clear.holds and inside:
            measured = self._steepest(self.pieces(ensemble, network), problem)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest gradient along the line",
            hypotheses=(
                Hypothesis("H1", "the activation is linear on either side of 0", kinked),
                clear,
                Hypothesis("H3", "the line meets the domain, at its point", inside),
            ),
            bound=known.upper,
            measured=measured,
        )

    def _is_inside(self, problem: Problem) -> bool:
        x, d = np.asarray(self.point), problem.input_dim
        if isinstance(problem.domain, Ball):
            centre, radius = ball_arrays(problem.domain, d)
            return bool(np.linalg.norm(x - centre) <= radius)
        box = box_arrays(problem.domain, d)
        return box is None or bool(((x >= box[0]) & (x <= box[1])).all())

    def _steepest(self, pieces: Pieces, problem: Problem) -> float | None:
        x, v = np.asarray(self.point), np.asarray(self.direction)
        low, high = (float(end[0]) for end in line_range(x[None], v[None], problem))
        left = np.maximum(np.concatenate([[-np.inf], pieces.cuts]), low)
        right = np.minimum(np.concatenate([pieces.cuts, [np.inf]]), high)
        ends = np.abs(np.stack([left, right]))
        far = np.where(np.isfinite(ends), ends, 0.0).max(axis=0)
        far += np.linalg.norm(x) / np.linalg.norm(v)
        met = right - left > _SAME * far
        if not met.any():
            return None
        return float(np.linalg.norm(pieces.jacobians[met], ord=2, axis=(1, 2)).max())
