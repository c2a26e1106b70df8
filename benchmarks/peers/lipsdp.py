"""LipSDP of one hidden layer with slopes in [0, 1], in three equivalent forms, through cvxpy.

All three have the same optimal value L_sdp; solvers differ in what each form costs them.

    lmi      min √ρ   [[ρI, −WᵀT], [−TW, 2T − AᵀA]] ⪰ 0, T = diag(t) ≥ 0        (d + m) × (d + m)
    maxcut   min √Σy  diag(y) ⪰ VVᵀ/4, V = [diag(a)W; aᵀW], one output          (m + 1) × (m + 1)
    short    min λ    λI ⪰ ½Σ[[t wwᵀ, waᵀ], [awᵀ, r aaᵀ]], t·r ≥ 1              (d + k) × (d + k)

lmi is the neuron version of Fazlyab, Robey, Hassani, Morari and Pappas (2019). maxcut is the dual
of the Goemans–Williamson relaxation of max ‖Wᵀdiag(a)(1 + s)/2‖² over s ∈ {−1, 1}^m, with one more
sign in place of the constant 1 (Wang, Prakriya and Jha 2022). short is the formula behind
`lipbook.lipschitz.sdp_bracket`, handed to a general solver: it shows how much of the difference in
time is the formula's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

# What each solver is asked for beside its defaults.
SETTINGS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"max_threads": 1},
    "SCS": {},
    "CVXOPT": {},
}


@dataclass(frozen=True)
class Solved:
    """Hold what a solver answered.

    Attributes:
        value: L_sdp by its objective; no bound, for constraints hold only to a tolerance.
        status: the solver's own word.
        solver_seconds: the time inside the solver, without cvxpy's own, s.
    """

    value: float
    status: str
    solver_seconds: float


def lmi(weight: np.ndarray, output: np.ndarray) -> tuple[cp.Problem, bool]:
    """Return the matrix inequality of LipSDP-Neuron, whose value is L²."""
    m, d = weight.shape
    rho, t = cp.Variable(), cp.Variable(m, nonneg=True)
    coupling = -cp.diag(t) @ weight
    corner = 2.0 * cp.diag(t) - output.T @ output
    matrix = cp.bmat([[rho * np.eye(d), coupling.T], [coupling, corner]])
    return cp.Problem(cp.Minimize(rho), [matrix >> 0]), True


def maxcut(weight: np.ndarray, output: np.ndarray) -> tuple[cp.Problem, bool]:
    """Return the dual of the max-cut relaxation for one output, whose value is L²."""
    v = signed_rows(weight, output)
    y = cp.Variable(len(v))
    return cp.Problem(cp.Minimize(cp.sum(y)), [cp.diag(y) - v @ v.T >> 0]), True


def signed_rows(weight: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return V/2 = [diag(a)W; aᵀW]/2, (m + 1, d), for one output."""
    if output.shape[0] != 1:
        raise ValueError(
            f"`output` must have one row for the max-cut form. Got {output.shape[0]}. Use lmi."
        )
    rows = output.T * weight
    return 0.5 * np.vstack([rows, rows.sum(axis=0)])


def short(weight: np.ndarray, output: np.ndarray) -> tuple[cp.Problem, bool]:
    """Return the inequality of size d + k, whose value is L."""
    m, d = weight.shape
    k = output.shape[0]
    t, r, bound = cp.Variable(m), cp.Variable(m), cp.Variable()
    left = np.hstack([weight, np.zeros((m, k))])
    right = np.hstack([np.zeros((m, d)), output.T])
    cross = left.T @ right
    # One sparse-to-dense map for all neurons: cvxpy is slow with a sum of m matrices.
    squares = np.stack([left[:, :, None] * left[:, None, :], right[:, :, None] * right[:, None, :]])
    size = d + k
    columns = squares.reshape(2 * m, size * size).T
    total = cp.reshape(columns @ cp.hstack([t, r]), (size, size), order="C") + cross + cross.T
    inverse = cp.SOC(t + r, cp.vstack([t - r, np.full(m, 2.0)]), axis=0)
    return cp.Problem(cp.Minimize(bound), [bound * np.eye(size) - total / 2.0 >> 0, inverse]), False


FORMS = {"lmi": lmi, "maxcut": maxcut, "short": short}


def solve(
    weight: np.ndarray,
    output: np.ndarray,
    form: str = "lmi",
    solver: str = "CVXOPT",
    settings: dict[str, Any] | None = None,
) -> Solved:
    """Solve LipSDP by cvxpy.

    Args:
        weight: W, (m, d).
        output: A, (k, m).
        form: a name in `FORMS`.
        solver: a name in `SETTINGS`.
        settings: for the solver, beside those of `SETTINGS`.

    Returns:
        The `Solved` problem.

    Raises:
        RuntimeError: the solver found no optimum.
    """
    problem, squared = FORMS[form](weight, output)
    begin = time.perf_counter()
    problem.solve(solver=solver, **SETTINGS[solver], **(settings or {}))
    seconds = time.perf_counter() - begin - (problem.compilation_time or 0.0)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise RuntimeError(f"{solver} found no optimum: {problem.status}")
    value = float(np.sqrt(max(problem.value, 0.0))) if squared else float(problem.value)
    return Solved(value, problem.status, seconds)
