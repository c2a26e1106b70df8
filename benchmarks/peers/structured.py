"""The max-cut form of LipSDP by CVXOPT's interior-point method, with linear algebra of its own.

A modelling language hands the solver m + 1 general matrices. Here CVXOPT is told that they are the
coordinate matrices e_i e_iᵀ, so that its Newton system costs one Cholesky factor of size m + 1:
what an expert would do with the same solver and the same relaxation.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from cvxopt import matrix, solvers
from scipy.linalg import cho_factor, cho_solve

from benchmarks.peers.lipsdp import Solved, signed_rows


def maxcut_structured(weight: np.ndarray, output: np.ndarray) -> Solved:
    """Solve min Σy with diag(y) ⪰ VVᵀ for one output; the answer is √Σy = L_sdp.

    Args:
        weight: W, (m, d).
        output: A, (1, m).

    Returns:
        The `Solved` problem.

    Raises:
        RuntimeError: the solver found no optimum.
    """
    rows = signed_rows(weight, output)
    n = len(rows)
    begin = time.perf_counter()
    answer = solvers.conelp(
        matrix(1.0, (n, 1)),
        _diagonal,
        matrix((-rows @ rows.T).reshape(-1, 1)),
        {"l": 0, "q": [], "s": [n]},
        kktsolver=_newton,
        # Without refinement the last steps lose feasibility and it never stops at m = 400.
        options={"show_progress": False, "refinement": 2},
    )
    if answer["status"] != "optimal":
        raise RuntimeError(f"CVXOPT found no optimum: {answer['status']}")
    seconds = time.perf_counter() - begin
    return Solved(float(np.sqrt(max(answer["primal objective"], 0.0))), "optimal", seconds)


def _square(vector: Any, n: int) -> np.ndarray:
    """View a matrix of CVXOPT as (n, n); it keeps the columns one after another."""
    return np.asarray(vector).reshape(n, n, order="F")


def _diagonal(x: Any, y: Any, alpha: float = 1.0, beta: float = 0.0, trans: str = "N") -> None:
    """Set y ← α·G x + β·y with G x = −diag(x), or with its transpose Gᵀz = −diag⁻¹(z)."""
    source, target = np.asarray(x)[:, 0], np.asarray(y)[:, 0]
    target *= beta
    n = min(source.size, target.size)
    if trans == "N":
        target[:: n + 1] -= alpha * source
    else:
        target -= alpha * source[:: n + 1]


def _newton(scaling: dict[str, Any]) -> Any:
    """Return the solver of [[0, Gᵀ], [G, −SᵀS]] (x, z) = (b, c) for CVXOPT's scaling S.

    S⁻ᵀ sends C to RᵀCR and S⁻¹S⁻ᵀ sends it to TCT, T = RRᵀ. With z = S⁻¹S⁻ᵀ(Gx − c) the first row
    is (T∘T)x = b − diag⁻¹(TCT). CVXOPT wants S z in place of z.
    """
    root = np.asarray(scaling["rti"][0])
    n = len(root)
    middle = root @ root.T
    factor = cho_factor(middle * middle)

    def solve(x: Any, y: Any, z: Any) -> None:
        # Of a symmetric matrix CVXOPT fills the lower triangle alone.
        lower = np.tril(_square(z, n))
        right = lower + np.tril(lower, -1).T
        b = np.asarray(x)[:, 0]
        b -= np.einsum("ij,jk,ik->i", middle, right, middle, optimize=True)
        b[:] = cho_solve(factor, b)
        right[np.diag_indices(n)] += b
        np.asarray(z)[:, 0] = (-root.T @ right @ root).ravel(order="F")

    return solve
