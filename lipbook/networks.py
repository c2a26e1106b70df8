"""Two-layer networks f(x) = Aσ(Wx + b) + c, held as ensembles of K networks of one shape.

A single network is the ensemble of size one. All tensors are stacked along their first axis and
keep torch's orientation (out, in).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lipbook.activations import Activation, get_activation

BLOCKS = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")


@dataclass(frozen=True)
class Ensemble:
    """Hold K two-layer networks with m neurons, d inputs and k outputs.

    Attributes:
        hidden_weight: W, (K, m, d).
        hidden_bias: b, (K, m).
        output_weight: A, (K, k, m).
        output_bias: c, (K, k).
        activation: σ.

    Raises:
        ValueError: the shapes do not fit together, or the dtypes or devices differ.
    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    activation: Activation

    def __post_init__(self) -> None:
        """Check that the four blocks belong together."""
        if self.hidden_weight.ndim != 3 or self.output_weight.ndim != 3:
            raise ValueError(
                "`hidden_weight` and `output_weight` must have the axes (K, m, d) and (K, k, m). "
                f"Got {tuple(self.hidden_weight.shape)} and {tuple(self.output_weight.shape)}. "
                "Add a leading axis of length 1 for a single network."
            )
        size, width, _ = self.hidden_weight.shape
        k = self.output_weight.shape[1]
        expected = {
            "hidden_bias": (size, width),
            "output_weight": (size, k, width),
            "output_bias": (size, k),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"`{name}` must have shape {shape} to go with `hidden_weight`. "
                    f"Got {tuple(getattr(self, name).shape)}. Reshape it."
                )
        kinds = {(block.dtype, block.device) for block in self.blocks()}
        if len(kinds) > 1:
            raise ValueError(
                f"`{BLOCKS[0]}` and the other blocks must share one dtype and device. Got {kinds}. "
                "Use Ensemble.to(dtype=..., device=...)."
            )

    @property
    def size(self) -> int:
        """K, the number of networks."""
        return self.hidden_weight.shape[0]

    @property
    def width(self) -> int:
        """m, the number of hidden neurons."""
        return self.hidden_weight.shape[1]

    @property
    def input_dim(self) -> int:
        """d, the number of inputs."""
        return self.hidden_weight.shape[2]

    @property
    def output_dim(self) -> int:
        """k, the number of outputs."""
        return self.output_weight.shape[1]

    @property
    def n_parameters(self) -> int:
        """p = m(d + 1 + k) + k, the number of parameters of one network."""
        return self.width * (self.input_dim + 1 + self.output_dim) + self.output_dim

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the blocks."""
        return BLOCKS

    def blocks(self) -> Iterator[Tensor]:
        """Yield W, b, A, c in this order."""
        return (getattr(self, name) for name in BLOCKS)

    def preactivation(self, x: Tensor) -> Tensor:
        """Return z = Wx + b.

        Args:
            x: inputs, (n, d).

        Returns:
            (K, n, m).
        """
        return torch.baddbmm(
            self.hidden_bias.unsqueeze(1),
            x.expand(self.size, *x.shape),
            self.hidden_weight.transpose(1, 2),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x) = Aσ(Wx + b) + c.

        Args:
            x: inputs, (n, d).

        Returns:
            (K, n, k).
        """
        hidden = self.activation.value(self.preactivation(x))
        return torch.baddbmm(
            self.output_bias.unsqueeze(1), hidden, self.output_weight.transpose(1, 2)
        )

    def jacobian(self, x: Tensor) -> Tensor:
        """Return ∂f/∂x = A·diag(σ'(Wx + b))·W; at a kink with the left slope of σ.

        Args:
            x: inputs, (n, d).

        Returns:
            (K, n, k, d).
        """
        slopes = self.activation.slope(self.preactivation(x))
        return torch.einsum("ekm,enm,emd->enkd", self.output_weight, slopes, self.hidden_weight)

    def hidden_norm(self) -> Tensor:
        """Return ‖W‖_op of each network, (K,), from a singular value decomposition."""
        return torch.linalg.matrix_norm(self.hidden_weight, ord=2)

    def output_norm(self) -> Tensor:
        """Return ‖A‖_op of each network, (K,), from a singular value decomposition."""
        return torch.linalg.matrix_norm(self.output_weight, ord=2)

    def parameter_norm(self) -> Tensor:
        """Return ‖Θ‖ = √(‖W‖² + ‖b‖² + ‖A‖² + ‖c‖²), Frobenius norms, (K,)."""
        squares = [block.flatten(1).square().sum(1) for block in self.blocks()]
        return torch.stack(squares).sum(0).sqrt()

    def select(self, indices: Sequence[int]) -> Ensemble:
        """Return the networks with these indices, as an ensemble of their own."""
        where = self.hidden_weight.device
        chosen = torch.as_tensor(list(indices), dtype=torch.long, device=where)
        return replace(self, **{n: getattr(self, n)[chosen] for n in BLOCKS})

    def to(self, *, dtype: torch.dtype | None = None, device: str | None = None) -> Ensemble:
        """Return the same networks in another dtype or on another device."""
        return replace(self, **{n: getattr(self, n).to(device, dtype) for n in BLOCKS})

    def clone(self) -> Ensemble:
        """Return a copy whose tensors share no memory with these."""
        return replace(self, **{n: getattr(self, n).clone() for n in BLOCKS})


