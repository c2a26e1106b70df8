"""Ascent on the dual of `primal`: power steps, extrapolated, for a batch of problems at once.

The power step Z ↦ M(t)Z, scaled back to the sphere, leads uphill where no eigenvalue of M(t) is
negative. Extrapolated from the last few steps (Anderson acceleration: H. F. Walker and P. Ni, SIAM
Journal on Numerical Analysis 49, 2011) it takes some twenty steps to a gap of 1e-4. A step that
leads downhill is not taken, and the memory is cleared. The gap λ_max(M(t))/F(Z) − 1 is all that is
left to gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.semidefinite.primal import Program

Members = npt.NDArray[np.intp]

_MEMORY = 8
_IDENTITY = np.eye(_MEMORY)
_MAX_ROUNDS = 400
# λ_max(M(t)) is first computed when the residual has come down to this; later when it has come
# down as far as the gap has to, within limits.
_FIRST_LOOK = 0.05
_IDLE = 1e-8
_SHORTEST = 2.0**-10
# A gap so many times as wide as the residual: Z is near a saddle, mostly for want of rank.
_STARVED = 20.0


@dataclass
class _State:
    """Hold where the ascent of each member of a batch stands.

    Attributes:
        factor: Z, (K, n, r).
        value: F(Z), (K,).
        residual: M(t)Z/F(Z) − Z times the stride, (K, n, r): the power step.
        t: multipliers at Z, (K, m).
        drifts: recent changes of Z + residual, (K, memory, nr); 0 where there is none.
        turns: the changes of the residual that went with them, turned round, (K, memory, nr).
        step: the share of the proposed step to take, (K,).
        look: the residual at which λ_max is computed next, (K,).
        member: which of the problems this is, (K,).
    """

    factor: FloatArray
    value: FloatArray
    residual: FloatArray
    t: FloatArray
    drifts: FloatArray
    turns: FloatArray
    step: FloatArray
    look: FloatArray
    member: Members

    def take(self, kept: BoolArray) -> _State:
        """Return the members that are kept."""
        return _State(*(array[kept] for array in vars(self).values()))


def unit(factor: FloatArray) -> FloatArray:
    """Return Z scaled to ‖Z‖_F² = 2; 0 stays 0."""
    size = _squares(factor)
    return factor * np.sqrt(2.0 / np.where(size > 0.0, size, 1.0))[:, None, None]


def _squares(factor: FloatArray) -> FloatArray:
    """Return ‖Z‖_F², (K,)."""
    flat = factor.reshape(len(factor), -1)
    return np.asarray(np.vecdot(flat, flat))


def _at(problem: Program, factor: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return F(Z), the power step from Z, and t."""
    value, image, t = problem.evaluate(factor)
    residual = image / np.where(value > 0.0, value, 1.0)[:, None, None] - factor
    return value, residual * problem.stride[:, None, None], t


def _start(problem: Program, factor: FloatArray) -> _State:
    factor = unit(factor)
    size, length = len(factor), factor[0].size
    drifts, turns = np.zeros((2, size, _MEMORY, length))
    value, residual, t = _at(problem, factor)
    look = np.full(size, _FIRST_LOOK)
    member = np.arange(size)
    return _State(factor, value, residual, t, drifts, turns, np.ones(size), look, member)


def _proposal(state: _State) -> FloatArray:
    """Return the extrapolated step: f + Σγ_i drift_i, γ least squares of f by turns."""
    residual = state.residual.reshape(len(state.factor), -1, 1)
    gram = state.turns @ state.turns.mT
    # Slightly regularised: turns may be missing or nearly dependent.
    diagonal = gram.diagonal(axis1=1, axis2=2).sum(axis=1)
    gram += (1e-12 * diagonal + 1e-290)[:, None, None] * _IDENTITY
    share = np.linalg.solve(gram, state.turns @ residual)
    step = (state.drifts.mT @ share).reshape(state.factor.shape) + state.residual
    return state.step[:, None, None] * step


