"""ECLipsE and ECLipsE-Fast (Xu and Sivaranjani 2024), as the package eclipse-nn computes them.

Both return the Euclidean constant itself, not its square. With one hidden layer the chain of
sub-problems has a single link, so that ECLipsE solves LipSDP (by SCS); ECLipsE-Fast uses one
multiplier for all neurons.
"""

from __future__ import annotations

import numpy as np
import torch
from eclipse_nn import ECLipsE, ECLipsE_Fast

SLOPES = ([0.0], [1.0])


def eclipse(weight: np.ndarray, output: np.ndarray) -> float:
    """Return the bound of ECLipsE.

    Raises:
        RuntimeError: its solver failed, and the package would fall back to ECLipsE-Fast.
    """
    bound, exit_code = ECLipsE(_layers(weight, output), *SLOPES)
    if exit_code != 0:
        raise RuntimeError("SCS failed; the package falls back to ECLipsE-Fast")
    return float(bound)


def eclipse_fast(weight: np.ndarray, output: np.ndarray) -> float:
    """Return the bound of ECLipsE-Fast."""
    return float(ECLipsE_Fast(_layers(weight, output), *SLOPES))


def _layers(weight: np.ndarray, output: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(layer)) for layer in (weight, output)]
