"""What becomes of a bound for one function when the function was chosen on the sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lipbook.networks import gaussian_ensemble


@dataclass(frozen=True)
class Selection:
    """Hold how often the bound of a single function fails.

    Attributes:
        fixed: share of samples on which it fails for a network fixed in advance.
        selected: share on which it fails for the network of least risk on the sample.
    """

    fixed: float
    selected: float


def selected_gap(
    failure: float, *, draws: int, candidates: int, n_samples: int, seed: int
) -> Selection:
    """Choose among random networks by their risk on the sample, and count failed bounds.

    The law is (x, y) with x uniform on [−1, 1] and y = ±1 by a fair coin; the loss is half of
    |f(x) − y|, f ten times a random network, clipped to [−1, 1], so that losses lie in [0, 1].

    Args:
        failure: η of the bound √(ln(1/η)/(2n)) of one function.
        draws: how many samples.
        candidates: how many networks, with the seeds 0, 1, ….
        n_samples: n.
        seed: of the samples.
    """
    networks = gaussian_ensemble(8, 1, seeds=range(candidates), activation="relu")
    generator = np.random.default_rng([seed, 2])
    x = generator.uniform(-1.0, 1.0, (draws * n_samples, 1))
    y = generator.choice([-1.0, 1.0], (draws, n_samples))
    # Few networks at a time stay near the processor, which is faster than all at once.
    few = [range(k, min(k + 16, candidates)) for k in range(0, candidates, 16)]
    values = torch.cat([networks.select(part)(torch.from_numpy(x)) for part in few])
    outputs = (10.0 * values[..., 0].numpy()).clip(-1.0, 1.0)
    losses = 0.5 * np.abs(outputs.reshape(candidates, draws, n_samples) - y)
    # Whatever f(x) is, a fair coin makes the mean loss ½(½|f − 1| + ½|f + 1|) = ½.
    gap = 0.5 - losses.mean(-1)
    allowed = math.sqrt(math.log(1.0 / failure) / (2.0 * n_samples))
    return Selection(float((gap[0] > allowed).mean()), float((gap.max(0) > allowed).mean()))
