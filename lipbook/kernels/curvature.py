"""Second derivatives of the risk of two-layer networks, and the largest eigenvalue: sharpness.

The parameters of a network are put into one vector in the order W (row by row), b, a, c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.kernels.tangent import parameter_jacobian
from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble


def _loss_curvature(loss: Loss, residual: Tensor) -> Tensor:
    """Return φ''(r); 0 on Huber's two corners and beyond."""
    if isinstance(loss, Huber):
        return (residual.abs() < loss.delta).to(residual.dtype)
    return torch.ones_like(residual)


@dataclass(frozen=True)
class Curvature:
    """Multiply by ∇²R at the weights of K networks; where σ has a kink, σ'' counts as 0.

    ∇²R·v = (1/n)Jᵀ(φ''(r) ∘ Jv) + (1/n)Σ_i φ'(r_i)·∇²f(x_i)·v, and ∇²f couples a_j and v_j = (w_j,
    b_j) of one neuron alone: ∂²f/∂a_j∂v_j = σ'(z_j)x̃, ∂²f/∂v_j² = a_jσ''(z_j)x̃x̃ᵀ.

    Attributes:
        jacobian: J, (K, n, p).
        weights: φ''(r_i)/n, (K, n).
        mixed: Σ_i φ'(r_i)σ'(z_ij)x̃_i/n, (K, m, d+1).
        inner: Σ_i φ'(r_i)a_jσ''(z_ij)x̃_ix̃_iᵀ/n, (K, m, d+1, d+1).
    """

    jacobian: Tensor
    weights: Tensor
    mixed: Tensor
    inner: Tensor

    @classmethod
    def of(cls, ensemble: Ensemble, x: Tensor, y: Tensor, loss: Loss) -> Curvature:
        """Return the curvature of the risk of each network.

        Args:
            ensemble: K networks with one output.
            x: inputs, (n, d).
            y: targets, (n, 1).
            loss: φ.

        Raises:
            ValueError: several outputs.
        """
        jacobian = parameter_jacobian(ensemble, x)
        residual = (ensemble(x) - y.reshape(-1, 1))[..., 0]
        z, sigma = ensemble.preactivation(x), ensemble.activation
        outer = (loss.derivative(residual) / len(x))[..., None]
        bend = torch.zeros_like(z) if sigma.curvature is None else sigma.curvature(z)
        lifted = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        mixed = torch.einsum("knm,nd->kmd", outer * sigma.slope(z), lifted)
        inner = torch.einsum(
            "knm,nd,ne->kmde", outer * ensemble.output_weight * bend, lifted, lifted
        )
        return cls(jacobian, _loss_curvature(loss, residual) / len(x), mixed, inner)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ∇²R·v for each network.

        Args:
            v: (K, p).

        Returns:
            (K, p).
        """
        size, m, lifted = self.mixed.shape
        d = lifted - 1
        along = torch.einsum("knp,kp->kn", self.jacobian, v) * self.weights
        result = torch.einsum("knp,kn->kp", self.jacobian, along)
        weight = v[:, : m * d].view(size, m, d)
        hidden = torch.cat([weight, v[:, m * d : m * (d + 1), None]], dim=2)
        output = v[:, m * (d + 1) : m * (d + 2), None]
        to_hidden = self.mixed * output + torch.einsum("kmde,kme->kmd", self.inner, hidden)
        to_output = (self.mixed * hidden).sum(2)
        bent = [to_hidden[..., :d].flatten(1), to_hidden[..., d], to_output, v.new_zeros(size, 1)]
        return result + torch.cat(bent, dim=1)

    def matrix(self) -> Tensor:
        """Return ∇²R, (K, p, p), column by column."""
        size, _, p = self.jacobian.shape
        columns = [self(column.expand(size, p)) for column in torch.eye(p).to(self.jacobian)]
        return torch.stack(columns, dim=2)


def exact_sharpness(curvature: Curvature) -> np.ndarray:
    """Return λ_max(∇²R) of each network from all its p² second derivatives.

    Args:
        curvature: of K networks.

    Returns:
        (K,), to rounding of the eigenvalues of a symmetric matrix.
    """
    return torch.linalg.eigvalsh(curvature.matrix())[:, -1].cpu().numpy()


def lanczos_sharpness(
    curvature: Curvature, n_steps: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Bound λ_max(∇²R) of each network from below by Lanczos' method, without the matrix.

    The largest Ritz value θ, with unit vector q, is a value of the quadratic form of ∇²R, so θ ≤
    λ_max; and some eigenvalue, not necessarily the largest, lies within ‖∇²R·q − θq‖ of θ.

    Args:
        curvature: of K networks.
        n_steps: dimension of the Krylov space, at most p.
        seed: of the first vector, the same for all networks.

    Returns:
        θ and the residual ‖∇²R·q − θq‖, (K,) each, up to rounding.
    """
    value, _, residual = lanczos_pair(curvature, n_steps, seed)
    return value.cpu().numpy(), residual.cpu().numpy()


def lanczos_pair(
    curvature: Curvature, n_steps: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return θ, (K,), q, (K, p), and the residual, (K,), of `lanczos_sharpness`.

    Args:
        curvature: of K networks.
        n_steps: dimension of the Krylov space, at most p.
        seed: of the first vector, the same for all networks.
    """
    size, _, p = curvature.jacobian.shape
    drawn = np.random.default_rng(seed).standard_normal(p)
    first = torch.from_numpy(drawn).to(curvature.jacobian)
    basis = [(first / first.norm()).expand(size, p)]
    images = [curvature(basis[0])]
    while len(basis) < min(n_steps, p):
        basis.append(_next_vector(basis, images[-1]))
        images.append(curvature(basis[-1]))
    kept, mapped = torch.stack(basis, dim=1), torch.stack(images, dim=1)
    small = torch.einsum("kip,kjp->kij", kept, mapped)
    # A vector that is not there must not be the top one, not even where ∇²R is 0.
    absent = (kept.norm(dim=2) == 0.0).to(small)
    least = 1.0 + 2.0 * len(basis) * small.abs().amax(dim=(1, 2))
    small = small - torch.diag_embed(absent * least[:, None])
    values, vectors = torch.linalg.eigh(0.5 * (small + small.transpose(1, 2)))
    top, weights = values[:, -1], vectors[:, :, -1]
    q, image = (torch.einsum("kjp,kj->kp", each, weights) for each in (kept, mapped))
    return top, q, (image - top[:, None] * q).norm(dim=1)


def _next_vector(basis: list[Tensor], image: Tensor) -> Tensor:
    """Return the part of `image` that is orthogonal to the basis, of length one.

    It is zero where the space is invariant already.
    """
    kept, rest = torch.stack(basis, dim=1), image
    for _ in range(2):  # twice is enough for orthogonality to rounding
        rest = rest - torch.einsum("kjp,kj->kp", kept, torch.einsum("kjp,kp->kj", kept, rest))
    length = rest.norm(dim=1, keepdim=True)
    new = length > 1e-12 * image.norm(dim=1, keepdim=True)
    return torch.where(new, rest / length, torch.zeros_like(rest))
