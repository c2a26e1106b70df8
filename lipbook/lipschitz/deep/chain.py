"""Perceptrons as chains of affine maps with one kind of activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipbook.activations import ACTIVATIONS, Activation
from lipbook.lipschitz.arrays import FloatArray, bounded

Layer = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Chain:
    """Hold x ↦ W_n σ(… σ(W_1 x + b_1) …) + b_n as it is put together, step by step.

    Attributes:
        layers: the pairs (W_i, b_i), W_i (out, in).
        activation: σ, None as long as none has come.
        activated: whether σ comes after the last of `layers`.
    """

    layers: tuple[Layer, ...] = ()
    activation: Activation | None = None
    activated: bool = False

    def affine(self, weight: Any, bias: Any = None) -> Chain:
        """Return the chain followed by z ↦ Wz + b; b = 0 if None.

        Raises:
            ValueError: shapes that do not fit, entries that are not finite or above 1e150, or two
                affine maps in a row.
        """
        if self.layers and not self.activated:
            raise ValueError(
                "`layers` must have an activation between two affine maps. Got two affine maps in "
                "a row. Merge them into one."
            )
        matrix, offset = _checked_layer(len(self.layers), weight, bias)
        if self.layers and self.layers[-1][0].shape[0] != matrix.shape[1]:
            raise ValueError(
                f"`layers` must fit together. Got {self.layers[-1][0].shape[0]} outputs of one, "
                f"then {matrix.shape[1]} inputs of the next. Use torch's orientation (out, in)."
            )
        return replace(self, layers=(*self.layers, (matrix, offset)), activated=False)

    def activate(self, activation: Activation) -> Chain:
        """Return the chain followed by σ.

        Raises:
            ValueError: σ comes first, or twice in a row, or is another one than before.
        """
        if not self.layers or self.activated:
            where = "twice in a row" if self.layers else "before the first affine map"
            raise ValueError(
                "`layers` must have an affine map before each activation. "
                f"Got {activation.name!r} {where}. Insert an affine map, or leave it out."
            )
        if self.activation is not None and not same_activation(self.activation, activation):
            raise ValueError(
                "`layers` must share one kind of activation. "
                f"Got {self.activation.name!r} and {activation.name!r}. Use one of them throughout."
            )
        return replace(self, activation=activation, activated=True)

    def finished(self) -> Chain:
        """Return the chain ending with an affine map: a last σ is followed by the identity.

        Raises:
            ValueError: there is no affine map at all.
        """
        if not self.layers:
            raise ValueError("`layers` must hold at least one affine map. Got none. Add one.")
        return self.affine(np.eye(self.layers[-1][0].shape[0])) if self.activated else self


def _checked_layer(index: int, weight: Any, bias: Any) -> Layer:
    matrix = bounded(f"layers[{index}] weight", weight)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"`layers[{index}] weight` must have shape (out, in). Got {matrix.shape}. "
            "Give every affine map one matrix."
        )
    offset = np.zeros(len(matrix)) if bias is None else bounded(f"layers[{index}] bias", bias)
    if offset.shape != (len(matrix),):
        raise ValueError(
            f"`layers[{index}] bias` must have shape ({len(matrix)},) to go with its weight. "
            f"Got {offset.shape}. Give one bias per row, or None."
        )
    return matrix, offset


def chained(layers: Sequence[Any], activation: Activation) -> Chain:
    """Return the chain of the pairs (W_i, b_i) with σ between them (see `Chain`)."""
    chain = Chain()
    for index, layer in enumerate(layers):
        if not isinstance(layer, Sequence) or len(layer) != 2:
            raise ValueError(
                f"`layers[{index}]` must be a pair (weight, bias). Got {type(layer).__name__}. "
                "Use None for no bias."
            )
        chain = chain.activate(activation) if chain.layers else chain
        chain = chain.affine(*layer)
    return replace(chain.finished(), activation=activation)


def leaky_relu(slope: float) -> Activation:
    """Return z ↦ z for z > 0, slope·z for z ≤ 0; "relu", "abs" and "leaky relu" by their names.

    Args:
        slope: σ'(0⁻), any finite number.

    Returns:
        The `Activation`.

    Raises:
        ValueError: the slope is not finite.
    """
    if not np.isfinite(slope):
        raise ValueError(f"`slope` must be finite. Got {slope}. Try 0.01.")
    for known in ACTIVATIONS.values():
        if known.kink_slopes == (slope, 1.0):
            return known

    def derivative(z: Any) -> Any:
        positive = (z > 0).to(z.dtype) if hasattr(z, "detach") else np.asarray(z > 0, dtype=float)
        return positive + (1.0 - positive) * slope

    return replace(
        ACTIVATIONS["leaky relu"],
        name=f"leaky relu {slope:.6g}",
        value=lambda z: derivative(z) * z,
        slope=derivative,
        lipschitz=max(abs(slope), 1.0),
        slope_range=(min(slope, 1.0), max(slope, 1.0)),
        kink_slopes=(slope, 1.0),
        slope_limits=(slope, 1.0),
        overwrite=None,
    )


def same_activation(one: Activation, other: Activation) -> bool:
    """Tell whether two activations agree; slopes at a kink as float32 numbers."""
    if one.kink_slopes is None or other.kink_slopes is None:
        return one.name == other.name
    pairs = np.array([one.kink_slopes, other.kink_slopes], dtype=np.float32)
    return bool(np.array_equal(pairs[0], pairs[1]))
