"""Runs under a limit of the Lipschitz constant: where small rates stop, four ways to obey it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipbook.caps.gradient_flow import FlowPath, flat, flow_to_limit
from lipbook.caps.lipschitz_budget import LipschitzBudget
from lipbook.caps.rescaled_descent import train_rescaled
from lipbook.data import Dataset
from lipbook.lipschitz import brackets
from lipbook.losses import Loss
from lipbook.networks import Ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.moduli import certificates, usable_networks
from lipbook.training import TrainingRun, train

DOMAIN = (-1.0, 1.0)

# Grid of the reference flow, and how far it is followed, in units of s.
_GRID, _HORIZON = 0.025, 8.0

METHODS = ("throttle, product", "rescale, product", "throttle, formal", "rescale, formal")


@dataclass(frozen=True)
class Stopping:
    """Hold gradient flow up to a limit, and descent under the budget with the same limit.

    Attributes:
        limit: L*.
        flow: the reference.
        rates: α, (runs,).
        runs: one per rate, with every step recorded; longer than the flow by a third.
        distance: sup over t of ‖Θ_t − Θ(min(αt, s*))‖, (runs,); NaN where a run diverged.
        mass: all that each run spent, (runs,).
    """

    limit: float
    flow: FlowPath
    rates: np.ndarray
    runs: tuple[TrainingRun, ...]
    distance: np.ndarray
    mass: np.ndarray


def stopping_study(
    start: Ensemble, data: Dataset, loss: Loss, rates: Sequence[float], rise: float, share: float
) -> Stopping:
    """Follow the flow to a limit that it meets on its way, and run the budget with small rates.

    Args:
        start: one network.
        data: to train on.
        loss: φ.
        rates: α of the runs.
        rise: L* is this share of the way from the product bound at the start to the largest one
            that the flow reaches; just above the start if it only falls.
        share: θ of the budget.

    Returns:
        The `Stopping`.
    """
    free = flow_to_limit(start, data.x, data.y, loss, math.inf, step=2 * _GRID, horizon=_HORIZON)
    low, high = float(free.certificate[0]), float(free.certificate.max())
    limit = low + rise * (high - low) if high > 1.001 * low else 1.001 * low
    flow = flow_to_limit(start, data.x, data.y, loss, limit, step=_GRID, horizon=_HORIZON)
    total = 4.0 * float(flow.times[-1]) / 3.0 if flow.met else _HORIZON
    runs = tuple(budget_run(start, data, loss, rate, limit, total, share) for rate in rates)
    return Stopping(
        limit=limit,
        flow=flow,
        rates=np.array(rates),
        runs=runs,
        distance=np.array([flow_distance(r, flow, a) for r, a in zip(runs, rates, strict=True)]),
        mass=np.array([float(run.mass[-1, 0]) for run in runs]),
    )


def budget_run(
    start: Ensemble,
    data: Dataset,
    loss: Loss,
    rate: float,
    limit: float,
    total: float,
    share: float = 0.5,
) -> TrainingRun:
    """Run the budget with a constant rate for total/α steps and record every one.

    Args:
        start: the networks.
        data: to train on.
        loss: φ.
        rate: α.
        limit: L*.
        total: the mass of the rates before any cap.
        share: θ.
    """
    n_steps = max(round(total / rate), 1)
    return train(
        start, data.x, data.y, make_schedule("constant", rate, n_steps=n_steps), n_steps,
        loss=loss, cap=LipschitzBudget(limit, share), steps=range(n_steps + 1),
        on_divergence="record", progress=False,
    )  # fmt: skip


def flow_distance(run: TrainingRun, flow: FlowPath, rate: float) -> float:
    """Return sup over t of ‖Θ_t − Θ(min(αt, s*))‖; NaN where the run diverged.

    Args:
        run: of one network, with every step recorded.
        flow: the reference, of the same start.
        rate: α.
    """
    if run.diverged.any():
        return math.nan
    times = rate * run.steps
    seen = np.ones(len(times), dtype=bool) if flow.met else times <= flow.times[-1]
    points = np.stack([flat(c)[0] for c in run.checkpoints])
    return float(np.linalg.norm((points - flow.at(times))[seen], axis=1).max())


@dataclass(frozen=True)
class Limited:
    """Hold what training under a limit ended with, one entry per network.

    Attributes:
        risk: at the last step; NaN where it is not finite.
        certificate: the certificate that was limited, there.
        steepest: the largest it was at any recorded step.
        constant: upper ends of Lip on [−1, 1], there.
        mass: all that was spent.
        rises: share of the steps at which the risk rose.
    """

    risk: np.ndarray
    certificate: np.ndarray
    steepest: np.ndarray
    constant: np.ndarray
    mass: np.ndarray
    rises: np.ndarray


def train_limited(
    method: str,
    start: Ensemble,
    data: Dataset,
    loss: Loss,
    rate: float,
    n_steps: int,
    limit: float,
    share: float = 0.5,
) -> Limited:
    """Train under a limit of a certificate, in one of four ways.

    Args:
        method: one of `METHODS`: "throttle" caps the rate, "rescale" scales W and a back.
        start: the networks; one input and one output.
        data: to train on.
        loss: φ.
        rate: α of every step, before a cap.
        n_steps: T.
        limit: L*.
        share: θ of the cap.

    Returns:
        What the networks ended with.

    Raises:
        ValueError: another method.
    """
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {'; '.join(METHODS)}. Got {method!r}. Use one of these."
        )
    kind = method.split(", ")[1]
    if method.startswith("throttle"):
        run = train(
            start, data.x, data.y, make_schedule("constant", rate, n_steps=n_steps), n_steps,
            loss=loss, cap=LipschitzBudget(limit, share, kind), on_divergence="record",
            progress=False,
        )  # fmt: skip
        return limited_of(run, kind)
    found = train_rescaled(start, data.x, data.y, rate, n_steps, limit, certificate=kind, loss=loss)
    mass = np.full(start.size, rate * n_steps)
    return _limited(found.risk, found.certificate, found.ensemble, mass)


def limited_of(run: TrainingRun, kind: str) -> Limited:
    """Return what a run under a budget ended with.

    Args:
        run: of networks of one input and one output.
        kind: the certificate that was limited.
    """
    history = np.stack([certificates(each, kind) for each in run.checkpoints])
    return _limited(run.risk, history, run.ensemble, run.mass[-1])


def _limited(risk: np.ndarray, history: np.ndarray, ended: Ensemble, mass: np.ndarray) -> Limited:
    with np.errstate(invalid="ignore"):
        rises = (np.diff(risk, axis=0) > 1e-12 * risk[:-1]).mean(0)
    return Limited(
        risk=np.where(np.isfinite(risk[-1]), risk[-1], np.nan),
        certificate=history[-1],
        steepest=history.max(0),
        constant=constants_on_domain(ended),
        mass=mass,
        rises=rises,
    )


def constants_on_domain(ensemble: Ensemble) -> np.ndarray:
    """Return upper ends of Lip on [−1, 1]^d, (K,); NaN where weights are not finite.

    Args:
        ensemble: K networks.
    """
    usable = usable_networks(ensemble)
    found = np.full(ensemble.size, np.nan)
    if usable.any():
        kept = ensemble.select(np.flatnonzero(usable).tolist())
        found[usable] = brackets(kept, domain=DOMAIN, rel_gap=1e-4).upper
    return found
