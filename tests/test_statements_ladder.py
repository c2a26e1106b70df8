"""LipSDP, its dual, the formal constant and the eigenvalue's rungs: two sides, and controls."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS, get_activation
from lipbook.lipschitz import SdpBracket, bracket, formal_upper_bound, sdp_bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.formal_twin import FormalIsLipschitz
from lipbook.theorems.ladder_sdp import (
    eigenvalue_bound,
    formal_network,
    path_multiplier,
    uniform_multiplier,
    weights_of,
)
from lipbook.theorems.living import living, miss
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.sdp_forms import LipSdpClosedForm, RelaxationAsMaximum
from lipbook.theorems.sdp_rungs import EigenvalueRungs

PROPERTY = settings(derandomize=True, max_examples=30, deadline=None)
NAMES = st.sampled_from(sorted(ACTIVATIONS))
SEEDS = st.integers(0, 10_000)
SHAPES = {"m": st.integers(1, 7), "d": st.integers(1, 4), "k": st.integers(1, 3)}


def ensemble_of(weight, bias, output, activation):
    parts = [torch.as_tensor(np.asarray(e, dtype=float))[None] for e in (weight, bias, output)]
    shift = torch.zeros(1, parts[2].shape[1], dtype=torch.float64)
    return Ensemble(*parts, shift, get_activation(activation))


def drawn(seed, m, d, k, name):
    """A network whose neurons differ a hundredfold in size; every third has a dead neuron."""
    ensemble = gaussian_ensemble(m, d, k, seeds=(seed,), activation=name)
    generator = np.random.default_rng(seed)
    scales = torch.from_numpy(10.0 ** generator.uniform(-1, 1, (1, m)))
    if seed % 3 == 0 and m > 1:
        scales[0, 0] = 0.0
    return replace(ensemble, hidden_weight=ensemble.hidden_weight * scales[:, :, None])


def relaxed(ensemble):
    hidden, _, output = weights_of(ensemble, 0)
    return sdp_bracket(hidden, output, ensemble.activation)


def brute_formal(ensemble):
    """N(f) and its corner, from all patterns."""
    hidden, _, output = weights_of(ensemble, 0)
    corners = itertools.product(ensemble.activation.slope_range, repeat=len(hidden))
    return max(np.linalg.norm((output * np.array(s)) @ hidden, 2) for s in corners)


DEAD = ensemble_of([[0.0, 0.0], [1.0, 2.0]], [1.0, 1.0], [[3.0, 0.0]], "relu")


# --- thm-lipsdp


@PROPERTY
@given(seed=SEEDS, name=NAMES, **SHAPES)
def test_the_closed_form_and_the_programme_have_one_value(seed, name, m, d, k):
    ensemble = drawn(seed, m, d, k, name)
    theorem, known = LipSdpClosedForm(), relaxed(ensemble)
    found = theorem.verdict(ensemble, 0, known)
    assert found.applies and not found.contradicted
    assert theorem.programme(ensemble, 0) == pytest.approx(known.upper, rel=3e-4)
    # At any t the least level of the programme is the eigenvalue.
    hidden, output, alive = living(ensemble, 0)
    t = np.ones(m)
    t[alive] = path_multiplier(hidden, output) * np.exp(np.random.default_rng(seed).normal())
    top = eigenvalue_bound(hidden, output, ensemble.activation.slope_range, t[alive])
    level = theorem.level_at(ensemble, 0, SdpBracket(0.0, top, t))
    assert level == pytest.approx(top, rel=1e-7)


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_a_wrong_closed_form_would_be_seen(factor):
    # Negative control, on both sides: too low a number is not feasible, too high a one not least.
    ensemble = gaussian_ensemble(6, 2, 2, seeds=(1,))
    known = relaxed(ensemble)
    wrong = SdpBracket(factor * known.lower, factor * known.upper, known.multiplier)
    assert LipSdpClosedForm().verdict(ensemble, 0, wrong).contradicted


def test_below_the_value_no_diagonal_of_the_family_is_feasible():
    ensemble = gaussian_ensemble(5, 2, 1, seeds=(4,))
    known, theorem = relaxed(ensemble), LipSdpClosedForm()
    generator = np.random.default_rng(0)
    for _ in range(200):
        diagonal = known.lower * np.exp(generator.normal(size=5)) * known.multiplier
        assert not theorem.is_feasible(ensemble, 0, 0.999 * known.lower, diagonal)
    # A multiplier 0 is none: its neuron's output is not paid for.
    diagonal = known.upper * known.multiplier * (np.arange(5) > 0)
    assert not theorem.is_feasible(ensemble, 0, 10 * known.upper, diagonal)
    one = known.multiplier * (np.arange(5) > 0)
    assert theorem.level_at(ensemble, 0, SdpBracket(0.0, known.upper, one)) == np.inf


def test_lipsdp_is_about_networks_that_are_not_constant():
    found = LipSdpClosedForm().verdict(DEAD, 0, relaxed(DEAD))
    assert not found.applies and found.failed.name == "H1" and found.measured is None


# --- thm-duality


@PROPERTY
@given(seed=SEEDS, name=NAMES, rank=st.integers(1, 4), **SHAPES)
def test_every_matrix_is_below_every_eigenvalue_and_one_attains_it(seed, name, rank, m, d, k):
    ensemble, theorem = drawn(seed, m, d, k, name), RelaxationAsMaximum()
    hidden, output, _ = living(ensemble, 0)
    factor = np.random.default_rng(seed).normal(size=(d + k, rank))
    factor /= np.linalg.norm(factor)
    for t in (uniform_multiplier(hidden, output), path_multiplier(hidden, output)):
        upper = eigenvalue_bound(hidden, output, ensemble.activation.slope_range, t)
        found = theorem.verdict(ensemble, 0, factor, upper)
        assert found.applies and not found.contradicted
    best, known = theorem.maximiser(ensemble, 0), relaxed(ensemble)
    found = theorem.verdict(ensemble, 0, best, known.upper)
    assert found.applies and not found.contradicted
    assert found.measured >= known.upper * (1 - 1e-3)


@PROPERTY
@given(seed=SEEDS, name=NAMES, **SHAPES)
def test_matrices_of_rank_one_have_the_formal_constant_as_their_maximum(seed, name, m, d, k):
    ensemble, theorem = drawn(seed, m, d, k, name), RelaxationAsMaximum(rank_one=True)
    formal = brute_formal(ensemble)
    found = theorem.verdict(ensemble, 0, theorem.maximiser(ensemble, 0), formal)
    assert found.applies and not found.contradicted
    assert found.measured == pytest.approx(formal, rel=1e-9)
    other = np.random.default_rng(seed).normal(size=(d + k, 1))
    found = theorem.verdict(ensemble, 0, other / np.linalg.norm(other), formal)
    assert found.applies and not found.contradicted


def test_a_matrix_of_larger_trace_or_rank_exceeds_the_maximum():
    # Negative controls: twice the trace; and a network on which the relaxation is not exact.
    angles = 2 * np.pi * np.arange(7) / 7
    star = ensemble_of(
        np.column_stack([np.cos(angles), np.sin(angles)]), np.zeros(7), np.ones((1, 7)), "abs"
    )
    known, formal = relaxed(star), brute_formal(star)
    factor = RelaxationAsMaximum().maximiser(star, 0)
    twice = RelaxationAsMaximum().verdict(star, 0, np.sqrt(2.0) * factor, known.upper)
    assert twice.failed.name == "H2" and twice.measured > 1.9 * twice.bound
    wide = RelaxationAsMaximum(rank_one=True).verdict(star, 0, factor, formal)
    assert wide.failed.name == "H3" and wide.measured > 1.05 * wide.bound
    assert RelaxationAsMaximum().verdict(DEAD, 0, np.eye(3)[:, :1], 0.0).failed.name == "H1"


def test_what_the_duality_cannot_look_at_is_refused():
    ensemble = gaussian_ensemble(17, 2, 1)
    with pytest.raises(HypothesisError, match=r"`factor` must have 3 rows.*thm-duality \(G\)"):
        RelaxationAsMaximum().value(ensemble, 0, np.ones((2, 1)))
    with pytest.raises(HypothesisError, match=r"`network` must have at most 16 neurons.*\(rank 1"):
        RelaxationAsMaximum(rank_one=True).maximiser(ensemble, 0)


# --- prop-rungs


@PROPERTY
@given(seed=SEEDS, name=NAMES, **SHAPES)
def test_the_eigenvalue_is_where_the_proposition_puts_it(seed, name, m, d, k):
    ensemble = drawn(seed, m, d, k, name)
    generator = np.random.default_rng(seed + 1)
    given_numbers = {
        "a": None,
        "b": None,
        "c": np.exp(generator.normal(size=(2, m))),
        "d": np.exp(3 * generator.normal(size=m)),
    }
    for part, numbers in given_numbers.items():
        for each in (None, numbers):
            found = EigenvalueRungs(part).verdict(ensemble, 0, each)
            assert found.applies and not found.contradicted, found.line()
    # L_sdp is below the two eigenvalues of (a) and (b).
    least = relaxed(ensemble).lower
    for part in "ab":
        assert least <= EigenvalueRungs(part).verdict(ensemble, 0).measured * (1 + 1e-9)


def test_one_neuron_attains_the_norms():
    ensemble = ensemble_of([[3.0, 4.0]], [1.0], [[2.0]], "relu")
    for part in "ab":
        found = EigenvalueRungs(part).verdict(ensemble, 0)
        assert found.measured == pytest.approx(found.bound) == pytest.approx(10.0)


def test_without_their_hypotheses_the_parts_fail():
    # Negative controls: other multipliers than those named exceed the norms; half-way between a
    # positive multiplier and a negative one the eigenvalue is not below the mean; and a rescaled
    # hidden layer alone has another bound.
    ensemble = gaussian_ensemble(6, 2, 1, seeds=(2,))
    hidden, output, _ = living(ensemble, 0)
    slopes = ensemble.activation.slope_range
    for part, t in (("a", uniform_multiplier), ("b", path_multiplier)):
        bound = EigenvalueRungs(part).verdict(ensemble, 0).bound
        assert eigenvalue_bound(hidden, output, slopes, 9 * t(hidden, output)) > bound
    one = ensemble_of([[1.0]], [0.0], [[1.0]], "abs")
    middle, bound = EigenvalueRungs("c").sides(one, 0, np.array([[0.3], [-0.1]]))
    assert middle > bound
    found = EigenvalueRungs("c").verdict(one, 0, np.array([[0.3], [-0.1]]))
    assert found.failed.name == "H2" and found.measured is None
    twice = replace(ensemble, hidden_weight=2.0 * ensemble.hidden_weight)
    ends = [(each.lower, each.upper) for each in (relaxed(ensemble), relaxed(twice))]
    assert miss(*ends) == pytest.approx(2.0, rel=1e-3)


def test_the_rungs_need_a_neuron_and_a_part():
    for part in "abcd":
        found = EigenvalueRungs(part).verdict(DEAD, 0)
        assert found.failed.name == "H1" and found.bound is None
    with pytest.raises(HypothesisError, match=r"`part` must be 'a', 'b', 'c' or 'd' for prop-ru"):
        EigenvalueRungs("e")


# --- prop-formal


@PROPERTY
@given(seed=SEEDS, name=NAMES, m=SHAPES["m"], d=SHAPES["d"])
def test_the_formal_constant_is_that_of_a_network(seed, name, m, d):
    ensemble = drawn(seed, m, d, 1, name)
    found = FormalIsLipschitz().verdict(ensemble, 0)
    assert found.applies and not found.contradicted
    hidden, _, output = weights_of(ensemble, 0)
    twin = bracket(*formal_network(hidden, output, ensemble.activation))
    assert twin.upper == pytest.approx(brute_formal(ensemble), rel=2e-6)


def test_the_constant_of_the_network_itself_is_another():
    # Negative control: with its own biases a network is not as steep as N(f).
    ensemble = gaussian_ensemble(8, 1, seeds=(1,))
    hidden, bias, output = weights_of(ensemble, 0)
    own = bracket(hidden, bias, output, "relu")
    formal = formal_upper_bound(hidden, output, "relu")
    assert miss((formal, formal), (own.lower, own.upper)) > 1.2


def test_the_proposition_is_about_one_output_and_few_neurons():
    two = FormalIsLipschitz().verdict(gaussian_ensemble(3, 2, 2), 0)
    assert two.failed.name == "H2" and two.measured is None
    assert FormalIsLipschitz().verdict(DEAD, 0).failed.name == "H1"
    many = FormalIsLipschitz().verdict(gaussian_ensemble(17, 2), 0)
    assert many.applies and many.measured is None
    line = FormalIsLipschitz().verdict(gaussian_ensemble(17, 1), 0)
    assert line.applies and not line.contradicted and line.measured is not None


def test_enclosures_that_meet_miss_by_no_factor():
    assert miss((1.0, 2.0), (1.5, 3.0)) <= 1.0 and miss((3.0, 3.0), (1.0, 2.0)) == 1.5
    assert miss((0.0, 0.0), (0.0, 0.0)) == 0.0 and miss((1.0, 1.0), (0.0, 0.0)) == np.inf
