"""Whether a symmetric matrix of integers is positive semidefinite: proved in integers.

Small matrices are eliminated without fractions (E. H. Bareiss, Sylvester's identity and multistep
integer-preserving Gaussian elimination, Mathematics of Computation 22, 1968): every entry is a
minor, every pivot must be nonnegative, and a pivot 0 must have a row of zeros. That decides. Large
ones would take too long. There floating point suggests a factor F of X − σI, and the proof is that
X − FFᵀ, computed in integers, has a dominant diagonal; it needs λ_min(X) above rounding errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import FloatArray

IntegerMatrix = npt.NDArray[np.object_]

LARGEST_ELIMINATION = 24
# Bits of the floats that suggest F, well within their range.
_FLOAT_BITS = 900


def as_integers(values: FloatArray) -> tuple[IntegerMatrix, Any]:
    """Return integers N and exponents e, one for each row (last axis), with values = N·2^e."""
    fraction, power = np.frexp(values)
    live = values != 0.0
    lowest = np.where(live, power, 2**20).min(axis=-1)
    lowest = np.where(live.any(axis=-1), lowest, 0)
    shift = np.where(live, power - lowest[..., None], 0)
    whole = np.ldexp(fraction, 53).astype(np.int64).astype(object)
    return whole << shift.astype(object), lowest - 53


def is_semidefinite(matrix: IntegerMatrix) -> bool:
    """Tell whether X ⪰ 0 is proved; for at most 24 rows, whether it is true."""
    if len(matrix) <= LARGEST_ELIMINATION:
        return _eliminates(matrix.tolist())
    return _has_factor(matrix)


def _eliminates(rows: list[list[int]]) -> bool:
    """Eliminate in place; entries below the diagonal are not looked at."""
    n, previous = len(rows), 1
    for j, head in enumerate(rows):
        pivot = head[j]
        if pivot < 0 or (pivot == 0 and any(head[j + 1 :])):
            return False
        if pivot == 0:
            continue
        for i in range(j + 1, n):
            row, factor = rows[i], head[i]
            for c in range(i, n):
                row[c] = (pivot * row[c] - factor * head[c]) // previous
        previous = pivot
    return True


def _has_factor(matrix: IntegerMatrix) -> bool:
    n = len(matrix)
    bits = max(int(value).bit_length() for value in np.abs(np.diagonal(matrix)))
    cut = bits - _FLOAT_BITS
    rough = (matrix >> cut if cut > 0 else matrix).astype(np.float64)
    size = np.abs(rough).max()
    if not 0.0 < size < np.inf:
        return not np.any(matrix)
    rough = rough / size
    least = float(np.linalg.eigvalsh(rough)[0])
    if not least > 0.0:
        return False
    try:
        factor = np.linalg.cholesky(rough - 0.5 * least * np.eye(n))
    except np.linalg.LinAlgError:
        return False
    scale = int(size) << max(cut, 0)
    whole = np.rint(np.ldexp(factor, 53)).astype(np.int64).astype(object)
    # X·4^53 − scale·(F·2^53)(F·2^53)ᵀ
    rest = (matrix << 2 * 53) - scale * (whole @ whole.T)
    diagonal = np.diagonal(rest)
    others = np.abs(rest).sum(axis=1) - np.abs(diagonal)
    return bool((diagonal >= others).all())
