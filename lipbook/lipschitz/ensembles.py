"""Brackets of the Lipschitz constants of a whole ensemble, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.bracketing import solver_for
from lipbook.lipschitz.domains import Domain, checked_domain
from lipbook.lipschitz.problem import Options, Problem, checked_stack
from lipbook.lipschitz.sort import SORT_BASIS, checked_kinks, sort_bracket, steepest_cells
from lipbook.networks import Ensemble


@dataclass(frozen=True)
class LipschitzBrackets:
    """Hold lower ≤ Lip(f_i, domain) ≤ upper for K networks; entry i belongs to network i.

    Attributes:
        lower: (K,), rounded down.
        upper: (K,), rounded up.
        exact: (K,), whether upper ≤ (1 + rel_gap)·lower.
        points: (K, d), where the gradient reaches `lower`; NaN where no point was found.
        verified: whether every number here is proved, rounding errors included.
        basis: what the proofs rest on.
        method: the name of the method that answered.
        domain: None for the whole space, (low, high) for a box, or a `Ball`.
        seconds: time spent, s.
    """

    lower: FloatArray
    upper: FloatArray
    exact: BoolArray
    points: FloatArray
    verified: bool
    basis: str
    method: str
    domain: Domain
    seconds: float


def brackets(
    ensemble: Ensemble,
    activation: str | Activation | None = None,
    domain: Any = None,
    method: str = "auto",
    rel_gap: float = 1e-6,
    time_limit: float = 60.0,
    seed: int = 0,
) -> LipschitzBrackets:
    """Bracket the Lipschitz constants of the K networks of an ensemble.

    Piecewise-linear networks of one input are sorted in one batch; others go through `bracket` one
    by one.

    Args:
        ensemble: K networks with hidden_weight (K, m, d), hidden_bias (K, m), output_weight (K, k,
            m).
        activation: σ; None takes the ensemble's own.
        domain: None, (low, high) or a `Ball`, the same for all.
        method: as in `bracket`.
        rel_gap: as in `bracket`.
        time_limit: of each network, s.
        seed: as in `bracket`.

    Returns:
        `LipschitzBrackets`.

    Raises:
        ValueError: as in `bracket`.
    """
    options = Options(rel_gap=rel_gap, time_limit=time_limit, seed=seed)
    weight, bias, output = checked_stack(
        ensemble.hidden_weight, ensemble.hidden_bias, ensemble.output_weight
    )
    chosen = get_activation(ensemble.activation if activation is None else activation)
    checked = checked_domain(domain, weight.shape[2])
    problems = [
        Problem(w, b, a, chosen, checked) for w, b, a in zip(weight, bias, output, strict=True)
    ]
    solve = solver_for(method, problems[0])
    if solve is sort_bracket:
        return _sorted(problems[0], weight[..., 0], bias, output, options)
    found = [solve(problem, Options(rel_gap, time_limit, seed)) for problem in problems]
    missing = (np.nan,) * weight.shape[2]
    return LipschitzBrackets(
        lower=np.array([b.lower for b in found]),
        upper=np.array([b.upper for b in found]),
        exact=np.array([b.exact for b in found]),
        points=np.array([missing if b.witness is None else b.witness.point for b in found]),
        verified=all(b.verified for b in found),
        basis="; or ".join(sorted({b.basis for b in found})),
        method=found[0].method,
        domain=checked,
        seconds=options.seconds,
    )


def _sorted(
    problem: Problem, weight: FloatArray, bias: FloatArray, output: FloatArray, options: Options
) -> LipschitzBrackets:
    """Sort all networks at once; `problem` is the first of them."""
    kinks, domain = checked_kinks(problem.activation), problem.domain
    found = steepest_cells(weight, bias, output, kinks, domain, options.rel_gap).constants
    return LipschitzBrackets(
        lower=found.lower,
        upper=found.upper,
        exact=found.upper <= (1.0 + options.rel_gap) * found.lower,
        points=found.location[:, None],
        verified=True,
        basis=SORT_BASIS,
        method="sort",
        domain=problem.domain,
        seconds=options.seconds,
    )
