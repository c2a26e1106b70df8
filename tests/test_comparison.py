"""Comparisons of schedules: pairing, constants, counts, verdicts, and what changes them."""

from dataclasses import replace

import numpy as np
import pytest

from lipbook.comparison import DOMAIN, SIDES, Settings, compare, most_telling
from lipbook.data import synthetic
from lipbook.lipschitz import bracket
from lipbook.networks import BLOCKS
from lipbook.sensitivity import outcomes_at_rates, outcomes_of_settings
from lipbook.theorems import Hypothesis, Verdict

TOY = synthetic("zigzag", 24, noise=0.1)
SETTINGS = Settings(
    schedule="eventual",
    width=12,
    activation="relu",
    seeds=(0, 1, 2),
    learning_rate=0.1,
    n_steps=80,
    decay_after=0.5,
    timescale=0.1,
)


@pytest.fixture(scope="module")
def comparison():
    return compare(TOY, SETTINGS, n_checkpoints=8)


def test_both_sides_share_their_starts_and_part_where_the_decay_sets_in(comparison):
    start = comparison.run.checkpoints[0]
    for name in BLOCKS:
        block = getattr(start, name)
        assert (block[:3] == block[3:]).all()
    risk = comparison.run.risk
    assert comparison.start == 40 and comparison.n_pairs == 3
    # The rates first differ at step 41, so the weights at step 42.
    np.testing.assert_array_equal(risk[:42, :3], risk[:42, 3:])
    assert (risk[42:, :3] != risk[42:, 3:]).any()


def test_constants_are_those_of_the_checkpoints(comparison):
    for row, network in ((0, 0), (3, 4), (-1, 5)):
        blocks = [block[network] for block in comparison.run.checkpoints[row].blocks()][:3]
        known = bracket(*blocks, "relu", DOMAIN)
        assert comparison.lower[row, network] == pytest.approx(known.lower, rel=1e-9)
        assert comparison.upper[row, network] == pytest.approx(known.upper, rel=1e-9)


def test_final_values_and_counts(comparison):
    constant, decaying = (comparison.final(side) for side in SIDES)
    assert (constant["final risk"] == comparison.run.risk[-1, :3]).all()
    assert (decaying["path length"] == comparison.run.path[-1, 3:]).all()
    for key in constant:
        less, more = comparison.count(key, "less"), comparison.count(key, "more")
        assert less == (int((decaying[key] < constant[key]).sum()), 3)
        assert more == (int((decaying[key] > constant[key]).sum()), 3)
    with pytest.raises(ValueError, match=r"`side` must be 'constant' or 'decaying'. Got 'left'"):
        comparison.final("left")


def test_verdicts_speak_of_each_side_and_promises_hold_where_made(comparison):
    assert all(v.applies for v in comparison.verdicts("decaying")["eventual"])
    assert not any(v.applies for v in comparison.verdicts("constant")["eventual"])
    for side in SIDES:
        assert not any(v.contradicted for v in comparison.verdicts(side)["path"])
        promises = comparison.promises(side)
        later = comparison.run.steps >= comparison.start
        assert np.isnan(promises[~later]).all() and np.isfinite(promises[later]).all()
        assert (comparison.upper[later, comparison.columns(side)] <= promises[later]).all()


def test_a_diverging_side_is_recorded_and_makes_no_promise():
    wild = compare(TOY, replace(SETTINGS, learning_rate=500.0), n_checkpoints=4)
    assert wild.run.diverged.all()
    assert np.isnan(wild.final("decaying")["Lipschitz constant"]).all()
    assert np.isnan(wild.promises("decaying")).all()
    assert wild.count("final risk", "more") == (0, 0)
    assert most_telling(wild.verdicts("decaying")["eventual"]).failed.name == "H1"


def test_the_most_telling_verdict_fails_first_or_has_the_least_slack():
    def verdict(bound, step=None):
        hypothesis = Hypothesis("H1", "s", step is None, step)
        return Verdict("t", "T", "q", (hypothesis,), bound, 1.0)

    assert most_telling([verdict(3.0), verdict(2.0)]).bound == 2.0
    assert most_telling([verdict(3.0), verdict(2.0, 9), verdict(1.0, 4)]).failed_step == 4


def test_outcomes_at_rates_agree_with_comparisons_at_each_rate():
    rates = (0.1, 2.0, 500.0)
    outcomes = outcomes_at_rates(TOY, SETTINGS, rates)
    for rate, outcome in zip(rates, outcomes, strict=True):
        whole = compare(TOY, replace(SETTINGS, learning_rate=rate), n_checkpoints=4)
        verdicts = whole.verdicts("decaying")["eventual"]
        assert outcome.learning_rate == rate
        assert outcome.applies == sum(v.applies for v in verdicts)
        assert outcome.diverged == whole.run.diverged[3:].sum()
        worst = most_telling(verdicts)
        assert outcome.step == worst.failed_step
        assert outcome.failed == ("nothing" if worst.applies else worst.failed.name)
    assert outcomes[0].applies == 3 and outcomes[2].diverged == 3


def test_outcomes_of_settings_agree_with_comparisons():
    variants = [SETTINGS, replace(SETTINGS, decay_after=0.0)]
    for variant, outcome in zip(variants, outcomes_of_settings(TOY, variants), strict=True):
        ended = compare(TOY, variant, n_checkpoints=4).final("decaying")
        assert outcome.risk == pytest.approx(np.median(ended["final risk"]))
        assert outcome.lipschitz == pytest.approx(np.median(ended["Lipschitz constant"]))
    [gone] = outcomes_of_settings(TOY, [replace(SETTINGS, learning_rate=500.0)])
    assert np.isnan(gone.risk) and np.isnan(gone.lipschitz)


@pytest.mark.parametrize("schedule", ["exponential", "power", "cosine", "eventual"])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_every_schedule_and_smooth_activations_go_through(schedule, activation):
    settings = replace(SETTINGS, schedule=schedule, activation=activation, seeds=(0,), n_steps=20)
    comparison = compare(TOY, settings, n_checkpoints=3)
    assert (comparison.lower <= comparison.upper).all()
    assert comparison.upper.max() <= comparison.lower.max() * (1 + 1e-3)
