"""Lipschitz constants of smooth networks of several inputs on boxes and balls, enclosed to a
relative tolerance.

Best-first branch and bound: `BoxBounds` bounds ‖J‖ from above on boxes that cover the domain, and
suggests points at which `gradient_norms_lower` bounds the constant from below. Boxes that cannot
beat the best lower bound by more than the tolerance are closed; the others are halved along the
axis that owes most to the remainders, those with the largest bound first. The bracket is valid at
every moment. The cuts are its certificate (see `BoxCover`).

The number of boxes grows with the power d of the resolution that the remainders ask for: up to
three or four inputs the gap closes in a second or so at a width of 64, beyond that it may stay
open. So it may on a domain much wider than the distance over which slopes change, if ‖J‖ is about
as large as anywhere all along a plane z_j = 0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.ascent import ascent_witness
from lipbook.lipschitz.jacobians import gradient_norms_lower, witness_at
from lipbook.lipschitz.problem import Options, Problem
from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.regions import drawn_points, project
from lipbook.lipschitz.results import Certificate, LipschitzBracket, Proof, is_exact
from lipbook.lipschitz.rounding import spectral_norm_upper, up, vector_norm
from lipbook.lipschitz.smooth.box_bounds import BoxBounds, Evaluation
from lipbook.lipschitz.smooth.box_proofs import BoxCover, Cancellation
from lipbook.lipschitz.smooth.box_trees import IntArray, SplitTree, divisible, halved
from lipbook.lipschitz.smooth.jacobian_sums import jacobian_sum, region

MAX_INPUTS = 8
# Third derivatives of all neurons, 256 MiB.
MAX_ENTRIES = 2**25
# With so many nodes in the tree, climbing is worth its time.
_LONG = 4096
# Entries of (boxes, neurons) arrays evaluated in one round: at least, at most; and boxes at least.
_LEAST, _MOST, _FEWEST = 8_000, 1_000_000, 32
# Points at which the gradient is evaluated at the start, and in each round.
_DRAWN, _TRIED = 16, 8
# Open boxes × (3d + 2) numbers stay below this, 256 MiB, and so do the nodes of the tree, 80 MiB.
_MEMORY = 2**25
_NODES = 2**24
# Relative to the bound.
_ROOM = 2.0**-40
# Between two calls of `Options.watch`, s.
_PAUSE = 0.3
_BASIS = (
    "Taylor and slope-range bounds of ‖J‖ on boxes that cover the domain, rounded outwards; σ', "
    "σ'' and σ''' are taken to be computed to within 2^-48, 2^-48 and 2^-45"
)


@dataclass(frozen=True)
class _State:
    """Hold the open boxes, the largest bound of closed ones, and the best point so far.

    `lower` and all bounds are in the units of the `JacobianSum`, boxes and `gain` those of its
    region; `point` is in those of the network.
    """

    low: FloatArray
    high: FloatArray
    upper: FloatArray
    gain: FloatArray
    node: IntArray
    closed: float
    lower: float
    point: FloatArray

    def bound(self) -> float:
        """Return the upper bound over all boxes."""
        return max(self.closed, float(self.upper.max(initial=0.0)))

    def chosen(self, which: BoolArray) -> _State:
        """Return the state with some of the open boxes only."""
        return replace(
            self,
            low=self.low[which],
            high=self.high[which],
            upper=self.upper[which],
            gain=self.gain[which],
            node=self.node[which],
        )


def why_not_boxes(problem: Problem) -> str | None:
    """Return why `boxes_bracket` does not apply, or None."""
    if problem.activation.curvature is None or problem.activation.curvature_lipschitz is None:
        return f"needs a smooth activation. Got {problem.activation.name!r}"
    if not 2 <= problem.input_dim <= MAX_INPUTS:
        return f"needs 2 to {MAX_INPUTS} inputs. Got {problem.input_dim}"
    if problem.domain is None:
        return "needs a box or a Ball as domain. Got the whole space"
    entries = problem.width * problem.output_dim * problem.input_dim**3
    if entries > MAX_ENTRIES:
        return f"needs width·outputs·inputs³ of at most {MAX_ENTRIES}. Got {entries}"
    return None


def boxes_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant of one smooth network on a box or a ball to options.rel_gap.

    Args:
        problem: a network for which `why_not_boxes` has nothing to say.
        options: tolerance, time limit and `watch`.

    Returns:
        The bracket. It stays open, and `basis` says why, where time or memory ran out or where
        rounding errors exceed the tolerance: slopes of neurons that cancel to less than about 1e-8
        of their sum.
    """
    search = _Search(problem, options)
    state, ending = search.run()
    witness = witness_at(problem, state.point)
    assert witness is not None  # a smooth activation has a gradient everywhere
    lower, upper = witness.gradient_norm, search.unscaled(state.bound())
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=f"{_BASIS}; ended because {ending}",
        method="enclosure",
        witness=witness,
        domain=problem.domain,
        seconds=options.seconds,
        certificate=Certificate(problem, search.proof()),
    )


