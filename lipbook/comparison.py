"""Train networks from the same starts under a constant and under a decaying rate, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipbook.data import Dataset
from lipbook.lipschitz import brackets
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems import EventualDecay, PathBound, Verdict
from lipbook.theorems.descent import finite_steps, sufficient_decrease
from lipbook.training import TrainingRun, log_steps, train

# The data are standardised to this interval; Lipschitz constants are those on it.
DOMAIN = (-1.0, 1.0)
SIDES = ("constant", "decaying")


@dataclass(frozen=True)
class Comparison:
    """Hold one training run of 2K networks: K starts under a constant rate, then under a decaying.

    Attributes:
        name: of the data set.
        run: the training run; network i and network K + i share their start.
        start: T₀, from which the decay counts, a recorded step.
        lower: lower ends of the Lipschitz constants on [−1, 1] at the recorded steps, (S, 2K);
            NaN once a network has diverged.
        upper: upper ends, (S, 2K).
    """

    name: str
    run: TrainingRun
    start: int
    lower: np.ndarray
    upper: np.ndarray

    @property
    def n_pairs(self) -> int:
        """K, the number of starts."""
        return self.run.ensemble.size // 2

    def columns(self, side: str) -> slice:
        """Return where the networks of a side stand: "constant" or "decaying".

        Raises:
            ValueError: another side.
        """
        if side not in SIDES:
            raise ValueError(f"`side` must be 'constant' or 'decaying'. Got {side!r}. Use one.")
        offset = SIDES.index(side) * self.n_pairs
        return slice(offset, offset + self.n_pairs)

    def final(self, side: str) -> dict[str, np.ndarray]:
        """Return what each network of a side ended with.

        Args:
            side: "constant" or "decaying".

        Returns:
            {"final risk", "gradient norm", "Lipschitz constant", "product bound", "path length"},
            each (K,); NaN for a network that diverged.
        """
        at = self.columns(side)
        gone = self.run.diverged[at]
        return {
            "final risk": self.run.risk[-1, at],
            "gradient norm": self.run.gradient_norm[-1, at],
            "Lipschitz constant": self.upper[-1, at],
            "product bound": self.run.product_bound[-1, at],
            "path length": np.where(gone, np.nan, self.run.path[-1, at]),
        }

    def promises(self, side: str) -> np.ndarray:
        """Return the eventual-decay bound of each recorded step, where its hypotheses allow one.

        Args:
            side: "constant" or "decaying".

        Returns:
            (S, K); NaN before T₀ and for networks whose steps were not finite or lowered the risk
            by too little.
        """
        at = self.columns(side)
        bounds = EventualDecay(self.start).bounds(self.run)[:, at]
        numbers = range(2 * self.n_pairs)[at]
        holds = [
            finite_steps(self.run, number).holds
            and sufficient_decrease(self.run, number, self.start).holds
            for number in numbers
        ]
        return np.where(holds, bounds, np.nan)

    def count(self, quantity: str, relation: str) -> tuple[int, int]:
        """Count the pairs in which the decaying run ended with less, or with more, of a quantity.

        Args:
            quantity: a key of `final`.
            relation: "less" or "more".

        Returns:
            How many pairs, and of how many in which neither diverged.
        """
        constant, decaying = self.final("constant")[quantity], self.final("decaying")[quantity]
        both = np.isfinite(constant) & np.isfinite(decaying)
        found = decaying < constant if relation == "less" else decaying > constant
        return int((found & both).sum()), int(both.sum())

    def verdicts(self, side: str) -> dict[str, list[Verdict]]:
        """Return what the path theorems say of each network of a side.

        Args:
            side: "constant" or "decaying".

        Returns:
            {"path", "eventual"}, one `Verdict` per network.
        """
        later = self.run.steps >= self.start
        eventual = EventualDecay(self.start)
        found: dict[str, list[Verdict]] = {"path": [], "eventual": []}
        numbers = range(2 * self.n_pairs)[self.columns(side)]
        for number in numbers:
            subject = f"{self.name}, {side} rate, start {number - numbers.start}"
            last, largest = self.upper[-1, number], self.upper[later, number].max()
            found["path"].append(PathBound().verdict(self.run, number, float(last), subject))
            found["eventual"].append(eventual.verdict(self.run, number, float(largest), subject))
        return found


@dataclass(frozen=True)
class Settings:
    """Say how networks are trained under a decaying schedule.

    Attributes:
        schedule: its name.
        width: m.
        activation: σ.
        seeds: of the starts, K of them.
        learning_rate: α, before any decay.
        n_steps: T.
        decay_after: T₀/T for "eventual"; the other schedules decay from step 0 on.
        timescale: τ/T.
        loss: "mse" or "huber".
        huber_delta: δ.
        scale: of the Gaussian start.
    """

    schedule: str
    width: int
    activation: str
    seeds: Sequence[int]
    learning_rate: float
    n_steps: int
    decay_after: float
    timescale: float
    loss: str = "mse"
    huber_delta: float = 1.0
    scale: str = "standard"

    def decaying(self) -> Schedule:
        """Return the decaying schedule."""
        return make_schedule(
            self.schedule,
            self.learning_rate,
            n_steps=self.n_steps,
            start=round(self.decay_after * self.n_steps),
            timescale=self.timescale * self.n_steps,
        )

    def constant(self) -> Schedule:
        """Return the constant schedule with the same learning rate."""
        return make_schedule("constant", self.learning_rate, n_steps=self.n_steps)


def train_each(
    dataset: Dataset, settings: Settings, schedules: Sequence[Schedule], n_checkpoints: int
) -> TrainingRun:
    """Train from each seed once under each schedule, in one batched loop; divergence is recorded.

    Args:
        dataset: with one input and one output.
        settings: all but the schedule.
        schedules: under which to train.
        n_checkpoints: how many to keep, besides one at the step where each schedule starts.

    Returns:
        A run in which network v·K + i has schedule v and seed i.
    """
    seeds = list(settings.seeds)
    start = gaussian_ensemble(
        settings.width,
        1,
        seeds=seeds * len(schedules),
        activation=settings.activation,
        scale=settings.scale,
    )
    return train(
        start,
        dataset.x,
        dataset.y,
        [schedule for schedule in schedules for _ in seeds],
        settings.n_steps,
        loss=settings.loss,
        huber_delta=settings.huber_delta,
        steps=[
            *log_steps(settings.n_steps, n_checkpoints).tolist(),
            *(schedule.start for schedule in schedules),
        ],
        on_divergence="record",
    )


def compare(
    dataset: Dataset, settings: Settings, *, rel_gap: float = 1e-4, n_checkpoints: int = 30
) -> Comparison:
    """Train from each seed once with a constant and once with a decaying rate.

    Args:
        dataset: with one input and one output.
        settings: how to train.
        rel_gap: how closely the Lipschitz constants are to be enclosed.
        n_checkpoints: at how many steps they are computed.

    Returns:
        A `Comparison`.
    """
    schedules = [settings.constant(), settings.decaying()]
    run = train_each(dataset, settings, schedules, n_checkpoints)
    lower, upper = constants_of(run, rel_gap)
    return Comparison(dataset.name, run, schedules[1].start, lower, upper)


def constants_of(run: TrainingRun, rel_gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the Lipschitz constants on [−1, 1] at the recorded steps.

    Args:
        run: a training run of K networks with one input.
        rel_gap: how closely to enclose them.

    Returns:
        Lower and upper ends, each (S, K); NaN once a network has diverged.
    """
    lower = np.full((len(run.steps), run.ensemble.size), np.nan)
    upper = lower.copy()
    for row, (step, ensemble) in enumerate(zip(run.steps, run.checkpoints, strict=True)):
        alive = np.flatnonzero((run.diverged_at < 0) | (run.diverged_at > step))
        if len(alive):
            found = brackets(ensemble.select(alive.tolist()), domain=DOMAIN, rel_gap=rel_gap)
            lower[row, alive], upper[row, alive] = found.lower, found.upper
    return lower, upper


def most_telling(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that fails first, or, if all apply, the one with the least slack.

    Args:
        verdicts: at least one.

    Returns:
        One of them.
    """
    failing = [verdict for verdict in verdicts if not verdict.applies]
    if failing:
        return min(failing, key=lambda v: -1 if v.failed_step is None else v.failed_step)
    return min(verdicts, key=lambda v: float("inf") if v.slack is None else v.slack)
