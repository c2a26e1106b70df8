"""The theorems on what certificates cost: they hold, they are nearly attained, they can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import get_activation
from lipbook.lipschitz import sdp_bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.costs import ChainOfBounds, NearbyMultiplier, log_distance, sloppy
from lipbook.theorems.ladder_sdp import eigenvalue_bound, path_multiplier, weights_of
from lipbook.theorems.rungs import rungs_of


def one_neuron(activation: str, weight: float = 2.0, output: float = 0.5) -> Ensemble:
    """Return x ↦ output·σ(weight·x)."""
    blocks = (torch.tensor([[[weight]]]), torch.zeros(1, 1), torch.tensor([[[output]]]))
    return Ensemble(
        *(block.double() for block in (*blocks, torch.zeros(1, 1))), get_activation(activation)
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["relu", "leaky relu", "abs", "gelu"]),
    st.floats(0.0, 3.0),
    st.integers(1, 3),
)
def test_a_nearby_multiplier_costs_little(seed, activation, tolerance, outputs):
    ensemble = gaussian_ensemble(6, 3, outputs, seeds=(seed,), activation=activation)
    hidden, _, output = weights_of(ensemble, 0)
    best = sdp_bracket(hidden, output, activation).multiplier
    near = sloppy(best, tolerance, seed)
    assert log_distance(near, best) <= tolerance + 1e-12
    verdict = NearbyMultiplier().verdict(ensemble, 0, near, best, tolerance)
    assert verdict.applies and not verdict.contradicted
    # The second, rounder form of the bound.
    value = eigenvalue_bound(hidden, output, ensemble.activation.slope_range, best)
    assert verdict.bound <= (2.0 * math.exp(tolerance) - 1.0) * value * (1.0 + 1e-12)


@pytest.mark.parametrize("tolerance", [0.01, 0.5, 2.0])
def test_the_bound_is_attained_by_abs(tolerance):
    ensemble = one_neuron("abs")
    best = np.array([0.25])
    verdict = NearbyMultiplier().verdict(ensemble, 0, best * math.exp(tolerance), best, tolerance)
    assert verdict.applies
    assert verdict.measured == pytest.approx(verdict.bound, rel=1e-12)


def test_relu_with_one_neuron_costs_the_hyperbolic_cosine():
    ensemble, best = one_neuron("relu"), np.array([0.25])
    verdict = NearbyMultiplier().verdict(ensemble, 0, best * math.exp(0.3), best, 0.3)
    assert verdict.measured == pytest.approx(math.cosh(0.3), rel=1e-12)


def test_hypotheses_of_the_nearby_multiplier_fail_where_they_should():
    ensemble, best = one_neuron("abs"), np.array([0.25])
    far = NearbyMultiplier().verdict(ensemble, 0, best * math.e, best, 0.5, "a guess")
    assert not far.applies and far.failed.name == "H2" and far.subject == "a guess"
    # The control: without (H2) the inequality fails, and it is not a matter of rounding.
    assert far.measured > 1.5 * far.bound
    negative = NearbyMultiplier().verdict(ensemble, 0, -best, best, 0.5)
    assert negative.failed.name == "H1" and negative.bound is None


def test_the_verdict_on_a_guess_takes_both_values():
    ensemble = gaussian_ensemble(12, 3)
    hidden, _, output = weights_of(ensemble, 0)
    guess, best = path_multiplier(hidden, output), sdp_bracket(hidden, output).multiplier
    needed = log_distance(guess, best)
    for tolerance, applies in ((1.01 * needed, True), (0.5 * needed, False)):
        verdict = NearbyMultiplier().verdict(ensemble, 0, guess, best, tolerance)
        assert verdict.applies is applies


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "leaky relu", "abs"])
def test_the_chain_holds(activation, outputs):
    ensemble = gaussian_ensemble(8, 2, outputs, seeds=range(4), activation=activation)
    points = np.random.default_rng(0).normal(size=(100, 2))
    for network in range(ensemble.size):
        rungs = rungs_of(ensemble, network, None, points)
        verdict = ChainOfBounds().verdict(rungs)
        assert verdict.applies and not verdict.contradicted
        assert all(0.0 < q <= 1.0 + 1e-9 for q in ChainOfBounds().quotients(rungs).values())


def test_the_chain_needs_no_closed_bracket_but_a_gradient():
    ensemble = gaussian_ensemble(6, 2, activation="tanh")
    rungs = rungs_of(ensemble, 0, None, np.ones((1, 2)))
    assert not rungs.exact
    verdict = ChainOfBounds().verdict(rungs)
    assert verdict.applies and not verdict.contradicted
    # Either end is held against its own neighbour: a lower end above the SDP bound is seen.
    high = replace(rungs.bracket, lower=2.0 * rungs.sdp, upper=3.0 * rungs.sdp)
    assert ChainOfBounds().verdict(replace(rungs, bracket=high)).contradicted
    low = replace(rungs.bracket, lower=0.0, upper=0.5 * rungs.sampled)
    assert ChainOfBounds().verdict(replace(rungs, bracket=low)).contradicted
    unseen = replace(rungs, sampled=0.0)
    assert ChainOfBounds().verdict(unseen).failed.name == "H1"


def test_the_chain_holds_with_a_dead_neuron():
    hidden, output = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]), np.array([[1.0, 5.0, 0.0]])
    blocks = (torch.tensor(hidden)[None], torch.zeros(1, 3).double(), torch.tensor(output)[None])
    dead = Ensemble(*blocks, torch.zeros(1, 1).double(), get_activation("relu"))
    rungs = rungs_of(dead, 0, None, np.array([[1.0, 0.5], [-2.0, 1.0]]))
    verdict = ChainOfBounds().verdict(rungs)
    assert verdict.applies and not verdict.contradicted
    assert rungs.sdp == pytest.approx(math.sqrt(5.0), rel=1e-3)


def test_rescaled_multipliers_of_lipsdp_are_multipliers():
    """With t = 2hT/L the matrix inequality of LipSDP and the eigenvalue say the same."""
    ensemble = gaussian_ensemble(5, 3)
    hidden, _, output = weights_of(ensemble, 0)
    found = sdp_bracket(hidden, output)
    value = eigenvalue_bound(hidden, output, (0.0, 1.0), found.multiplier)
    weights = np.diag(value * found.multiplier)  # T = Lt/(2h), h = ½
    coupling = -weights @ hidden

    def least(square: float) -> float:
        corner = 2.0 * weights - output.T @ output
        matrix = np.block([[square * np.eye(3), coupling.T], [coupling, corner]])
        return float(np.linalg.eigvalsh(matrix)[0])

    assert abs(least(value**2)) <= 1e-9 and least(0.999 * value**2) < -1e-6


def test_a_wrong_rung_is_seen():
    rungs = rungs_of(gaussian_ensemble(6, 2), 0, None, np.ones((1, 2)))
    wrong = replace(rungs, sdp=0.5 * rungs.bracket.lower)
    assert ChainOfBounds().verdict(wrong).contradicted


def test_a_flat_network_has_a_chain_of_zeros():
    rungs = rungs_of(gaussian_ensemble(6, 2), 0, None, np.ones((1, 2)))
    nought = replace(rungs.bracket, lower=0.0, upper=0.0)
    flat = replace(rungs, sampled=0.0, bracket=nought, sdp=0.0, centred=0.0, product=0.0)
    assert set(ChainOfBounds().quotients(flat).values()) == {0.0}
    assert math.isinf(ChainOfBounds().quotients(replace(flat, sampled=1.0))["sampled / upper end"])
