"""The sets on which a Lipschitz constant is asked for: ℝ^d, boxes, balls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipbook.lipschitz.arrays import FloatArray, bounded


@dataclass(frozen=True)
class Ball:
    """Describe the closed ball {x : ‖x − center‖₂ ≤ radius}.

    Attributes:
        center: d coordinates; a single number stands for d equal ones.
        radius: positive and finite.

    Raises:
        ValueError: the center is not finite, or the radius is not positive and finite.
    """

    center: tuple[float, ...] | float
    radius: float

    def __post_init__(self) -> None:
        """Turn the center into plain floats, so that two equal balls compare equal."""
        object.__setattr__(self, "center", _plain(bounded("center", self.center), "center"))
        radius = bounded("radius", self.radius)
        if radius.ndim != 0 or not radius > 0.0:
            raise ValueError(f"`radius` must be a positive number. Got {self.radius}. Enlarge it.")
        object.__setattr__(self, "radius", float(radius))


Interval = tuple[float, float]
Box = tuple[tuple[float, ...], tuple[float, ...]]
Domain = None | Interval | Box | Ball


def _plain(array: FloatArray, name: str) -> tuple[float, ...] | float:
    """Return a scalar as a float, a vector as a tuple of floats."""
    if array.ndim > 1:
        raise ValueError(
            f"`{name}` must be a number or one number per coordinate. Got shape {array.shape}. "
            "Flatten it."
        )
    return float(array) if array.ndim == 0 else tuple(float(v) for v in array)


def _check_length(value: tuple[float, ...] | float, name: str, input_dim: int) -> None:
    if isinstance(value, tuple) and len(value) != input_dim:
        raise ValueError(
            f"`{name}` must have one entry per input, {input_dim} of them. Got {len(value)}. "
            "Give a single number to use it for every coordinate."
        )


def checked_domain(domain: Any, input_dim: int) -> Domain:
    """Return the domain in plain Python numbers, or say what is wrong with it.

    Args:
        domain: None for the whole space ℝ^d; a pair (low, high) of numbers or of d numbers each, an
            open non-empty box (a closed one has the same Lipschitz constant); or a `Ball`.
        input_dim: d.

    Returns:
        None, (low, high) with floats or tuples of d floats, or the `Ball`.

    Raises:
        ValueError: not a domain, wrong number of coordinates, not finite, or low ≥ high somewhere.
    """
    if domain is None:
        return None
    if isinstance(domain, Ball):
        _check_length(domain.center, "center", input_dim)
        return domain
    if not isinstance(domain, Sequence | np.ndarray) and not hasattr(domain, "detach"):
        pair: list[Any] = []
    else:
        pair = [] if isinstance(domain, str | bytes) else list(domain)
    if len(pair) != 2:
        raise ValueError(
            f"`domain` must be None, a pair (low, high) or a Ball. Got {domain!r}. "
            "Use None for the whole space."
        )
    low, high = (_plain(bounded("domain", bound), "domain") for bound in pair)
    for bound in (low, high):
        _check_length(bound, "domain", input_dim)
    if not np.all(np.less(low, high)):
        raise ValueError(
            f"`domain` must have low < high in every coordinate. Got ({low}, {high}). "
            "Swap or widen the bounds."
        )
    if isinstance(low, tuple) or isinstance(high, tuple):
        full = [b if isinstance(b, tuple) else (b,) * input_dim for b in (low, high)]
        return full[0], full[1]
    return low, high


def box_arrays(domain: Domain, input_dim: int) -> tuple[FloatArray, FloatArray] | None:
    """Return the box domain as two arrays of shape (d,), or None if it is not a box."""
    if domain is None or isinstance(domain, Ball):
        return None
    low, high = (np.broadcast_to(np.asarray(b, dtype=np.float64), (input_dim,)) for b in domain)
    return low, high
