"""What every Lipschitz bound of the book takes and returns: domains, witnesses, brackets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def as_floats(name: str, values: Any) -> FloatArray:
    """Return `values` (list, numpy array or torch tensor) as a float64 array of finite numbers.

    Args:
        name: the argument's name, for the message.
        values: real numbers of any shape.

    Returns:
        A float64 array; float32 input is converted without rounding.

    Raises:
        ValueError: something in it is not a finite real number.
    """
    if hasattr(values, "detach"):  # a torch tensor; torch itself is not needed to say so
        values = values.detach().cpu().double().numpy()
    try:
        raw = np.asarray(values)
        array = np.asarray(raw, dtype=np.float64) if raw.dtype.kind in "iuf" else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ValueError(
            f"`{name}` must be an array of real numbers. Got {type(values).__name__}. "
            "Pass a list, a numpy array or a torch tensor of numbers."
        )
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise ValueError(f"`{name}` must be finite. Got {bad}. Remove NaN and infinite entries.")
    return array


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
        object.__setattr__(self, "center", _plain(as_floats("center", self.center), "center"))
        radius = as_floats("radius", self.radius)
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
    low, high = (_plain(as_floats("domain", bound), "domain") for bound in pair)
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


@dataclass(frozen=True)
class Witness:
    """Hold one place where the gradient is as large as a lower bound says.

    Attributes:
        point: x, d coordinates. Piecewise linear σ: x lies inside a cell on which f is affine;
            where such a cell is narrower than the spacing of floats, x is the nearest float and
            `pattern` names it.
        pattern: for piecewise-linear σ, which neurons have a positive pre-activation on that cell,
            (m,); None for smooth σ.
        gradient_norm: ‖J(x)‖₂ rounded down.
    """

    point: tuple[float, ...]
    pattern: BoolArray | None = field(compare=False)
    gradient_norm: float


@dataclass(frozen=True)
class LipschitzBracket:
    """Hold lower ≤ Lip(f, domain) ≤ upper, for f(x) = Aσ(Wx + b) + c and Euclidean norms.

    Attributes:
        lower: rounded down; attained up to rounding at `witness`.
        upper: rounded up.
        exact: upper ≤ (1 + rel_gap)·lower, with `upper` proved.
        verified: whether every number here is proved, rounding errors included.
        basis: what the proof rests on.
        method: the name of the method that answered.
        witness: where the gradient reaches `lower`, or None if no point was found.
        domain: None for the whole space, (low, high) for a box, or a `Ball`.
        seconds: time spent, s.
    """

    lower: float
    upper: float
    exact: bool
    verified: bool
    basis: str
    method: str
    witness: Witness | None
    domain: Domain
    seconds: float = field(compare=False)

    def __post_init__(self) -> None:
        """Check our own invariant: a bracket that is empty is a bug of ours, not of the caller."""
        assert 0.0 <= self.lower <= self.upper, (self.lower, self.upper)

    @property
    def gap(self) -> float:
        """Return upper/lower − 1: 0 where both are 0, ∞ where only `lower` is."""
        if self.lower == 0.0:
            return 0.0 if self.upper == 0.0 else math.inf
        return self.upper / self.lower - 1.0


def is_exact(lower: float, upper: float, rel_gap: float) -> bool:
    """Tell whether upper ≤ (1 + rel_gap)·lower."""
    return upper <= (1.0 + rel_gap) * lower
