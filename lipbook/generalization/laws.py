"""Laws of pairs (x, y): the synthetic targets with their noise, and the box that holds them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from lipbook.data import TARGETS, Dataset, synthetic
from lipbook.losses import Loss
from lipbook.networks import Ensemble
from lipbook.theorems.setting import Setting

NOISES = ("uniform", "gaussian")


@dataclass(frozen=True)
class Law:
    """Hold the law P of (x, y): x uniform on [−1, 1]^d, y = g(⟨x, u⟩) + noise, |g| ≤ 1.

    Attributes:
        target: g, a name in `lipbook.data.TARGETS`.
        input_dim: d.
        noise: half-width of uniform noise, or standard deviation of Gaussian noise.
        noise_kind: "uniform" or "gaussian".

    Raises:
        ValueError: the target or the kind of noise is unknown.
    """

    target: str
    input_dim: int = 1
    noise: float = 0.1
    noise_kind: str = "uniform"

    def __post_init__(self) -> None:
        """Refuse names that stand for nothing."""
        for name, value, known in (
            ("target", self.target, tuple(TARGETS)),
            ("noise_kind", self.noise_kind, NOISES),
        ):
            if value not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. Got {value!r}. Choose one."
                )

    @property
    def is_bounded(self) -> bool:
        """Tell whether a box holds every pair."""
        return self.noise_kind == "uniform" or self.noise == 0.0

    @property
    def input_diagonal(self) -> float:
        """Δ_x = 2√d, the diagonal of the box of the inputs, whose centre is 0."""
        return 2.0 * math.sqrt(self.input_dim)

    @property
    def target_span(self) -> float:
        """Δ_y, the length of the interval of the targets, whose centre is 0; maybe infinite."""
        return 2.0 * self.target_radius

    @property
    def input_radius(self) -> float:
        """B_x = √d."""
        return math.sqrt(self.input_dim)

    @property
    def input_rms(self) -> float:
        """B̄_x = (E‖x‖²)^½ = √(d/3)."""
        return math.sqrt(self.input_dim / 3.0)

    @property
    def target_radius(self) -> float:
        """B_y, the least known bound of |y|; infinite for Gaussian noise."""
        return 1.0 + self.noise if self.is_bounded else math.inf

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest corner of the box of (x, y), (d + 1,) each."""
        high = np.append(np.ones(self.input_dim), self.target_radius)
        return -high, high

    @property
    def domain(self) -> tuple[list[float], list[float]]:
        """The box of the inputs, as `lipbook.lipschitz.bracket` takes it."""
        return [-1.0] * self.input_dim, [1.0] * self.input_dim

    def sample(self, n_samples: int, seed: int) -> Dataset:
        """Draw independent pairs.

        Args:
            n_samples: n.
            seed: of the draw; other seeds give independent draws.

        Returns:
            A `Dataset`.
        """
        noise = self.noise if self.noise_kind == "uniform" else 0.0
        drawn = synthetic(self.target, n_samples, input_dim=self.input_dim, noise=noise, seed=seed)
        if self.noise_kind == "uniform":
            return drawn
        normal = np.random.default_rng([seed, 1]).standard_normal((n_samples, 1))
        return replace(drawn, y=drawn.y + torch.from_numpy(self.noise * normal))

    def setting(self, start: Ensemble, n_samples: int, loss: Loss) -> Setting:
        """Return the constants of training on any sample of this law.

        Args:
            start: gives σ, m and d.
            n_samples: n.
            loss: φ that is trained.
        """
        return Setting(
            activation=start.activation,
            width=start.width,
            input_dim=self.input_dim,
            n_samples=n_samples,
            input_radius=self.input_radius,
            target_radius=self.target_radius,
            target_rms=self.target_radius,
            loss=loss,
        )
