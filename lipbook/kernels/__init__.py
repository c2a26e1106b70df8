"""Tangent kernels, second derivatives of the risk, sharpness; networks with one output."""

from lipbook.kernels.curvature import (
    Curvature,
    exact_sharpness,
    lanczos_pair,
    lanczos_sharpness,
)
from lipbook.kernels.tangent import (
    LeastEigenvalue,
    least_eigenvalue,
    parameter_jacobian,
    tangent_kernel,
)

__all__ = [
    "Curvature",
    "LeastEigenvalue",
    "exact_sharpness",
    "lanczos_pair",
    "lanczos_sharpness",
    "least_eigenvalue",
    "parameter_jacobian",
    "tangent_kernel",
]
