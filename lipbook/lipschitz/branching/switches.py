"""The Jacobian of a piecewise-linear network as a sum over switches.

With kink slopes s± put c = (s₋ + s₊)/2 and h = (s₊ − s₋)/2. Off the kinks neuron i has slope
c + h·sgn(z_i), so

    J(x) = G₀ + Σ_g sgn(⟨w_g, x⟩ + b_g)·α_g w_gᵀ,    G₀ = c·AW,

one switch g for each distinct hyperplane {⟨w_g, x⟩ + b_g = 0} that cuts the domain. Neurons on one
hyperplane are merged exactly: if (w_i, b_i) = εκ(w_g, b_g) with κ > 0 and ε = ±1, the term of
neuron i is ε·sgn(z_g)·h·A_i·εκ·w_gᵀ, so that α_g = h·Σ κ_i A_i whatever the orientations are.
Neurons whose sign does not change in the domain go into G₀. Whether two rows are parallel is
decided exactly; κ and α_g carry a few roundings, which `spread` bounds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import gamma, norm_upper, up
from lipbook.lipschitz.slope_intervals import preactivation_ranges


@dataclass(frozen=True)
class Switches:
    """Hold 2^-e·J(x) = base + Σ_g sgn(⟨w_g, x⟩ + b_g)·α_g w_gᵀ, up to `spread` in norm.

    Attributes:
        weight: w_g·2^-p, (n, d), entries below 1 in size.
        raw_weight: w_g, (n, d), exact.
        bias: b_g, (n,), exact.
        jump: α_g, (k, n).
        base: (k, d).
        spread: bound of the norm of all rounding errors.
        exponent: e.
    """

    weight: FloatArray
    raw_weight: FloatArray
    bias: FloatArray
    jump: FloatArray
    base: FloatArray
    spread: float
    exponent: int

    @property
    def rows(self) -> tuple[FloatArray, FloatArray]:
        """W (n + k, d) and A (k, n + k) of a network with these switches and base as neurons."""
        outputs = np.eye(len(self.base))
        return (
            np.concatenate([self.weight, self.base]),
            np.concatenate([self.jump, outputs], axis=1),
        )

    @property
    def count(self) -> int:
        """n, the number of switches."""
        return self.bias.size


def switches_of(problem: Problem) -> Switches:
    """Return the network's Jacobian on its domain as `Switches`."""
    assert problem.activation.kink_slopes is not None
    left, right = problem.activation.kink_slopes
    weight, output, e = problem.scaled_layers
    live = problem.hidden_weight.any(axis=1) & problem.output_weight.any(axis=0)
    sign = np.where(live, _fixed_signs(problem), 0)
    centre, half = 0.5 * left + 0.5 * right, 0.5 * right - 0.5 * left
    slopes = np.where(sign > 0, right, np.where(sign < 0, left, centre))
    slopes = np.where(live, slopes, 0.0)
    base = (output * slopes) @ weight
    groups = _parallel_groups(problem, np.flatnonzero(live & (sign == 0)))
    groups = [group for group in groups if len(group) == 1 or _jumps(problem, group)]
    first = np.array([group[0] for group in groups], dtype=np.intp)
    jump = np.zeros((output.shape[0], first.size))
    for column, group in enumerate(groups):
        jump[:, column] = output[:, group] @ _ratios(problem, group) * half
    # Every term A_i w_iᵀ enters with a few roundings; those with slope 0 do not enter at all.
    steepness = np.where(sign == 0, abs(centre) + abs(half), np.abs(slopes)) * live
    size = steepness @ (norm_upper(weight) * norm_upper(output.T))
    spread = float(up(gamma(problem.width + 12) * size, problem.width + 6))
    spread += 2.0**-500 if steepness.any() else 0.0
    if not groups:  # f is affine on the domain, perhaps constant: neurons that cancel must do so
        base, spread = _exact_base(problem, slopes)
    return Switches(
        weight=weight[first],
        raw_weight=problem.hidden_weight[first],
        bias=problem.hidden_bias[first],
        jump=jump,
        base=base,
        spread=spread,
        exponent=e,
    )