@dataclass(frozen=True)
class InitialScale:
    """Give the standard deviations of a Gaussian start; the output bias starts at 0.

    Attributes:
        hidden_weight: of each W_ij.
        hidden_bias: of each b_j.
        output_weight: of each A_ij.
    """

    hidden_weight: float
    hidden_bias: float
    output_weight: float


def _standard(m: int, d: int) -> InitialScale:
    return InitialScale(1 / math.sqrt(d), 1.0, 1 / math.sqrt(m))


def _zero_bias(m: int, d: int) -> InitialScale:
    return InitialScale(1 / math.sqrt(d), 0.0, 1 / math.sqrt(m))


def _mean_field(m: int, d: int) -> InitialScale:
    return InitialScale(1 / math.sqrt(d), 1.0, 1 / m)


def _tangent_kernel(m: int, d: int) -> InitialScale:
    # f = (1/√m)·Σ ã_j σ(⟨w̃_j, x⟩ + b̃_j) with ã, w̃, b̃ of order one and rate η is, for
    # homogeneous σ, this network with rate η/√m: a = ã·m^(−1/4), and W, b alike.
    return InitialScale(m**-0.25 / math.sqrt(d), m**-0.25, m**-0.25)


INITIAL_SCALES = {
    "standard": _standard,
    "zero-bias": _zero_bias,
    "mean-field": _mean_field,
    "tangent-kernel": _tangent_kernel,
}


def gaussian_ensemble(
    width: int,
    input_dim: int,
    output_dim: int = 1,
    *,
    seeds: Sequence[int] = (0,),
    activation: str | Activation = "relu",
    scale: str = "standard",
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Ensemble:
    """Draw one network per seed with independent centred Gaussian weights and c = 0.

    Network i depends on `seeds[i]`, the shape and the scale alone, not on the other seeds; the
    numbers come from numpy's PCG64 generator in the order W, b, A. No global generator is touched.

    Args:
        width: m ≥ 1.
        input_dim: d ≥ 1.
        output_dim: k ≥ 1.
        seeds: one nonnegative integer per network.
        activation: σ, by name or as an `Activation`.
        scale: standard deviations of (W, b, A): "standard" (1/√d, 1, 1/√m), "zero-bias" (1/√d, 0,
            1/√m), "mean-field" (1/√d, 1, 1/m), "tangent-kernel" (m^(−1/4)/√d, m^(−1/4), m^(−1/4)).
        dtype: of the tensors.
        device: of the tensors, such as "cpu" or "cuda".

    Returns:
        An `Ensemble` of len(seeds) networks.

    Raises:
        ValueError: an empty list of seeds, an unknown scale, or a dimension below 1.
    """
    for name, value in {"width": width, "input_dim": input_dim, "output_dim": output_dim}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Got {value}. Use 1 or more.")
    if not seeds:
        raise ValueError("`seeds` must name at least one seed. Got none. Use seeds=(0,).")
    if scale not in INITIAL_SCALES:
        raise ValueError(
            f"`scale` must be one of {', '.join(INITIAL_SCALES)}. Got {scale!r}. "
            "Build an Ensemble for another."
        )
    deviation = INITIAL_SCALES[scale](width, input_dim)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in BLOCKS}
    for seed in seeds:
        generator = np.random.default_rng(seed)
        normal = generator.standard_normal
        drawn["hidden_weight"].append(deviation.hidden_weight * normal((width, input_dim)))
        drawn["hidden_bias"].append(deviation.hidden_bias * normal(width))
        drawn["output_weight"].append(deviation.output_weight * normal((output_dim, width)))
        drawn["output_bias"].append(np.zeros(output_dim))
    stacked = {n: torch.from_numpy(np.stack(v)).to(device, dtype) for n, v in drawn.items()}
    return Ensemble(**stacked, activation=get_activation(activation))
