"""How long to descend, at which rates, and what to keep: the arguments of training, checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipbook.schedules import Schedule


@dataclass(frozen=True)
class Plan:
    """Hold how long to descend, with which rates and what to keep.

    Attributes:
        schedules: one per network.
        n_steps: T.
        kept: the steps of the checkpoints.
        raises: whether a divergence ends training by an error.
        progress: whether to show a progress bar.
    """

    schedules: tuple[Schedule, ...]
    n_steps: int
    kept: frozenset[int]
    raises: bool
    progress: bool

    @classmethod
    def checked(
        cls,
        schedules: Schedule | Sequence[Schedule],
        size: int,
        n_steps: int,
        steps: Sequence[int] | np.ndarray | None,
        on_divergence: str,
        progress: bool | None,
    ) -> Plan:
        """Return the plan that the arguments of `train` ask for; its errors name them."""
        listed = _one_schedule_each(schedules, size)
        if n_steps < 1:
            raise ValueError(f"`n_steps` must be at least 1. Got {n_steps}. Use 1000, say.")
        if on_divergence not in ("raise", "record"):
            raise ValueError(
                f"`on_divergence` must be 'raise' or 'record'. Got {on_divergence!r}. "
                "Use 'record' to go on with the other networks."
            )
        shown = sys.stderr.isatty() if progress is None else progress
        kept = _steps_to_keep(steps, n_steps)
        return cls(listed, n_steps, kept, on_divergence == "raise", shown)


def log_steps(n_steps: int, count: int) -> np.ndarray:
    """Return at most `count` steps from 0 to `n_steps`, both included, evenly spaced in log(1 +
    step).

    Args:
        n_steps: T ≥ 1.
        count: how many at most, ≥ 2.

    Returns:
        Increasing integers, at most (count,).
    """
    grid = np.expm1(np.linspace(0.0, np.log1p(n_steps), count))
    return np.unique(np.rint(grid).astype(int))


def _one_schedule_each(schedules: Schedule | Sequence[Schedule], size: int) -> tuple[Schedule, ...]:
    listed = (schedules,) * size if isinstance(schedules, Schedule) else tuple(schedules)
    if len(listed) != size:
        raise ValueError(
            f"`schedules` must be one schedule or one per network, {size} of them. "
            f"Got {len(listed)}. Repeat the one that several networks share."
        )
    return listed


def _steps_to_keep(steps: Sequence[int] | np.ndarray | None, n_steps: int) -> frozenset[int]:
    wanted = {int(step) for step in (log_steps(n_steps, 40) if steps is None else steps)}
    outside = sorted(step for step in wanted if not 0 <= step <= n_steps)
    if outside:
        raise ValueError(
            f"`steps` must lie between 0 and n_steps={n_steps}. Got {outside[0]}. Leave it out."
        )
    return frozenset(wanted | {0, n_steps})