class _Search:
    """Hold what does not change from round to round, and the tree of cuts."""

    def __init__(self, problem: Problem, options: Options) -> None:
        """Scale the network and the domain."""
        self.problem, self.options = problem, options
        self.region = region(problem)
        self.terms = jacobian_sum(problem, self.region.exponents)
        self.tree = SplitTree()
        self.called_at, self.climbed = 0.0, False

    def run(self) -> tuple[_State, str]:
        """Cut boxes until the gap is closed; return the last state and why it is the last."""
        state = self._start()
        if self.terms.bias.size == 0:
            return state, "no neuron changes the slope"
        bounds = BoxBounds(self.terms, self.region)
        try:
            state = self._begun(state)
            while state.bound() > (1.0 + self.options.rel_gap) * state.lower:
                if state.upper.size == 0:
                    return state, "rounding errors leave no more room"
                if self.options.out_of_time:
                    return state, "the time limit was reached"
                if state.low.size * 3 > _MEMORY or self.tree.size > _NODES:
                    return state, "the boxes fill the memory budget"
                state = self._refined(bounds, self._climbed(state))
                self._report(state)
        except KeyboardInterrupt:
            return state, "it was interrupted"
        return state, "the gap is closed"

    def proof(self) -> Proof:
        """Return what the upper bound rests on."""
        if self.terms.bias.size == 0:
            return Cancellation()
        return BoxCover(self.tree.levels())

    def unscaled(self, bound: float) -> float:
        """Return an upper bound of bound·2^e, a little room for the check of the certificate."""
        if bound == 0.0:
            return 0.0
        scaled = np.ldexp(bound * (1.0 + _ROOM), self.terms.value_exponent)
        return float(np.nextafter(scaled, np.inf))

    def _start(self) -> _State:
        """Begin with the domain and ‖base‖ + sup|σ'|·Σ‖V_j‖ ≥ ‖J‖, at its middle."""
        terms, box = self.terms, (self.region.low[None], self.region.high[None])
        total = slope_magnitude(terms.activation) * terms.sizes.sum()
        largest = up(spectral_norm_upper(terms.base) + total + terms.spread, terms.sizes.size + 8)
        middle = self.region.points(0.5 * box[0] + 0.5 * box[1])
        return _State(
            *box,
            upper=np.array([largest]),
            gain=box[1] - box[0],
            node=np.zeros(1, dtype=np.intp),
            closed=0.0,
            lower=0.0,
            point=project(middle, self.problem)[0],
        )

    def _begun(self, state: _State) -> _State:
        """Start from the steepest of some points."""
        # On a wide domain, or for steep neurons, slopes change near the planes z_j = 0 only.
        near = drawn_points(replace(self.problem, domain=None), _DRAWN, self.options.seed)
        near = np.concatenate([near, self._feet(state.point)])
        points = np.concatenate([state.point[None], project(near, self.problem)])
        return self._better(state, points)

    def _feet(self, point: FloatArray) -> FloatArray:
        """Return the nearest points on the planes z_j = 0 of the neurons of the largest ‖V_j‖."""
        terms = self.terms
        chosen = np.argsort(terms.sizes)[-_DRAWN:]
        direction = np.ldexp(terms.direction[chosen], -self.region.exponents)
        length = vector_norm(direction)[:, None]
        with np.errstate(all="ignore"):
            unit = direction / length
            away = unit @ point + terms.bias[chosen] / length[:, 0]
            feet = point - away[:, None] * unit
        return np.where(np.isfinite(feet), feet, point)

    def _climbed(self, state: _State) -> _State:
        """Try where climbing leads, once, in a search that turns out to be long."""
        if self.climbed or self.tree.size < _LONG:
            return state
        self.climbed = True
        witness = ascent_witness(self.problem, self.options)
        return state if witness is None else self._better(state, np.array([witness.point]))

    def _better(self, state: _State, points: FloatArray) -> _State:
        """Raise the lower bound to the steepest gradient at the points."""
        norms = gradient_norms_lower(self.problem, points)
        best = int(norms.argmax())
        lower = float(np.ldexp(norms[best], -self.terms.value_exponent))
        return replace(state, lower=lower, point=points[best]) if lower > state.lower else state

    def _refined(self, bounds: BoxBounds, state: _State) -> _State:
        """Cut the boxes with the largest bounds, evaluate the pieces, close what can be closed."""
        picked, times = self._picked(state.upper)
        cut = state.chosen(picked)
        for _ in range(times):
            cut = self._halved(cut)
        found = bounds.evaluate(cut.low, cut.high)
        upper = np.minimum(found.upper, cut.upper)
        state = self._better(state, self._suggested(found))
        # Neither rounding errors nor the spacing of floats leave room to refine such a box.
        final = found.settled | ~divisible(cut.low, cut.high).any(axis=1)
        still = (upper > (1.0 + self.options.rel_gap) * state.lower) & ~final
        rest, fresh = (
            state.chosen(~picked),
            replace(cut, upper=upper, gain=found.gain).chosen(still),
        )
        return _State(
            low=np.concatenate([rest.low, fresh.low]),
            high=np.concatenate([rest.high, fresh.high]),
            upper=np.concatenate([rest.upper, fresh.upper]),
            gain=np.concatenate([rest.gain, fresh.gain]),
            node=np.concatenate([rest.node, fresh.node]),
            closed=max(state.closed, float(upper[~still].max(initial=0.0))),
            lower=state.lower,
            point=state.point,
        )

    def _halved(self, state: _State) -> _State:
        """Halve every box along the axis with most to gain, and note it in the tree."""
        axis = np.where(divisible(state.low, state.high), state.gain, -1.0).argmax(axis=1)
        low, high = halved(state.low, state.high, axis)
        gain = state.gain.copy()
        gain[np.arange(len(axis)), axis] *= 0.5
        return replace(
            state,
            low=low,
            high=high,
            upper=np.repeat(state.upper, 2),
            gain=np.repeat(gain, 2, axis=0),
            node=self.tree.cut(state.node, axis),
        )

    def _picked(self, upper: FloatArray) -> tuple[BoolArray, int]:
        """Return which open boxes to cut, and how often each."""
        width = self.terms.bias.size
        least, most = (max(_FEWEST, entries // width) for entries in (_LEAST, _MOST))
        times = int(np.clip(np.log2(least / upper.size), 1, 8))
        picked = np.ones(upper.size, dtype=bool)
        parents = max(1, most >> times)
        if parents < upper.size:
            picked[np.argpartition(upper, -parents)[:-parents]] = False
        return picked, times

    def _suggested(self, found: Evaluation) -> FloatArray:
        """Return the points suggested for the boxes with the largest bounds."""
        chosen = np.arange(found.upper.size)
        if chosen.size > _TRIED:
            chosen = np.argpartition(found.upper, -_TRIED)[-_TRIED:]
        return project(self.region.points(found.point[chosen]), self.problem)

    def _report(self, state: _State) -> None:
        """Call `Options.watch`, a few times a second at most."""
        now = time.perf_counter()
        if self.options.watch is not None and now - self.called_at > _PAUSE:
            self.called_at = now
            lower = float(np.ldexp(state.lower, self.terms.value_exponent))
            self.options.watch(lower, self.unscaled(state.bound()))
