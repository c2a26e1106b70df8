"""Runs from the same starts under several schedules, and the exponents that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import numpy as np
from scipy import stats
from torch import Tensor

from lipbook.caps.self_consistent import SelfConsistent, SelfConsistentRate
from lipbook.gradients import risk_and_gradient
from lipbook.losses import Loss
from lipbook.networks import Ensemble
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems.setting import Setting
from lipbook.training import TrainingRun, log_steps, train

K = TypeVar("K")


@dataclass(frozen=True)
class Problem:
    """Hold K starts, one data set and one loss.

    Attributes:
        start: K networks with one output.
        x: inputs, (n, d).
        y: targets, (n, 1).
        loss: φ.
    """

    start: Ensemble
    x: Tensor
    y: Tensor
    loss: Loss

    @property
    def setting(self) -> Setting:
        """The constants that the theorems use."""
        return Setting.of(self.start, self.x, self.y, self.loss)

    @property
    def first_norms(self) -> np.ndarray:
        """‖Θ₀‖ of each start, (K,)."""
        return np.asarray(self.start.parameter_norm().cpu().numpy())

    @property
    def first_risks(self) -> np.ndarray:
        """R₀ of each start, (K,)."""
        return np.asarray(risk_and_gradient(self.start, self.x, self.y, self.loss)[0].cpu().numpy())

    def run(
        self,
        schedule: Schedule | Sequence[Schedule],
        n_steps: int,
        *,
        measured: bool = False,
        steps: Sequence[int] = (),
    ) -> TrainingRun:
        """Train all starts; divergence is recorded.

        Args:
            schedule: one for all, or one per start.
            n_steps: T.
            measured: cap the rates by the measured self-consistent one.
            steps: kept as checkpoints, besides 30 that are even in log(1 + t).
        """
        cap = SelfConsistent(self.setting, measured=True) if measured else None
        kept = [*log_steps(n_steps, 30).tolist(), *steps]
        return train(
            self.start, self.x, self.y, schedule, n_steps, loss=self.loss, cap=cap,
            steps=kept, on_divergence="record",
        )  # fmt: skip

    def abreast(
        self,
        schedules: Mapping[K, Schedule | Sequence[Schedule]],
        n_steps: int,
        *,
        steps: Sequence[int] = (),
    ) -> dict[K, TrainingRun]:
        """Train all starts under several schedules at once, in hardly more time than under one.

        Args:
            schedules: {name: one for all starts, or one per start}.
            n_steps: T.
            steps: kept as checkpoints, besides 30 that are even in log(1 + t).

        Returns:
            {name: what `run` would return for this schedule}.
        """
        size = self.start.size
        each = [[s] * size if isinstance(s, Schedule) else list(s) for s in schedules.values()]
        many = replace(self, start=self.start.select([*range(size)] * len(each)))
        run = many.run(list(chain.from_iterable(each)), n_steps, steps=steps)
        return {
            name: some_of(run, range(i * size, (i + 1) * size)) for i, name in enumerate(schedules)
        }

    def self_consistent(self) -> list[Schedule]:
        """Return each start's self-consistent schedule, none for a σ with kinks."""
        if self.setting.activation.slope_lipschitz is None:
            return []
        known = zip(self.first_norms.tolist(), self.first_risks.tolist(), strict=True)
        return [SelfConsistentRate(self.setting, u, risk).schedule() for u, risk in known]


def some_of(run: TrainingRun, networks: Sequence[int]) -> TrainingRun:
    """Return what a run recorded of some of its networks, as a run of their own.

    Args:
        run: a training run.
        networks: which of them, in any order.
    """
    chosen = list(networks)

    def columns(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: each[:, chosen] for name, each in values.items()}

    return replace(
        run,
        learning_rates=run.learning_rates[:, chosen],
        risk=run.risk[:, chosen],
        gradient_norm=run.gradient_norm[:, chosen],
        mass=run.mass[:, chosen],
        path=run.path[:, chosen],
        block_path=columns(run.block_path),
        displacement=run.displacement[:, chosen],
        block_displacement=columns(run.block_displacement),
        diverged_at=run.diverged_at[chosen],
        schedules=tuple(run.schedules[k] for k in chosen),
        ensemble=run.ensemble.select(chosen),
        checkpoints=tuple(each.select(chosen) for each in run.checkpoints),
        product_bound=run.product_bound[:, chosen],
    )


