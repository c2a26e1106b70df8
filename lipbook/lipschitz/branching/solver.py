"""`branch_bracket`: exact Lipschitz constants of piecewise-linear networks of several inputs."""

from __future__ import annotations

from typing import Any

from lipbook.activations import Activation
from lipbook.lipschitz.ascent import ascent_witness
from lipbook.lipschitz.branching.feasibility import finder_for
from lipbook.lipschitz.branching.incumbents import Incumbent
from lipbook.lipschitz.branching.proof import BranchProof, leaf_bound, unproved, unscaled
from lipbook.lipschitz.branching.search import Search
from lipbook.lipschitz.branching.switches import switches_of
from lipbook.lipschitz.branching.tree import CLOSED, Node, Tree
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.results import Certificate, LipschitzBracket, is_exact

_BASIS = (
    "a tree of activation patterns: each leaf bounded by λ_max with a verified residual, or proved "
    "empty by multipliers with a verified or rational solution"
)


def exact_by_branching(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
    rel_gap: float = 1e-6,
    time_limit: float = 60.0,
    seed: int = 0,
) -> LipschitzBracket:
    """Compute the Lipschitz constant of a piecewise-linear network by branch and bound.

    Lip(f, D) = max of ‖A·diag(s)·W‖ over the patterns s of cells that meet the inside of D. The
    patterns are not listed: those of a whole branch are bounded together, in the worst case by a
    time exponential in m.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m) or (m,).
        activation: σ with one kink at 0: "relu", "leaky relu", "abs".
        domain: None, (low, high) or a `Ball`.
        rel_gap: stop once upper ≤ (1 + rel_gap)·lower.
        time_limit: stop after about so many seconds and return the bracket so far; so does Ctrl-C.
        seed: of random starts and directions.

    Returns:
        A `LipschitzBracket`, open if the time limit or the memory budget of 1 GB came first.

    Raises:
        ValueError: the arguments do not fit together, or σ is smooth.
    """
    problem = checked_problem(hidden_weight, hidden_bias, output_weight, activation, domain)
    reason = why_not_branch(problem)
    if reason is not None:
        raise ValueError(
            f"`activation` must be piecewise linear to branch over patterns: it {reason}. "
            'Use method="enclosure" or "sdp".'
        )
    return branch_bracket(problem, Options(rel_gap=rel_gap, time_limit=time_limit, seed=seed))


def why_not_branch(problem: Problem) -> str | None:
    """Return why branching over patterns does not apply, or None if it does."""
    if not problem.activation.is_piecewise_linear:
        return f"needs a piecewise-linear activation. Got {problem.activation.name!r}"
    return None


def branch_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant of one piecewise-linear network by branch and bound.

    Args:
        problem: a network with a piecewise-linear σ, any domain.
        options: tolerance, time limit, seed.

    Returns:
        The bracket; `basis` says why the search ended.
    """
    switches = switches_of(problem)
    incumbent = Incumbent(problem, switches, ascent_witness(problem, options))
    search = Search(switches, finder_for(switches, problem.domain), incumbent, options)
    # Whatever happens later, the root alone is a proof.
    whole = Tree([Node(-1, -1, 0, CLOSED, search.tree.nodes[0].multiplier)])
    upper, tree = unscaled(leaf_bound(switches, whole), switches), whole
    ending = search.run()
    try:
        while missing := unproved(switches, problem.domain, search.tree):
            search.reopen(missing)
            ending = search.run()
        grown = search.tree.pruned() if search.interrupted else search.tree
        found = unscaled(leaf_bound(switches, grown), switches)
        upper, tree = min((upper, whole), (found, grown), key=lambda pair: pair[0])
    except KeyboardInterrupt:
        ending = "it was interrupted"
    lower = 0.0 if incumbent.witness is None else incumbent.witness.gradient_norm
    return LipschitzBracket(
        lower=lower,
        upper=max(upper, lower),
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=f"{_BASIS}; ended because {ending}",
        method="branch",
        witness=incumbent.witness,
        domain=problem.domain,
        seconds=options.seconds,
        certificate=Certificate(problem, BranchProof(tree)),
    )
