"""Linear relations between rows of rational numbers, in integers."""

from __future__ import annotations

import math
from fractions import Fraction


def nonnegative_relation(rows: list[list[Fraction]]) -> bool:
    """Tell whether some u ≥ 0, u ≠ 0, has Σu_i·row_i = (0, …, 0, −μ₀) with μ₀ ≥ 0.

    Only relations between *all* the rows are looked for, unique up to a factor: the search hands
    over the support of an extreme solution.

    Args:
        rows: n rows of d + 1 numbers.

    Returns:
        True only if there are such u.
    """
    columns = len(rows[0])
    slack = [Fraction(0)] * (columns - 1) + [Fraction(1)]
    for candidate in (rows, [*rows, slack]):
        relation = null_vector([_integers(row) for row in candidate])
        if relation is not None:
            signs = {value > 0 for value in relation if value}
            if len(signs) == 1 and any(relation[: len(rows)]):
                return True
    return False


def null_vector(rows: list[list[int]]) -> list[int] | None:
    """Return the integers v ≠ 0 with Σv_i·row_i = 0, if they are unique up to a factor.

    Fraction-free elimination (Bareiss) of the columns of the transposed system.
    """
    n = len(rows)
    matrix = [[rows[i][j] for i in range(n)] for j in range(len(rows[0]))]
    pivots: list[int] = []
    previous, top = 1, 0
    for column in range(n):
        pivot = next((i for i in range(top, len(matrix)) if matrix[i][column]), None)
        if pivot is None:
            if len(pivots) < column:
                return None  # a second free column
            continue
        matrix[top], matrix[pivot] = matrix[pivot], matrix[top]
        head = matrix[top]
        for i, row in enumerate(matrix):
            if i != top:
                factor = row[column]
                matrix[i] = [
                    (head[column] * row[j] - factor * head[j]) // previous for j in range(n)
                ]
        previous = head[column]
        pivots.append(column)
        top += 1
    if len(pivots) != n - 1:
        return None
    free = next(j for j in range(n) if j not in pivots)
    vector = [0] * n
    vector[free] = -previous
    for i, column in enumerate(pivots):
        vector[column] = matrix[i][free]
    return vector


def _integers(row: list[Fraction]) -> list[int]:
    """Return the row times a positive number that makes it integer."""
    denominator = math.lcm(*(value.denominator for value in row))
    return [int(value * denominator) for value in row]