def side_by_side(problem: Problem, decaying: Schedule, n_steps: int) -> dict[str, TrainingRun]:
    """Train the same starts under a constant, a decaying and two self-consistent rates.

    Args:
        problem: starts, data and loss.
        decaying: the decaying schedule; the constant one has its first rate.
        n_steps: T.

    Returns:
        Runs by name: "constant", "decaying" and, for a smooth σ, "self-consistent" and "measured".
    """
    constant = make_schedule("constant", decaying.learning_rate, n_steps=n_steps)
    schedules: dict[str, Schedule | Sequence[Schedule]] = {
        "constant": constant,
        "decaying": decaying,
    }
    known = problem.self_consistent()
    if known:
        schedules["self-consistent"] = known
    runs = problem.abreast(schedules, n_steps, steps=[min(decaying.start, n_steps)])
    if known:
        high = make_schedule("constant", 1e9, n_steps=n_steps)
        runs["measured"] = problem.run(high, n_steps, measured=True)
    return runs


def smallest_so_far(run: TrainingRun) -> np.ndarray:
    """Return min_{s<t}‖∇R_s‖² for t = 1, …, T, (T, K); NaN once a network has diverged.

    Args:
        run: a training run.
    """
    return np.minimum.accumulate(run.gradient_norm[:-1] ** 2, axis=0)


def relative_falls(run: TrainingRun) -> np.ndarray:
    """Return ln(R_t/R_{t+1}), (T, K); NaN where a risk is 0, has diverged or does not fall.

    Args:
        run: a training run.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        falls = np.log(run.risk[:-1] / run.risk[1:])
        return np.where(np.isfinite(falls) & (falls > 0), falls, np.nan)


def log_slopes(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slope of ln(values) against ln(x) in each column, by least squares.

    Args:
        x: positive, (t,) or (t, K).
        values: (t, K); entries that are not positive are left out.

    Returns:
        (K,), NaN for a column with fewer than three entries.
    """
    across = np.broadcast_to(x[:, None] if x.ndim == 1 else x, values.shape)
    found = np.full(values.shape[1], np.nan)
    for k, (left, right) in enumerate(zip(across.T, values.T, strict=True)):
        at = np.isfinite(right) & (right > 0) & (left > 0)
        if at.sum() >= 3 and np.ptp(np.log(left[at])) > 0:
            found[k] = np.polyfit(np.log(left[at]), np.log(right[at]), 1)[0]
    return found


@dataclass(frozen=True)
class Interval:
    """Hold the mean over starts with the interval that Student's t puts around it.

    Attributes:
        mean: of the finite values, NaN without any.
        low: lower end.
        high: upper end.
        count: how many values are finite.
    """

    mean: float
    low: float
    high: float
    count: int


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return mean and confidence interval of independent values; NaN is left out.

    Args:
        values: one per start.
        level: of confidence, if the values were normal.

    Returns:
        The `Interval`, infinite for a single value.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(finite.mean())
    if len(finite) == 1:
        return Interval(mean, float("-inf"), float("inf"), 1)
    quantile = stats.t.ppf(0.5 + level / 2.0, len(finite) - 1)
    half = float(quantile * finite.std(ddof=1) / np.sqrt(len(finite)))
    return Interval(mean, mean - half, mean + half, len(finite))


def sampled_steps(n_steps: int, first: float = 0.1, count: int = 60) -> np.ndarray:
    """Return steps between `first`·T and T − 1, even in their logarithm, for a regression.

    Args:
        n_steps: T.
        first: where to begin, as a share of T.
        count: at most.
    """
    grid = np.geomspace(max(first * n_steps, 1.0), max(n_steps - 1, 1), count)
    return np.unique(np.rint(grid).astype(int))


def gains(runs: Mapping[str, TrainingRun], horizon: int) -> np.ndarray:
    """Return by what factor the decaying run's smallest squared gradient exceeds the constant's.

    Args:
        runs: with "constant" and "decaying".
        horizon: T ≥ 1, at most that of the runs.

    Returns:
        (K,), NaN where one of them diverged or the constant run has reached zero.
    """
    decaying, constant = (
        smallest_so_far(runs[side])[horizon - 1] for side in ("decaying", "constant")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(constant > 0, decaying / constant, np.nan)
