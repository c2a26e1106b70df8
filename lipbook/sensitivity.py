"""What becomes of decaying runs when the rate or the start of the decay is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lipbook.comparison import Settings, constants_of, most_telling, train_each
from lipbook.data import Dataset
from lipbook.medians import finite_median
from lipbook.theorems import EventualDecay


@dataclass(frozen=True)
class RateOutcome:
    """What the eventual-decay theorem says of K runs at one learning rate.

    Attributes:
        learning_rate: α.
        applies: to how many of the runs the theorem applies.
        failed: the name of the hypothesis that fails first, or "nothing".
        step: the step at which it fails first, or None.
        diverged: how many runs diverged.
    """

    learning_rate: float
    applies: int
    failed: str
    step: int | None
    diverged: int


def outcomes_at_rates(
    dataset: Dataset, settings: Settings, rates: Sequence[float]
) -> list[RateOutcome]:
    """Train decaying runs at several learning rates and ask the theorem about each.

    Args:
        dataset: with one input and one output.
        settings: all but the learning rate.
        rates: the learning rates.

    Returns:
        One outcome per rate.
    """
    schedules = [replace(settings, learning_rate=rate).decaying() for rate in rates]
    run = train_each(dataset, settings, schedules, n_checkpoints=2)
    _, upper = constants_of(run, 1e-2)
    theorem, k, found = EventualDecay(schedules[0].start), len(settings.seeds), []
    for number, rate in enumerate(rates):
        networks = range(number * k, (number + 1) * k)
        verdicts = [theorem.verdict(run, i, float(upper[-1, i])) for i in networks]
        worst = most_telling(verdicts).failed
        found.append(
            RateOutcome(
                learning_rate=rate,
                applies=sum(verdict.applies for verdict in verdicts),
                failed="nothing" if worst is None else worst.name,
                step=None if worst is None else worst.step,
                diverged=int(run.diverged[list(networks)].sum()),
            )
        )
    return found


@dataclass(frozen=True)
class DecayOutcome:
    """What K runs with one schedule ended with.

    Attributes:
        risk: median of the final risks, NaN if all diverged.
        lipschitz: median of the Lipschitz constants on [−1, 1], NaN if all diverged.
    """

    risk: float
    lipschitz: float


def outcomes_of_settings(dataset: Dataset, variants: Sequence[Settings]) -> list[DecayOutcome]:
    """Train decaying runs under several settings that differ in their schedules only.

    Args:
        dataset: with one input and one output.
        variants: the settings, at least one.

    Returns:
        One outcome per variant.
    """
    schedules = [variant.decaying() for variant in variants]
    run = train_each(dataset, variants[0], schedules, n_checkpoints=2)
    _, upper = constants_of(run, 1e-4)
    shape = (len(variants), len(variants[0].seeds))
    return [
        DecayOutcome(finite_median(risk), finite_median(lipschitz))
        for risk, lipschitz in zip(
            run.risk[-1].reshape(shape), upper[-1].reshape(shape), strict=True
        )
    ]
