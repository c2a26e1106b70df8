"""Fewer coordinates for a layer with more coordinates than neurons, with a proved error.

For any L (m, m) and B (d, m), W = LBᵀ + Δ, hence ‖A·D·W‖ ≤ ‖B‖·‖A·D·L‖ + Σ_i |s_i|‖a_i‖‖δ_i‖ with
the rows δ_i of Δ. Householder's triangular factorisation suggests L and B; ‖B‖² ≤ 1 + ‖BᵀB − I‖ and
the rows of W − LBᵀ are computed with the rounding bounds of inner products summed in any order.
"""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.rounding import exponent, frobenius_upper, gamma, norm_upper, up


def in_row_basis(weight: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Return L (m, m), an upper bound of ‖B‖, and upper bounds of ‖δ_i‖, (m,).

    Args:
        weight: W, (m, d), d ≥ m.
    """
    width, d = weight.shape
    e = exponent(weight, -1)
    rows = np.ldexp(weight, -e)
    basis, upper = np.linalg.qr(rows.T)
    scaled = upper.T
    size = float(frobenius_upper(basis))
    defect = float(frobenius_upper(basis.T @ basis - np.eye(width)))
    stretch = np.sqrt(1.0 + up(defect + gamma(d) * size**2, 4))
    missing = norm_upper(rows - scaled @ basis.T)
    missing = up(missing, 1) + up(gamma(width) * norm_upper(scaled) * size, 3)
    return np.ldexp(scaled, e), float(up(stretch, 2)), np.ldexp(missing, e[:, 0])
