"""Rate functions: monotone, ρ(0) = 1, tails against long sums; schedules put them together."""

import math

import numpy as np
import pytest

from lipbook.schedules import (
    SCHEDULES,
    ConstantRate,
    CosineRate,
    ExponentialRate,
    PowerRate,
    make_schedule,
)

RATE_FUNCTIONS = [
    ConstantRate(),
    ExponentialRate(7.5),
    PowerRate(3.0, 2.0),
    PowerRate(250.0, 1.4),
    CosineRate(40),
]


@pytest.mark.parametrize("rate", RATE_FUNCTIONS, ids=str)
def test_a_rate_function_starts_at_one_and_never_rises(rate):
    values = rate(np.arange(500))
    assert values[0] == 1.0
    assert (np.diff(values) <= 0).all() and (values >= 0).all()


@pytest.mark.parametrize("rate", RATE_FUNCTIONS[1:], ids=str)
@pytest.mark.parametrize("step", [0, 1, 17, 39, 41, 2000])
def test_tail_is_the_sum_of_what_is_left(rate, step):
    near = float(rate(np.arange(step, 200_000)).sum())
    # The rest of a power law lies between two integrals; of the others nothing is left.
    rest_low = rest_high = 0.0
    if isinstance(rate, PowerRate):
        p, tau = rate.exponent, rate.timescale
        rest_low = tau**p * (tau + 200_000) ** (1 - p) / (p - 1)
        rest_high = tau**p * (tau + 199_999) ** (1 - p) / (p - 1)
    assert near + rest_low - 1e-9 <= rate.tail(step) <= near + rest_high + 1e-9


def test_power_tail_is_continuous_where_the_formula_changes():
    rate = PowerRate(100.0, 2.5)
    below, above = rate.tail(899), rate.tail(900)
    assert below - above == pytest.approx(float(rate(np.array(899))), rel=1e-7)


def test_tails_that_do_not_exist_are_infinite():
    assert ConstantRate().tail(10) == math.inf
    assert PowerRate(5.0, 1.0).tail(0) == math.inf


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_the_learning_rate_and_their_mass_adds_up(name):
    schedule = make_schedule(name, 0.3, n_steps=200)
    rates = schedule.rates(200)
    assert rates.shape == (200,) and rates[0] == 0.3
    assert (np.diff(rates) <= 0).all()
    if name != "constant":
        head = rates[:120].sum()
        assert schedule.tail_mass(0) == pytest.approx(head + schedule.tail_mass(120), rel=1e-12)


def test_eventual_decay_asks_nothing_before_its_start():
    schedule = make_schedule("eventual", 0.2, n_steps=100, start=30, timescale=5.0)
    rates = schedule.rates(100)
    assert (rates[:31] == 0.2).all() and rates[31] == pytest.approx(0.2 * math.exp(-0.2))
    tail = 0.2 / (1 - math.exp(-0.2))
    assert schedule.tail_mass(30) == pytest.approx(tail)
    assert schedule.tail_mass(10) == pytest.approx(20 * 0.2 + tail)


def test_zero_rate_has_no_mass_even_if_it_never_decays():
    assert make_schedule("constant", 0.0, n_steps=5).tail_mass(0) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "linear"}, r"`name` must be one of constant, .* Got 'linear'"),
        ({"learning_rate": -0.1}, r"`learning_rate` must be a finite number ≥ 0. Got -0.1"),
        ({"learning_rate": math.nan}, r"`learning_rate` must be a finite number"),
        ({"n_steps": 0}, r"`n_steps` must be at least 1. Got 0"),
        ({"start": -1}, r"`start` must be a step ≥ 0. Got -1"),
        ({"timescale": 0.0}, r"`timescale` must be a positive number. Got 0.0"),
        ({"name": "power", "exponent": -2.0}, r"`exponent` must be a positive number. Got -2.0"),
    ],
)
def test_misuse_is_refused(changes, message):
    arguments = {"name": "eventual", "learning_rate": 0.1, "n_steps": 10} | changes
    with pytest.raises(ValueError, match=message):
        make_schedule(arguments.pop("name"), arguments.pop("learning_rate"), **arguments)


def test_a_cosine_without_horizon_is_refused():
    with pytest.raises(ValueError, match=r"`horizon` must be a positive number. Got 0"):
        CosineRate(0)
