"""Data sets that need no network: synthetic targets with known Lipschitz constants, and three real
ones.

Inputs and targets are standardised, and each `Dataset` carries the two affine maps back, so that a
Lipschitz constant can be read in the data's own unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Weekly observations kept for the annual cycle: one in eleven, which keeps a chapter quick. Eleven
# and 52 share no divisor, so that the kept weeks spread over the whole year.
_CYCLE_STRIDE = 11
_WEEKS_PER_YEAR = 52


@dataclass(frozen=True)
class Dataset:
    """Hold standardised inputs and targets, and where they come from.

    Attributes:
        name: of the data set.
        x: inputs, (n, d), float64.
        y: targets, (n, k), float64.
        x_offset: raw input = x·x_scale + x_offset, per coordinate, (d,).
        x_scale: see x_offset, (d,).
        y_offset: raw target = y·y_scale + y_offset.
        y_scale: see y_offset.
        x_unit: unit of the raw inputs.
        y_unit: unit of the raw targets.
        lipschitz: Lipschitz constant of the noiseless target in standardised units on the cube [−1,
            1]^d, infinite for a jump, None where nobody knows it.
        source: where the data come from.
        licence: what the package that ships them says of their licence.
    """

    name: str
    x: Tensor
    y: Tensor
    x_offset: np.ndarray
    x_scale: np.ndarray
    y_offset: float
    y_scale: float
    x_unit: str
    y_unit: str
    lipschitz: float | None
    source: str
    licence: str

    @property
    def n_samples(self) -> int:
        """n, the number of samples."""
        return len(self.x)

    def raw_x(self, x: np.ndarray) -> np.ndarray:
        """Return standardised inputs, (..., d), in their raw unit."""
        return np.asarray(x) * self.x_scale + self.x_offset

    def raw_y(self, y: np.ndarray) -> np.ndarray:
        """Return standardised targets in their raw unit."""
        return np.asarray(y) * self.y_scale + self.y_offset

    def raw_lipschitz(self, lipschitz: float) -> float:
        """Return a Lipschitz constant in raw units, y_unit per x_unit.

        Args:
            lipschitz: in standardised units.

        Returns:
            lipschitz·y_scale/x_scale.

        Raises:
            ValueError: the inputs have several coordinates with scales of their own.
        """
        if not np.all(self.x_scale == self.x_scale[0]):
            raise ValueError(
                f"`x_scale` must be one number for all inputs to convert a constant. "
                f"Got {self.x_scale}. Quote the standardised constant instead."
            )
        return lipschitz * self.y_scale / float(self.x_scale[0])


@dataclass(frozen=True)
class Target:
    """A function of one variable on [−1, 1] with its Lipschitz constant.

    Attributes:
        function: t ↦ value, elementwise.
        lipschitz: its Lipschitz constant there; infinite for a jump.
    """

    function: Callable[[np.ndarray], np.ndarray]
    lipschitz: float


def _zigzag(t: np.ndarray) -> np.ndarray:
    # The triangle wave of period 1: slope ±4, values in [−1, 1].
    return 4.0 * np.abs(t - np.floor(t + 0.5)) - 1.0


TARGETS: dict[str, Target] = {
    "sine": Target(lambda t: np.sin(math.pi * t), math.pi),
    "kink": Target(np.abs, 1.0),
    "zigzag": Target(_zigzag, 4.0),
    "wave": Target(lambda t: np.sin(4.0 * math.pi * t), 4.0 * math.pi),
    "jump": Target(np.sign, math.inf),
}


def synthetic(
    target: str, n_samples: int, *, input_dim: int = 1, noise: float = 0.0, seed: int = 0
) -> Dataset:
    """Draw inputs uniformly from [−1, 1]^d and evaluate g(⟨x, u⟩) there, u = (1, …, 1)/d, plus
    bounded noise.

    x ↦ ⟨x, u⟩ maps the cube onto [−1, 1] and has Lipschitz constant ‖u‖ = 1/√d, so the target has
    constant Lip(g)/√d on the cube.

    Args:
        target: g, a name in `TARGETS`.
        n_samples: n ≥ 1.
        input_dim: d ≥ 1.
        noise: half-width of the uniform noise added to the targets, in their unit.
        seed: of numpy's PCG64 generator.

    Returns:
        A `Dataset` whose raw and standardised units agree.

    Raises:
        ValueError: an unknown target, no samples, no inputs, or negative noise.
    """
    if target not in TARGETS:
        raise ValueError(
            f"`target` must be one of {', '.join(TARGETS)}. Got {target!r}. "
            "Build a Dataset for another."
        )
    for name, value in {"n_samples": n_samples, "input_dim": input_dim}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Got {value}. Use 1 or more.")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"`noise` must be a finite number ≥ 0. Got {noise!r}. Use 0 for none.")
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1.0, 1.0, (n_samples, input_dim))
    clean = TARGETS[target].function(x.mean(axis=1))
    y = clean + generator.uniform(-noise, noise, n_samples)
    return Dataset(
        name=target,
        x=torch.from_numpy(x),
        y=torch.from_numpy(y[:, None]),
        x_offset=np.zeros(input_dim),
        x_scale=np.ones(input_dim),
        y_offset=0.0,
        y_scale=1.0,
        x_unit="1",
        y_unit="1",
        lipschitz=TARGETS[target].lipschitz / math.sqrt(input_dim),
        source="synthetic, drawn by lipbook.data.synthetic",
        licence="that of lipbook",
    )


def _weekly_co2() -> tuple[np.ndarray, np.ndarray]:
    """Return decimal years and ppm of the weekly Mauna Loa series, missing weeks left out."""
    # Imported here: statsmodels takes a second to load and only this data set needs it.
    from statsmodels.datasets import co2

    series = co2.load_pandas().data["co2"].dropna()
    return _decimal_year(series.index), series.to_numpy(dtype=np.float64)


def _decimal_year(index: object) -> np.ndarray:
    days_in_year = np.where(index.is_leap_year, 366.0, 365.0)  # type: ignore[attr-defined]
    return np.asarray(index.year + (index.day_of_year - 0.5) / days_in_year)  # type: ignore[attr-defined]


def _co2_dataset(
    name: str, year: np.ndarray, ppm: np.ndarray, span: tuple[float, float]
) -> Dataset:
    """Map `span` to [−1, 1] and the concentrations to mean 0 and standard deviation 1."""
    low, high = span
    offset, scale = (low + high) / 2.0, (high - low) / 2.0
    return Dataset(
        name=name,
        x=torch.from_numpy((year - offset) / scale)[:, None],
        y=torch.from_numpy((ppm - ppm.mean()) / ppm.std())[:, None],
        x_offset=np.array([offset]),
        x_scale=np.array([scale]),
        y_offset=float(ppm.mean()),
        y_scale=float(ppm.std()),
        x_unit="year",
        y_unit="ppm",
        lipschitz=None,
        source="C. D. Keeling and T. P. Whorf (2004), Mauna Loa, shipped by statsmodels",
        licence="public domain, as statsmodels states",
    )


def co2_cycle() -> Dataset:
    """Load the annual cycle of CO₂ at Mauna Loa against the phase of the year.

    The target is the deviation of a weekly observation from the mean of the 53 observations around
    it (the two outermost counted half); one observation in eleven is kept. Raw input: the fraction
    of the year gone by.

    Returns:
        A `Dataset` with n = 198, d = 1, in years and ppm.
    """
    year, ppm = _weekly_co2()
    weights = np.ones(_WEEKS_PER_YEAR + 1)
    weights[[0, -1]] = 0.5
    trend = np.convolve(ppm, weights / weights.sum(), mode="valid")
    half = _WEEKS_PER_YEAR // 2
    phase, deviation = (year % 1.0)[half:-half], ppm[half:-half] - trend
    kept = slice(None, None, _CYCLE_STRIDE)
    return _co2_dataset("co2-cycle", phase[kept], deviation[kept], (0.0, 1.0))


def co2_trend() -> Dataset:
    """Load the monthly means of CO₂ at Mauna Loa, 1958 to 2001, against time.

    Returns:
        A `Dataset` with n = 521, d = 1, in years and ppm.
    """
    year, ppm = _weekly_co2()
    month = np.floor(year * 12.0).astype(int)
    months = np.unique(month)
    means = np.array([ppm[month == m].mean() for m in months])
    when = np.array([year[month == m].mean() for m in months])
    return _co2_dataset("co2-trend", when, means, (float(when[0]), float(when[-1])))


def diabetes() -> Dataset:
    """Load the diabetes data: ten measurements of 442 patients against disease progression a year
    later.

    Returns:
        A `Dataset` with n = 442, d = 10, each coordinate of mean 0 and standard deviation 1.
    """
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    x, y = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target, dtype=np.float64)
    return Dataset(
        name="diabetes",
        x=torch.from_numpy((x - x.mean(0)) / x.std(0)),
        y=torch.from_numpy((y - y.mean()) / y.std())[:, None],
        x_offset=x.mean(0),
        x_scale=x.std(0),
        y_offset=float(y.mean()),
        y_scale=float(y.std()),
        x_unit="each measurement's own",
        y_unit="progression score",
        lipschitz=None,
        source="B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), shipped by scikit-learn",
        licence="none stated by the package",
    )


def digits() -> Dataset:
    """Load the handwritten digits: 8×8 images against one-hot labels.

    Returns:
        A `Dataset` with n = 1797, d = 64, k = 10; grey values in [0, 1] (raw: 0 to 16), one-hot
        targets.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, labels = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target)
    return Dataset(
        name="digits",
        x=torch.from_numpy(x / 16.0),
        y=torch.from_numpy(np.eye(10)[labels]),
        x_offset=np.zeros(64),
        x_scale=np.full(64, 16.0),
        y_offset=0.0,
        y_scale=1.0,
        x_unit="grey value",
        y_unit="1",
        lipschitz=None,
        source="E. Alpaydin and C. Kaynak (1998), UCI test set, shipped by scikit-learn",
        licence="none stated by the package",
    )


REAL_DATA: dict[str, Callable[[], Dataset]] = {
    "co2-cycle": co2_cycle,
    "co2-trend": co2_trend,
    "diabetes": diabetes,
    "digits": digits,
}
