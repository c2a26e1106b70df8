"""Lemmas on paths, balls and classes of networks, and the jump that no modulus allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches

from lipbook.activations import ACTIVATIONS
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.descent import AfterPath, PathBound
from lipbook.theorems.near_ball import Ball
from lipbook.theorems.neuron_class import NeuronClass
from lipbook.theorems.no_modulus import RATES, NoModulus
from lipbook.theorems.rademacher import Radii
from lipbook.theorems.refusal import HypothesisError

NAMES = sorted(ACTIVATIONS)
seeds = st.integers(0, 10_000)


def plane(seed, n, d):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1.0, 1.0, (n, d)))


# --- lem-after-path


def test_the_constant_after_a_path_stays_below_its_bound_on_all_random_runs():
    tightest = 0.0
    for batch in batches():
        bounds = AfterPath().bounds(batch.run)
        blocks = PathBound().bound(batch.run)
        for index in range(batch.run.ensemble.size):
            last = batch.last_step(index)
            product = batch.run.product_bound[last, index]
            assert product <= bounds[last, index] * (1 + 1e-9)
            assert blocks[last, index] <= bounds[last, index] * (1 + 1e-9)
            tightest = max(tightest, product / bounds[last, index])
            found = AfterPath().verdict(batch.run, index, float(product))
            assert not found.contradicted
            assert found.applies == (not batch.run.diverged[index])
    assert tightest > 0.99  # a rate of nearly zero leaves the network where it was


def test_half_of_the_path_is_not_enough():
    # Negative control.
    broken = 0
    for batch in batches():
        run = batch.run
        short = replace(run, path=0.3 * run.path)
        broken += int((run.product_bound[-1] > AfterPath().bounds(short)[-1]).sum())
    assert broken > 0


# --- lem-near-start


def near(start, radius, seed, count=6):
    """Networks at the distance r from a start, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    moved = [
        torch.randn(count, *b.shape[1:], generator=generator, dtype=b.dtype) for b in start.blocks()
    ]
    length = sum(b.flatten(1).square().sum(1) for b in moved).sqrt()
    pairs = zip(start.blocks(), moved, strict=True)
    blocks = [b + radius * m / length.view(-1, *[1] * (m.ndim - 1)) for b, m in pairs]
    return Ensemble(*blocks, activation=start.activation)


@given(seeds, st.sampled_from(NAMES), st.integers(1, 6), st.integers(1, 3), st.floats(0.01, 5.0))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_outputs_of_a_ball_stay_near(seed, name, m, d, radius):
    start = gaussian_ensemble(m, d, seeds=(seed,), activation=name)
    x = plane(seed, 9, d)
    members = near(start, radius, seed)
    found = Ball(start, radius).verdict(members, x, d**0.5)
    assert found.applies and not found.contradicted
    narrow = Ball(start, 0.5 * radius).verdict(members, x, d**0.5)
    assert narrow.failed.name == "H1"
    assert Ball(start, radius).verdict(members, 9 * x, 0.01).failed.name == "H2"


def test_a_ball_of_a_third_of_the_radius_does_not_hold_the_outputs():
    # Negative control: the output bias moves all the way.
    start = gaussian_ensemble(1, 1, seeds=(0,), scale="zero-bias")
    tiny = replace(start, hidden_weight=1e-3 * start.hidden_weight)
    moved = replace(tiny, output_bias=tiny.output_bias + 1.0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    found = Ball(tiny, 1.0).verdict(moved, x, 0.0)
    assert found.applies and found.measured == pytest.approx(1.0)
    assert Ball(tiny, 0.3).reach(0.0) < found.measured <= found.bound


# --- lem-neuron-class


@given(seeds, st.sampled_from(NAMES), st.integers(1, 5), st.integers(1, 3), st.integers(1, 7))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_members_of_a_class_fit_signs_no_better_than_the_bound(seed, name, m, d, n):
    members = gaussian_ensemble(m, d, seeds=range(seed, seed + 8), activation=name)
    held = np.array([Radii.of(members.select([i])).values() for i in range(members.size)])
    radii = Radii(*held.max(axis=0))
    found = NeuronClass(radii).verdict(members, plane(seed, n, d))
    assert found.applies and not found.contradicted
    less = NeuronClass(replace(radii, output=0.5 * radii.output)).verdict(
        members, plane(seed, n, d)
    )
    assert not less.applies and less.failed.name == "H1"


def test_one_point_and_one_offset_attain_the_bound():
    # A class of constants: Rad = C·E|mean of signs|, and one point has |ε| = 1.
    start = gaussian_ensemble(1, 1, seeds=(0,))
    flat = replace(start, output_weight=0.0 * start.output_weight)
    constant = replace(flat, output_bias=flat.output_bias + 2.0)
    found = NeuronClass(Radii(0.0, 1.0, 2.0)).verdict(constant, plane(0, 1, 1))
    assert found.measured == pytest.approx(found.bound) == pytest.approx(2.0)
    # Negative control: with less offset the same network fits better than the bound.
    less = NeuronClass(Radii(0.0, 1.0, 1.0)).verdict(constant, plane(0, 1, 1))
    assert less.failed.name == "H3" and less.measured > less.bound


def test_more_points_than_signs_can_be_tried_for_are_not_measured():
    members = gaussian_ensemble(2, 1, seeds=(0, 1))
    found = NeuronClass(Radii(9.0, 9.0, 9.0)).verdict(members, plane(0, 13, 1))
    assert found.applies and found.measured is None


# --- prop-no-modulus


@pytest.mark.parametrize("name", sorted(RATES))
@pytest.mark.parametrize("share", [1.0, 0.3, 1e-3, 1e-6])
def test_one_short_step_lifts_the_exact_constant(name, share):
    theorem = NoModulus(name, share * RATES[name])
    network, x, _ = theorem.problem()
    assert not network(plane(0, 50, x.shape[1])).any()
    found = theorem.verdict()
    assert found.applies and not found.contradicted
    assert found.measured >= 1.0 and found.bound == pytest.approx(found.measured, rel=1e-9)


def test_a_longer_step_does_not_descend_enough():
    # Negative control of the interval of the rates: its ends are not far from the truth.
    theorem = NoModulus("relu", 0.1)
    object.__setattr__(theorem, "rate", 0.3)
    assert theorem.verdict().failed.name == "H2"


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("gelu", 0.1, r"`activation` must be 'relu' or 'tanh' for prop-no-modulus \(a, b\)"),
        ("relu", 0.2, r"`rate` must lie in \(0, 0.1429\] for prop-no-modulus"),
        ("tanh", 0.0, r"`rate` must lie in \(0, 0.1\] for prop-no-modulus"),
    ],
)
def test_what_the_proposition_does_not_say_is_refused(name, rate, message):
    with pytest.raises(HypothesisError, match=message):
        NoModulus(name, rate)
