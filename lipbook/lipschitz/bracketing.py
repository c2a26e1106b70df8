"""`bracket`: the Lipschitz constant of one network, by the best method that applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lipbook.activations import Activation
from lipbook.lipschitz.ascent import ascent_witness
from lipbook.lipschitz.branching.solver import branch_bracket, why_not_branch
from lipbook.lipschitz.enclosure import enclosure_bracket
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.product import product_upper_bound
from lipbook.lipschitz.results import LipschitzBracket, is_exact
from lipbook.lipschitz.semidefinite.sdp import sdp_bracket_on
from lipbook.lipschitz.smooth.boxes import boxes_bracket, why_not_boxes
from lipbook.lipschitz.sort import sort_bracket
from lipbook.lipschitz.sweeping.sweep import sweep_bracket, why_not_sweep

# With more inputs "auto" takes the SDP bound: a bracket at once, if an open one.
MOST_INPUTS_FOR_BOXES = 4

Solver = Callable[[Problem, Options], LipschitzBracket]


def bracket(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
    method: str = "auto",
    rel_gap: float = 1e-6,
    time_limit: float = 60.0,
    seed: int = 0,
    watch: Callable[[float, float], None] | None = None,
) -> LipschitzBracket:
    """Bracket the Lipschitz constant of f(x) = Aσ(Wx + b) + c, Euclidean norms on both sides.

    lower ≤ Lip(f, domain) = sup over x of ‖A·diag(σ'(Wx + b))·W‖_op ≤ upper, both proved.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m), or (m,) for one output.
        activation: σ, by name or as an `Activation`.
        domain: None for ℝ^d; (low, high), numbers or d of them, for a box; or a `Ball`.
        method: for piecewise-linear σ "sort" (one input), "sweep" (two inputs) or "branch" (any
            number of them), all exact; for smooth σ "enclosure" (one input; up to eight on a box or
            ball): exact to rel_gap; for any network "sdp" (closed-form LipSDP above, ascent below)
            and "product" (product bound above, ascent below); or "auto", the first of these that
            applies, "enclosure" up to four inputs.
        rel_gap: stop once upper ≤ (1 + rel_gap)·lower.
        time_limit: stop after about so many seconds and return the bracket so far; so does Ctrl-C.
        seed: of random starts and directions.
        watch: called with (lower, upper) whenever a long search has narrowed its bracket.

    Returns:
        A `LipschitzBracket`.

    Raises:
        ValueError: the arguments do not fit together, or the method does not apply to this network.
    """
    problem = checked_problem(hidden_weight, hidden_bias, output_weight, activation, domain)
    options = Options(rel_gap=rel_gap, time_limit=time_limit, seed=seed, watch=watch)
    return solver_for(method, problem)(problem, options)


def product_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant by the product of the layers' norms and by ascent."""
    upper = product_upper_bound(problem.hidden_weight, problem.output_weight, problem.activation)
    witness = ascent_witness(problem, options)
    lower = 0.0 if witness is None else witness.gradient_norm
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis="upper: L_σ‖A‖‖W‖, norms proved from an approximate SVD with rounding bounds; "
        "lower: a gradient at the witness, rounded down",
        method="product",
        witness=witness,
        domain=problem.domain,
        seconds=options.seconds,
    )


def _why_not_sort(problem: Problem) -> str | None:
    if problem.input_dim != 1:
        return f"needs a network of one input. Got {problem.input_dim} inputs"
    if not problem.activation.is_piecewise_linear:
        return f"needs a piecewise-linear activation. Got {problem.activation.name!r}"
    return None


def _why_not_enclosure(problem: Problem) -> str | None:
    if problem.input_dim > 1:
        return why_not_boxes(problem)
    if problem.activation.curvature is None or problem.activation.curvature_lipschitz is None:
        return f"needs a smooth activation. Got {problem.activation.name!r}"
    return None


def _enclosure(problem: Problem, options: Options) -> LipschitzBracket:
    solve = boxes_bracket if problem.input_dim > 1 else enclosure_bracket
    return solve(problem, options)


def _never_refuses(problem: Problem) -> str | None:
    return None


def _always_suits(problem: Problem) -> bool:
    return True


def _closes_soon(problem: Problem) -> bool:
    """Tell whether boxes can be expected to close the gap: their number grows like ε^(-d/2)."""
    return problem.input_dim <= MOST_INPUTS_FOR_BOXES


@dataclass(frozen=True)
class Method:
    """Hold one way to a bracket.

    Attributes:
        solve: it.
        why_not: says why it does not apply to a problem, or None.
        suits: whether "auto" should choose it where it applies.
    """

    solve: Solver
    why_not: Callable[[Problem], str | None]
    suits: Callable[[Problem], bool] = _always_suits


# In the order in which "auto" prefers them.
METHODS: dict[str, Method] = {
    "sort": Method(sort_bracket, _why_not_sort),
    "sweep": Method(sweep_bracket, why_not_sweep),
    "branch": Method(branch_bracket, why_not_branch),
    "enclosure": Method(_enclosure, _why_not_enclosure, _closes_soon),
    "sdp": Method(sdp_bracket_on, _never_refuses),
    "product": Method(product_bracket, _never_refuses),
}


def solver_for(method: str, problem: Problem) -> Solver:
    """Return the solver of that name, or say why it does not apply."""
    if method == "auto":
        return next(
            each.solve
            for each in METHODS.values()
            if each.why_not(problem) is None and each.suits(problem)
        )
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of auto, {', '.join(METHODS)}. Got {method!r}. Use auto."
        )
    reason = METHODS[method].why_not(problem)
    if reason is not None:
        raise ValueError(
            f'`method` must fit the network: {method!r} {reason}. Use method="sdp" or "auto".'
        )
    return METHODS[method].solve