def _fixed_signs(problem: Problem) -> FloatArray:
    """Return the sign of each pre-activation where it is the same all over the domain, else 0."""
    below, above = preactivation_ranges(problem)
    return np.where(below > 0.0, 1.0, np.where(above < 0.0, -1.0, 0.0))


def _parallel_groups(problem: Problem, chosen: npt.NDArray[np.intp]) -> list[list[int]]:
    """Return the chosen neurons in groups that share a hyperplane, each group in order.

    Division is correctly rounded, so rows that are parallel have equal quotients to the last bit;
    only rows with equal quotients are compared in rational arithmetic.
    """
    rows = np.concatenate([problem.hidden_weight, problem.hidden_bias[:, None]], axis=1)[chosen]
    lead = np.abs(rows[:, :-1]).argmax(axis=1)[:, None]
    with np.errstate(over="ignore", under="ignore"):
        quotients = rows / np.take_along_axis(rows, lead, axis=1) + 0.0
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, quotient in zip(chosen.tolist(), quotients, strict=True):
        alike[quotient.tobytes()].append(index)
    groups = []
    for indices in alike.values():
        if len(indices) == 1:
            groups.append(indices)
            continue
        exact: dict[tuple[Fraction, ...], list[int]] = defaultdict(list)
        for index in indices:
            exact[_direction(problem, index)].append(index)
        groups.extend(exact.values())
    return sorted(groups)


def _direction(problem: Problem, index: int) -> tuple[Fraction, ...]:
    """Return (w, b) divided by its first nonzero weight, exactly."""
    row = [Fraction(v) for v in (*problem.hidden_weight[index], problem.hidden_bias[index])]
    lead = next(v for v in row if v)
    return tuple(v / lead for v in row)


def _jumps(problem: Problem, group: list[int]) -> bool:
    """Tell whether Σ κ_i A_i ≠ 0, exactly: neurons of one hyperplane may cancel."""
    lead = int(np.abs(problem.hidden_weight[group[0]]).argmax())
    sizes = [abs(Fraction(v)) for v in problem.hidden_weight[group, lead].tolist()]
    return any(
        sum(size * Fraction(a) for size, a in zip(sizes, row, strict=True)) != 0
        for row in problem.output_weight[:, group].tolist()
    )


def _exact_base(problem: Problem, slopes: FloatArray) -> tuple[FloatArray, float]:
    """Return 2^-e·A·diag(s)·W with correctly rounded entries, and a bound of the error's norm."""
    unit = Fraction(2) ** -problem.scaled_layers[2]
    columns = [[Fraction(v) for v in column] for column in problem.hidden_weight.T.tolist()]
    factors = [Fraction(s) * unit for s in slopes.tolist()]
    base = np.zeros((problem.output_dim, problem.input_dim))
    lost = 0.0
    for i, row in enumerate(problem.output_weight.tolist()):
        scaled = [Fraction(a) * s for a, s in zip(row, factors, strict=True)]
        for j, column in enumerate(columns):
            entry = sum((a * w for a, w in zip(scaled, column, strict=True)), Fraction(0))
            base[i, j] = float(entry)
            lost = 2.0**-1000 if entry else lost  # what underflow may take
    return base, float(gamma(1) * np.abs(base).sum()) + lost


def _ratios(problem: Problem, group: list[int]) -> FloatArray:
    """Return κ_i > 0 with w_i = ±κ_i·w_g, g the first of the group; one rounding each."""
    rows = problem.hidden_weight[group]
    lead = int(np.abs(rows[0]).argmax())
    ratios: FloatArray = np.abs(rows[:, lead] / rows[0, lead])
    return ratios
