"""Tangent kernels of two-layer networks with one output, and their least eigenvalue.

The parameters of a network are put into one vector in the order W (row by row), b, a, c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.networks import Ensemble

# Half the gap between 1 and the next float.
UNIT = 2.0**-53
# What the library functions σ and σ' may be wrong by, in units of the last place.
LIBRARY_ULPS = 8.0


@dataclass(frozen=True)
class LeastEigenvalue:
    """Enclose λ_min(JJᵀ), the least of the n eigenvalues of a network's tangent kernel.

    Attributes:
        value: the best guess, the square of J's computed least singular value.
        lower: a lower bound, ≥ 0.
        upper: an upper bound.
    """

    value: float
    lower: float
    upper: float

    @property
    def error(self) -> float:
        """The most that `value` can be wrong by."""
        return max(self.value - self.lower, self.upper - self.value)


def _one_output(ensemble: Ensemble) -> None:
    if ensemble.output_dim != 1:
        raise ValueError(
            "`ensemble` must have one output for a tangent kernel. "
            f"Got {ensemble.output_dim}. Look at one output at a time."
        )


def parameter_jacobian(ensemble: Ensemble, x: Tensor) -> Tensor:
    """Return J, whose row i is the gradient of f(x_i) in the parameters; at a kink the left slope.

    ∂f/∂w_j = a_jσ'(z_j)x, ∂f/∂b_j = a_jσ'(z_j), ∂f/∂a_j = σ(z_j), ∂f/∂c = 1.

    Args:
        ensemble: K networks with one output.
        x: inputs, (n, d).

    Returns:
        (K, n, p).

    Raises:
        ValueError: several outputs.
    """
    _one_output(ensemble)
    z = ensemble.preactivation(x)
    pull = ensemble.activation.slope(z) * ensemble.output_weight
    blocks = [
        (pull[..., None] * x[None, :, None, :]).flatten(2),
        pull,
        ensemble.activation.value(z),
        z.new_ones(ensemble.size, len(x), 1),
    ]
    return torch.cat(blocks, dim=2)


def tangent_kernel(ensemble: Ensemble, x: Tensor) -> Tensor:
    """Return JJᵀ without J: 1 + ⟨σ(z_i), σ(z_k)⟩ + (1 + ⟨x_i, x_k⟩)·Σ_j a_j²σ'(z_ij)σ'(z_kj).

    Args:
        ensemble: K networks with one output.
        x: inputs, (n, d).

    Returns:
        (K, n, n).

    Raises:
        ValueError: several outputs.
    """
    _one_output(ensemble)
    z = ensemble.preactivation(x)
    hidden = ensemble.activation.value(z)
    pull = ensemble.activation.slope(z) * ensemble.output_weight
    inputs = 1.0 + x @ x.T
    return 1.0 + hidden @ hidden.transpose(1, 2) + inputs * (pull @ pull.transpose(1, 2))


def least_eigenvalue(ensemble: Ensemble, network: int, x: Tensor) -> LeastEigenvalue:
    """Enclose the least eigenvalue of the tangent kernel of one network on n inputs.

    It is σ_min(J)², J being n×p. With a computed J̃ ≈ UΣVᵀ and a bound F ≥ |J − J̃| by entries,
    |σ_min(J) − Σ_min| ≤ ‖F‖_F + ‖J̃ − UΣVᵀ‖_F + what U and V lack of orthogonality. All of it is
    computed, so nothing is taken on trust but that σ and σ' are right to `LIBRARY_ULPS` units of
    the last place. Where a pre-activation is so near a kink that its sign is open, F holds the
    whole jump.

    Args:
        ensemble: K networks with one output, float64.
        network: which of them.
        x: inputs, (n, d).

    Returns:
        A `LeastEigenvalue`; exactly 0 where n > p.

    Raises:
        ValueError: several outputs.
    """
    one = ensemble.select([network])
    jacobian = parameter_jacobian(one, x)[0].double().cpu().numpy()
    n, p = jacobian.shape
    if n > p:
        return LeastEigenvalue(0.0, 0.0, 0.0)
    if not np.isfinite(jacobian).all():
        return LeastEigenvalue(math.nan, 0.0, math.inf)
    u, values, vt = np.linalg.svd(jacobian, full_matrices=False)
    least, most = float(values[-1]), float(values[0])
    # Every product below has inner dimension n or p: its rounding is at most γ_n or γ_p of norms.
    gamma = 4.0 * UNIT * (p + 4.0 * n)
    residual = float(np.linalg.norm(jacobian - (u * values) @ vt)) + gamma * n * most
    skew = max(_skewness(u.T @ u), _skewness(vt @ vt.T)) + gamma * n
    error = residual + skew * least + float(np.linalg.norm(_jacobian_error(one, x)))
    # Up: the same terms, the skewness twice as U and V both stretch; and roundings of this line.
    error = 2.0 * error * (1.0 + 1e-9)
    low, high = max(least - error, 0.0), least + error
    return LeastEigenvalue(least**2, low**2 * (1 - 4 * UNIT), high**2 * (1 + 4 * UNIT))


def _skewness(gram: np.ndarray) -> float:
    return float(np.linalg.norm(gram - np.eye(len(gram))))


def _jacobian_error(one: Ensemble, x: Tensor) -> np.ndarray:
    """Return F with |J − J̃| ≤ F entrywise: rounding of z, library error of σ and σ', products."""
    d, sigma = one.input_dim, one.activation
    z = one.preactivation(x)[0].double()
    size = x.abs() @ one.hidden_weight[0].abs().T + one.hidden_bias[0].abs()
    shift = 2.0 * (d + 2) * UNIT * size.double()
    ulps = 2.0 * LIBRARY_ULPS * UNIT
    hidden = sigma.lipschitz * shift + ulps * sigma.value(z).abs()
    if sigma.slope_lipschitz is None:
        low, high = sigma.slope_range
        jump = torch.where(z.abs() <= shift, high - low, 0.0)
    else:
        jump = sigma.slope_lipschitz * shift
    output = one.output_weight[0, 0].abs()
    slope = jump + (ulps + 4.0 * UNIT) * sigma.slope(z).abs()
    pull = output * slope
    weight = (pull[..., None] * x.abs()[:, None, :]).flatten(1)
    blocks = [weight, pull, hidden, torch.zeros(len(x), 1, dtype=torch.float64)]
    return torch.cat(blocks, dim=1).cpu().numpy()
