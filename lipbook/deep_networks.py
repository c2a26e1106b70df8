"""Perceptrons of any depth, f(x) = W_L σ(… σ(W_1 x + b_1) …) + b_L, K of one shape at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lipbook.activations import Activation, get_activation


@dataclass(frozen=True)
class DeepEnsemble:
    """Hold K perceptrons with L weight layers; a two-layer network has L = 2.

    Attributes:
        weights: W_1, …, W_L, each (K, m_l, m_{l−1}), m_0 = d inputs, m_L outputs.
        biases: b_1, …, b_L, each (K, m_l).
        activation: σ, between the layers.

    Raises:
        ValueError: the shapes do not fit together, or the dtypes or devices differ.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: Activation

    def __post_init__(self) -> None:
        """Check that the layers follow on each other."""
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(
                "`weights` and `biases` must be as many, at least one of each. "
                f"Got {len(self.weights)} and {len(self.biases)}. Use zeros for a missing bias."
            )
        inner = self.weights[0].shape[-1]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            expected = (self.size, weight.shape[-2], inner)
            if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:2]:
                raise ValueError(
                    f"layer {index} of `weights` and `biases` must have shapes {expected} and "
                    f"{expected[:2]}. Got {tuple(weight.shape)} and {tuple(bias.shape)}. "
                    "Give (K, out, in) and (K, out), each layer's inputs the outputs before it."
                )
            inner = weight.shape[-2]
        kinds = {(block.dtype, block.device) for block in self.blocks()}
        if len(kinds) > 1:
            raise ValueError(
                f"`weights` and `biases` must share one dtype and device. Got {kinds}. "
                "Convert them to one."
            )

    @property
    def size(self) -> int:
        """K, the number of networks."""
        return self.weights[0].shape[0]

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """(d, m_1, …, m_L)."""
        return (self.input_dim, *(weight.shape[1] for weight in self.weights))

    @property
    def input_dim(self) -> int:
        """d, the number of inputs."""
        return self.weights[0].shape[2]

    @property
    def output_dim(self) -> int:
        """k = m_L, the number of outputs."""
        return self.weights[-1].shape[1]

    @property
    def n_parameters(self) -> int:
        """p, the number of parameters of one network."""
        return sum(block[0].numel() for block in self.blocks())

    @property
    def names(self) -> tuple[str, ...]:
        """Return "weight 1", "bias 1", "weight 2", …"""
        layers = range(1, self.depth + 1)
        return tuple(f"{kind} {layer}" for layer in layers for kind in ("weight", "bias"))

    def blocks(self) -> Iterator[Tensor]:
        """Yield W_1, b_1, W_2, b_2, …"""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            yield weight
            yield bias

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x).

        Args:
            x: inputs, (n, d).

        Returns:
            (K, n, k).
        """
        hidden = x.expand(self.size, *x.shape)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
            if layer < self.depth:
                hidden = self.activation.value(hidden)
        return hidden

    def weight_norms(self) -> Tensor:
        """Return ‖W_l‖_op, (L, K), from singular value decompositions."""
        return torch.stack([torch.linalg.matrix_norm(weight, ord=2) for weight in self.weights])

    def parameter_norm(self) -> Tensor:
        """Return ‖Θ‖, the Euclidean norm of all parameters, (K,)."""
        squares = [block.flatten(1).square().sum(1) for block in self.blocks()]
        return torch.stack(squares).sum(0).sqrt()

    def layers(self, network: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the pairs (W_l, b_l) of one network, as `deep_bracket` takes them.

        Args:
            network: which of them.
        """
        pairs = zip(self.weights, self.biases, strict=True)
        return [(w[network].cpu().numpy(), b[network].cpu().numpy()) for w, b in pairs]

    def clone(self) -> DeepEnsemble:
        """Return a copy whose tensors share no memory with these."""
        return replace(
            self,
            weights=tuple(weight.clone() for weight in self.weights),
            biases=tuple(bias.clone() for bias in self.biases),
        )


def gaussian_deep_ensemble(
    widths: Sequence[int],
    *,
    seeds: Sequence[int] = (0,),
    activation: str | Activation = "relu",
    bias_scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> DeepEnsemble:
    """Draw one network per seed, W_l with independent entries N(0, 1/m_{l−1}).

    Hidden biases are N(0, s²) and the last bias is 0. Network i depends on `seeds[i]` and the shape
    alone; numpy's PCG64 generator draws W_1, b_1, W_2, b_2, … in this order, so that with two
    layers the networks are those of `gaussian_ensemble` in its standard scale (s = 1).

    Args:
        widths: (d, m_1, …, m_L), each at least 1.
        seeds: one nonnegative integer per network.
        activation: σ, by name or as an `Activation`.
        bias_scale: s ≥ 0.
        dtype: of the tensors.

    Raises:
        ValueError: fewer than two widths, a width below 1, a negative s, or no seed.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(
            f"`widths` must be inputs, hidden widths and outputs, each at least 1. "
            f"Got {tuple(widths)}. Use (1, 32, 32, 1)."
        )
    if not bias_scale >= 0.0:
        raise ValueError(f"`bias_scale` must be at least 0. Got {bias_scale}. Use 1.0.")
    if not seeds:
        raise ValueError("`seeds` must name at least one seed. Got none. Use seeds=(0,).")
    drawn = [_draw(widths, seed, bias_scale) for seed in seeds]
    stacked = [torch.from_numpy(np.stack(each)).to(dtype) for each in zip(*drawn, strict=True)]
    return DeepEnsemble(tuple(stacked[::2]), tuple(stacked[1::2]), get_activation(activation))


def _draw(widths: Sequence[int], seed: int, bias_scale: float) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    blocks: list[np.ndarray] = []
    last = len(widths) - 2
    for layer, (inner, outer) in enumerate(itertools.pairwise(widths)):
        blocks.append(1 / math.sqrt(inner) * generator.standard_normal((outer, inner)))
        hidden = layer < last
        blocks.append(bias_scale * generator.standard_normal(outer) if hidden else np.zeros(outer))
    return blocks