def _advance(problem: Program, state: _State, slot: int) -> None:
    """Take one step, or none where it would lead downhill, and remember it in the slot."""
    size = len(state.factor)
    factor = unit(state.factor + _proposal(state))
    value, residual, t = _at(problem, factor)
    uphill = value >= state.value * (1.0 - 1e-14)
    if not uphill.all():
        # Without memory the next proposal is a power step; if this was one, half of it.
        downhill = ~uphill
        remembered = state.turns[downhill].any(axis=(1, 2))
        state.step[downhill] *= np.where(remembered, 1.0, 0.5)
        state.turns[downhill], state.drifts[downhill] = 0.0, 0.0
        for kept, found in ((state.factor, factor), (state.value, value), (state.t, t)):
            found[downhill] = kept[downhill]
        residual[downhill] = state.residual[downhill]
    turn = state.residual - residual
    state.drifts[:, slot] = (factor - state.factor - turn).reshape(size, -1)
    state.turns[:, slot] = turn.reshape(size, -1)
    state.factor, state.value, state.residual, state.t = factor, value, residual, t
    state.step = np.minimum(state.step * (1.0 + uphill), 1.0)


class Best:
    """Keep the best multipliers, and the last Z, of every member of a batch."""

    def __init__(self, state: _State) -> None:
        """Begin with nothing known of λ_max."""
        self.t, self.factor, self.value = state.t.copy(), state.factor.copy(), state.value.copy()
        self.bound = np.full(len(state.value), np.inf)

    def gap(self, member: Members) -> FloatArray:
        """Return λ_max(M(t))/F(Z) − 1."""
        bound, value = self.bound[member], self.value[member]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bound > 0.0, bound / value - 1.0, 0.0)

    def learn(self, problem: Program, state: _State, due: BoolArray) -> None:
        """Compute λ_max of the members that are due, and take over what is better."""
        chosen = slice(None) if due.all() else due
        bound = np.linalg.eigvalsh(problem.matrix(state.t)[chosen])[:, -1]
        member = state.member[chosen]
        self.factor[member], self.value[member] = state.factor[chosen], state.value[chosen]
        self._take_over(member, bound, state.t[chosen])

    def challenge(self, problem: Program, t: FloatArray) -> None:
        """Take over t where its λ_max is smaller; a quotient mostly shows that it is not."""
        rival = problem.quotient(self.factor, t) < self.bound
        if rival.any():
            bound = np.linalg.eigvalsh(problem.take(rival).matrix(t[rival]))[:, -1]
            self._take_over(np.flatnonzero(rival), bound, t[rival])

    def replace(self, member: Members, found: Best) -> None:
        """Take over what another search has found, in a wider Z."""
        more = found.factor.shape[2] - self.factor.shape[2]
        self.factor = np.pad(self.factor, ((0, 0), (0, 0), (0, more)))
        self.factor[member], self.value[member] = found.factor, found.value
        self._take_over(member, found.bound, found.t)

    def _take_over(self, member: Members, bound: npt.NDArray[Any], t: FloatArray) -> None:
        better = bound < self.bound[member]
        if not better.all():
            member, bound, t = member[better], bound[better], t[better]
        self.bound[member], self.t[member] = bound, t


def climb(
    problem: Program, factor: FloatArray, target: float, stop: Callable[[], bool] | None
) -> Best:
    """Climb F from Z until every member has closed its gap to the target, or is stuck."""
    state = _start(problem, factor)
    best = Best(state)
    try:
        for turn in range(_MAX_ROUNDS):
            if stop is not None and stop():
                break
            _advance(problem, state, turn % _MEMORY)
            going = _looked_at(problem, state, best, target)
            if not going.any():
                return best
            if not going.all():
                problem, state = problem.take(going), state.take(going)
    except KeyboardInterrupt:
        if stop is None:
            raise
    best.learn(problem, state, np.ones(len(state.value), dtype=bool))
    return best


def _looked_at(problem: Program, state: _State, best: Best, target: float) -> BoolArray:
    """Compute the gaps of members whose residual has come down; return who is to go on."""
    size = np.sqrt(_squares(state.residual))
    stuck = (size < _IDLE) | (state.step < _SHORTEST) | ~(state.value > 0.0)
    due = stuck | (size < state.look)
    if 4 * due.sum() < due.size:  # one look at many is cheaper than many looks
        return np.ones_like(due)
    best.learn(problem, state, due)
    gap = best.gap(state.member)
    starved = gap > _STARVED * size
    state.look = np.where(due, size * np.clip(1.5 * target / gap, 0.35, 0.7), state.look)
    going: BoolArray = ~due | ((gap > target) & ~stuck & ~starved)
    return going
