"""A two-layer network, its activation and its domain, checked once for every method."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import FloatArray, bounded
from lipbook.lipschitz.domains import Domain, checked_domain
from lipbook.lipschitz.rounding import exponent


@dataclass(frozen=True)
class Problem:
    """Hold a validated question: how large is Lip(f, domain)?

    Attributes:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m).
        activation: σ.
        domain: as `checked_domain` returns it.
    """

    hidden_weight: FloatArray
    hidden_bias: FloatArray
    output_weight: FloatArray
    activation: Activation
    domain: Domain

    @property
    def width(self) -> int:
        """m, the number of hidden neurons."""
        return self.hidden_weight.shape[0]

    @property
    def input_dim(self) -> int:
        """d, the number of inputs."""
        return self.hidden_weight.shape[1]

    @property
    def output_dim(self) -> int:
        """k, the number of outputs."""
        return self.output_weight.shape[0]

    @cached_property
    def scaled_layers(self) -> tuple[FloatArray, FloatArray, int]:
        """W·2^-p and A·2^-q with entries below 1, and p + q: J is to be scaled by 2^(p + q)."""
        p, q = exponent(self.hidden_weight), exponent(self.output_weight)
        weight, output = np.ldexp(self.hidden_weight, -p), np.ldexp(self.output_weight, -q)
        return weight, output, int(p.item()) + int(q.item())


@dataclass(frozen=True)
class Options:
    """Hold when a method may stop, and what its random choices depend on.

    Attributes:
        rel_gap: stop once upper ≤ (1 + rel_gap)·lower.
        time_limit: stop after about so many seconds and return the bracket so far.
        seed: of the random starts and directions.
        watch: called with (lower, upper) whenever a search has narrowed its bracket.
        started_at: `time.perf_counter()` at the start.
    """

    rel_gap: float = 1e-6
    time_limit: float = 60.0
    seed: int = 0
    watch: Callable[[float, float], None] | None = None
    started_at: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 < self.rel_gap < 1.0:
            raise ValueError(
                f"`rel_gap` must lie strictly between 0 and 1. Got {self.rel_gap}. Try 1e-6."
            )
        if not self.time_limit > 0.0:
            raise ValueError(
                f"`time_limit` must be a positive number of seconds. Got {self.time_limit}. Try 60."
            )
        if not _is_count(self.seed):
            raise ValueError(f"`seed` must be a nonnegative int. Got {self.seed!r}. Try 0.")

    @property
    def seconds(self) -> float:
        """Return the time since the start, s."""
        return time.perf_counter() - self.started_at

    @property
    def out_of_time(self) -> bool:
        """Tell whether the time limit has passed."""
        return self.seconds > self.time_limit


def _is_count(value: Any) -> bool:
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_int and int(value) >= 0


def checked_weights(
    hidden_weight: Any, hidden_bias: Any, output_weight: Any
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return W (m, d), b (m,) and A (k, m) as float64 arrays, or say what is wrong with them.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m), or (m,) for one output.

    Returns:
        W, b, A.

    Raises:
        ValueError: shapes that do not fit, an empty layer, entries that are not finite or above
            1e150.
    """
    weight = checked_hidden(hidden_weight)
    width = weight.shape[0]
    bias = bounded("hidden_bias", hidden_bias)
    if bias.shape != (width,):
        raise ValueError(
            f"`hidden_bias` must have shape ({width},) to go with `hidden_weight`. "
            f"Got {bias.shape}. Give one bias per neuron."
        )
    return weight, bias, checked_output(output_weight, width)


def checked_hidden(hidden_weight: Any) -> FloatArray:
    """Return W as a float64 array (m, d), or say what is wrong with it."""
    weight = bounded("hidden_weight", hidden_weight)
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(
            f"`hidden_weight` must have shape (m, d), d = 1 included. Got {weight.shape}. "
            "Use hidden_weight.reshape(-1, 1) for a single input."
        )
    return weight


def checked_output(output_weight: Any, width: int) -> FloatArray:
    """Return A as a float64 array (k, m), or say what is wrong with it."""
    output = bounded("output_weight", output_weight)
    output = output[None, :] if output.ndim == 1 else output
    if output.ndim != 2 or output.shape[1] != width or output.shape[0] == 0:
        raise ValueError(
            f"`output_weight` must have shape ({width},) or (k, {width}) to go with "
            f"`hidden_weight`. Got {output.shape}. Use torch's orientation (out, in)."
        )
    return output


def checked_problem(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
) -> Problem:
    """Return the validated `Problem` (see `checked_weights` and `checked_domain`)."""
    weight, bias, output = checked_weights(hidden_weight, hidden_bias, output_weight)
    return Problem(
        weight, bias, output, get_activation(activation), checked_domain(domain, weight.shape[1])
    )


def checked_stack(
    hidden_weight: Any, hidden_bias: Any, output_weight: Any
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return W (K, m, d), b (K, m) and A (K, k, m) as float64 arrays, or say what is wrong with
    them.

    Args:
        hidden_weight: W, (K, m, d), or (K, m) for one input.
        hidden_bias: b, (K, m).
        output_weight: A, (K, k, m), or (K, m) for one output.

    Returns:
        W, b, A.

    Raises:
        ValueError: shapes that do not fit, an empty stack, entries that are not finite or above
            1e150.
    """
    weight = bounded("hidden_weight", hidden_weight)
    weight = weight[..., None] if weight.ndim == 2 else weight
    bias = bounded("hidden_bias", hidden_bias)
    output = bounded("output_weight", output_weight)
    output = output[:, None, :] if output.ndim == 2 else output
    if weight.ndim != 3 or 0 in weight.shape:
        raise ValueError(
            f"`hidden_weight` must have shape (K, m, d) for K networks. Got {weight.shape}. "
            "Add a leading axis of length 1 for a single network."
        )
    size, width, _ = weight.shape
    if bias.shape != (size, width):
        raise ValueError(
            f"`hidden_bias` must have shape ({size}, {width}) to go with `hidden_weight`. "
            f"Got {bias.shape}. Give one bias per neuron."
        )
    if output.ndim != 3 or output.shape[::2] != (size, width) or output.shape[1] == 0:
        raise ValueError(
            f"`output_weight` must have shape ({size}, k, {width}) to go with `hidden_weight`. "
            f"Got {output.shape}. Use torch's orientation (out, in)."
        )
    return weight, bias, output
