"""Trained networks with their gaps and every bound of them, over widths and numbers of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lipbook.generalization.laws import Law
from lipbook.generalization.losses_known import gaps, largest_residual, loss_at
from lipbook.lipschitz import bracket, sdp_upper_bound
from lipbook.losses import Loss
from lipbook.medians import known_median
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems.near_start import NearStart, WidthFreeGap, short_rate
from lipbook.theorems.rademacher import RademacherGap
from lipbook.theorems.verdict import Verdict
from lipbook.theorems.wasserstein import WassersteinGap
from lipbook.training import TrainingRun, train

# Start, sample and fresh sample come from one kind of generator: seeds that differ keep them
# independent. Chapters use seeds up to a million.
START_SEEDS, FRESH_SEEDS = 3_000_000, 6_000_000
EXACT, PRODUCT = "Wasserstein, best constant", "Wasserstein, product"
RADEMACHER, NEAR, FREE = "Rademacher", "near start, peeled", "near start, in advance"
ROUTES = (EXACT, PRODUCT, RADEMACHER, NEAR, FREE)


@dataclass(frozen=True)
class Plan:
    """Hold everything about a trial but its width, its number of samples and its seed.

    Attributes:
        law: P.
        activation: σ.
        scale: of the Gaussian start.
        trained: φ that is trained.
        measured: φ in which risks are compared.
        schedule: name of the schedule.
        rate: α·m, so that all widths learn alike; not used for short training.
        n_steps: T.
        short: train with `short_rate`, which stays near the start.
        failure: η of each bound.
        n_fresh: size of the sample that stands for the law.
    """

    law: Law
    activation: str
    scale: str
    trained: Loss
    measured: Loss
    schedule: str
    rate: float
    n_steps: int
    short: bool = False
    failure: float = 0.05
    n_fresh: int = 20_000


@dataclass(frozen=True)
class Trial:
    """Hold one trained network and what is known of its gap.

    Attributes:
        run: one network, one sample.
        plan: what it was made with.
        n_samples: n.
        gap: risk on the fresh sample minus risk on the sample.
        start_constant: an upper bound of the Lipschitz constant of the start on the box.
        constants: upper bounds of that of the trained network, by name.
        ceiling: the largest loss that the trained network can have on the box.
        error: standard error of the risk on the fresh sample.
    """

    run: TrainingRun
    plan: Plan
    n_samples: int
    gap: float
    start_constant: float
    constants: dict[str, float]
    ceiling: float
    error: float

    def verdicts(self, subject: str = "") -> dict[str, Verdict]:
        """Return the verdict of each route.

        Args:
            subject: which trial this is.
        """
        plan, wasserstein = self.plan, WassersteinGap(self.plan.failure)
        of = (self.run, 0, plan.law, self.n_samples, plan.measured)
        near = (*of, self.start_constant, self.gap, subject)
        return {
            EXACT: wasserstein.verdict(*of, self.constants["best"], self.gap, subject),
            PRODUCT: wasserstein.verdict(*of, self.constants["product"], self.gap, subject),
            RADEMACHER: RademacherGap(plan.failure).verdict(*of, self.gap, subject),
            NEAR: NearStart(plan.failure).verdict(*near),
            FREE: WidthFreeGap(plan.failure).verdict(*near),
        }

    def bounds(self) -> dict[str, float]:
        """Return the bound of each route; NaN where it does not apply."""
        return dict(self._bounds)

    @cached_property
    def _bounds(self) -> dict[str, float]:
        found = {name: verdict.bound for name, verdict in self.verdicts().items()}
        return {name: math.nan if bound is None else bound for name, bound in found.items()}


def best_constant(network: Ensemble, law: Law) -> float:
    """Return the best upper bound of the Lipschitz constant on the box of the inputs.

    Exact to one in a thousand for at most two inputs, else LipSDP's.

    Args:
        network: one network.
        law: gives the box.
    """
    method = "auto" if law.input_dim <= 2 else "sdp"
    return bracket(
        network.hidden_weight[0], network.hidden_bias[0], network.output_weight[0],
        activation=network.activation, domain=law.domain, method=method, rel_gap=1e-3,
    ).upper  # fmt: skip


def certificates(network: Ensemble, law: Law) -> dict[str, float]:
    """Return upper bounds of the Lipschitz constant by name; infinite for a diverged network.

    Args:
        network: one network.
        law: gives the box.
    """
    if not all(bool(block.isfinite().all()) for block in network.blocks()):
        return dict.fromkeys(("best", "LipSDP", "product"), math.inf)
    product = network.activation.lipschitz * network.hidden_norm() * network.output_norm()
    if float(product[0]) > 1e6:
        return dict.fromkeys(("best", "LipSDP", "product"), float(product[0]))
    sdp = sdp_upper_bound(
        network.hidden_weight[0], network.output_weight[0], activation=network.activation
    )
    best = min(best_constant(network, law), sdp, float(product[0]))
    return {"best": best, "LipSDP": sdp, "product": float(product[0])}


def conduct(plan: Plan, width: int, n_samples: int, seed: int) -> Trial:
    """Draw a start and a sample, independently; train; measure the gap and the constants.

    Args:
        plan: everything else.
        width: m.
        n_samples: n.
        seed: of the sample; start and fresh sample get seeds of their own from it.
    """
    start = gaussian_ensemble(
        width, plan.law.input_dim, seeds=[START_SEEDS + seed], activation=plan.activation,
        scale=plan.scale,
    )  # fmt: skip
    sample = plan.law.sample(n_samples, seed)
    fresh = plan.law.sample(plan.n_fresh, FRESH_SEEDS + seed)
    start_constant = best_constant(start, plan.law)
    run = train(
        start, sample.x, sample.y, schedule_of(plan, start, n_samples, start_constant),
        plan.n_steps, loss=plan.trained, steps=[0, plan.n_steps], on_divergence="record",
        progress=False,
    )  # fmt: skip
    constants = certificates(run.ensemble, plan.law)
    found, errors = gaps(run.ensemble, sample, fresh, plan.measured)
    gap = math.nan if run.diverged[0] else float(found[0])
    furthest = largest_residual(plan.law, run.ensemble, constants["best"])
    ceiling = math.inf if run.diverged[0] else loss_at(plan.measured, furthest)
    return Trial(run, plan, n_samples, gap, start_constant, constants, ceiling, float(errors[0]))


def schedule_of(plan: Plan, start: Ensemble, n_samples: int, start_constant: float) -> Schedule:
    """Return the schedule of a trial, which does not depend on the sample.

    Args:
        plan: of the trial.
        start: one network.
        n_samples: n.
        start_constant: an upper bound of its Lipschitz constant on the box.
    """
    if not plan.short:
        return make_schedule(
            plan.schedule, plan.rate / start.width, n_steps=plan.n_steps,
            start=plan.n_steps // 2, timescale=max(plan.n_steps / 20, 1.0),
        )  # fmt: skip
    # With unbounded noise no risk is known in advance; the rates then take |y| ≤ 1.
    law = plan.law if plan.law.is_bounded else replace(plan.law, noise=0.0)
    risk = loss_at(plan.trained, largest_residual(law, start, start_constant))
    setting = law.setting(start, n_samples, plan.trained)
    rate = short_rate(setting, float(start.parameter_norm()[0]), risk, plan.n_steps)
    return make_schedule("constant", rate, n_steps=plan.n_steps)


@dataclass(frozen=True)
class Study:
    """Hold trials along one axis, several repeats at each place.

    Attributes:
        axis: the widths, or the numbers of samples, (q,).
        trials: one list of repeats per place.
    """

    axis: np.ndarray
    trials: tuple[tuple[Trial, ...], ...]

    @property
    def typical_gap(self) -> np.ndarray:
        """The root mean square of the gaps of the repeats, (q,); NaN where all diverged."""
        return np.array([_rms([t.gap for t in repeats]) for repeats in self.trials])

    @property
    def ceiling(self) -> np.ndarray:
        """The median over repeats of the largest possible loss, (q,)."""
        return np.array([known_median([t.ceiling for t in repeats]) for repeats in self.trials])

    def medians(self) -> dict[str, np.ndarray]:
        """Return the median bound of each route over the repeats, {route: (q,)}."""
        found = [[t.bounds() for t in repeats] for repeats in self.trials]
        return {
            r: np.array([known_median([b[r] for b in place]) for place in found]) for r in ROUTES
        }

    def constants(self) -> dict[str, np.ndarray]:
        """Return the median of each certificate over the repeats, {name: (q,)}."""
        names = ("best", "LipSDP", "product")
        return {
            name: np.array(
                [known_median([t.constants[name] for t in place]) for place in self.trials]
            )
            for name in names
        }


def over_widths(plan: Plan, widths: Sequence[int], n: int, seeds: Sequence[int]) -> Study:
    """Conduct trials over widths.

    Args:
        plan: of every trial.
        widths: m.
        n: the number of samples.
        seeds: one per repeat.
    """
    places = sorted(set(widths))
    trials = tuple(tuple(conduct(plan, m, n, seed) for seed in seeds) for m in places)
    return Study(np.array(places), trials)


def over_samples(plan: Plan, width: int, sizes: Sequence[int], seeds: Sequence[int]) -> Study:
    """Conduct trials over numbers of samples; arguments as for `over_widths`."""
    places = sorted(set(sizes))
    trials = tuple(tuple(conduct(plan, width, n, seed) for seed in seeds) for n in places)
    return Study(np.array(places), trials)


def spread_of(studies: Sequence[Study]) -> tuple[float, float, int, int]:
    """Return the least and the greatest ratio bound/gap, how many bounds are vacuous, how many are.

    Args:
        studies: whose median bounds are counted, those that are finite.
    """
    ratios, vacuous = [], 0
    for study in studies:
        for values in study.medians().values():
            at = np.isfinite(values) & np.isfinite(study.typical_gap)
            ratios += (values[at] / study.typical_gap[at]).tolist()
            vacuous += int((values[at] >= study.ceiling[at]).sum())
    if not ratios:
        return math.nan, math.nan, 0, 0
    return min(ratios), max(ratios), vacuous, len(ratios)


def exponent(axis: np.ndarray, values: np.ndarray) -> float:
    """Return the slope of ln(values) against ln(axis), by least squares; NaN if not defined.

    Args:
        axis: positive, (q,).
        values: (q,); entries that are not positive and finite are left out.
    """
    at = np.isfinite(values) & (values > 0)
    if at.sum() < 2:
        return math.nan
    return float(np.polyfit(np.log(axis[at]), np.log(values[at]), 1)[0])


def predicted(input_dim: int) -> dict[str, tuple[str, str]]:
    """Return for each route the exponents of m and of n that the page derives, as text.

    Args:
        input_dim: d.
    """
    rate = "-0.5 (ln n)" if input_dim == 1 else f"{-1.0 / (input_dim + 1):.3g}"
    return {
        EXACT: ("0, if the constant is flat", rate),
        PRODUCT: ("0.5", rate),
        RADEMACHER: ("0.5 (√ln m)", "-0.5"),
        NEAR: ("as the distance", "-0.5, then 0"),
        FREE: ("0", "-0.5, then 0"),
    }


def _rms(values: Sequence[float]) -> float:
    finite = np.array([v for v in values if math.isfinite(v)])
    return float(np.sqrt((finite**2).mean())) if len(finite) else math.nan
