"""Slopes on intervals, rescaled neurons, one step of descent: two sides each, and controls."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS, get_activation
from lipbook.gradients import risk_and_gradient
from lipbook.lipschitz import bracket, formal_upper_bound, pattern_upper_bound
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.rescaling import balancing_factors, rescaled
from lipbook.theorems import Setting
from lipbook.theorems.descent_step import DescentStep, turning_on_segment
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.neuron_rescaling import NeuronRescaling
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.slope_on_interval import SlopeOnInterval
from lipbook.theorems.smoothness import smoothness

PROPERTY = settings(derandomize=True, max_examples=60, deadline=None)
NAMES = st.sampled_from(sorted(ACTIVATIONS))
SMOOTH = st.sampled_from(["tanh", "sigmoid", "softplus", "gelu", "silu"])
KINKED = st.sampled_from(["relu", "leaky relu", "abs"])
SEEDS = st.integers(0, 10_000)


def ensemble_of(weight, bias, output, activation, shift=0.0):
    parts = [torch.as_tensor(np.asarray(e, dtype=float))[None] for e in (weight, bias, output)]
    offset = torch.full((1, parts[2].shape[1]), shift, dtype=torch.float64)
    return Ensemble(*parts, offset, get_activation(activation))


def sample(seed, n, d, k=1):
    generator = np.random.default_rng(seed)
    return (
        torch.from_numpy(generator.uniform(-1, 1, (n, d))),
        torch.from_numpy(generator.normal(size=(n, k))),
    )


# --- thm-enclosure


@PROPERTY
@given(
    seed=SEEDS, name=SMOOTH, m=st.integers(1, 12), k=st.integers(1, 3),
    middle=st.floats(-5, 5), exponent=st.floats(-9, 1.5),
)  # fmt: skip
def test_no_slope_on_the_interval_exceeds_the_bound(seed, name, m, k, middle, exponent):
    ensemble = gaussian_ensemble(m, 1, k, seeds=(seed,), activation=name)
    radius = math.exp(exponent)
    found = SlopeOnInterval(middle, radius).verdict(ensemble, 0)
    assert found.applies and not found.contradicted
    # The library's enclosure, on the same interval, by other code.
    known = bracket(*weights_of(ensemble, 0), name, (middle - radius, middle + radius))
    assert found.measured <= known.upper * (1 + 1e-9) and known.lower <= found.bound * (1 + 1e-9)


def test_the_excess_is_of_second_order():
    ensemble = gaussian_ensemble(8, 1, seeds=(3,), activation="tanh")
    excess = []
    for radius in (0.1, 0.05, 0.025):
        known = bracket(*weights_of(ensemble, 0), "tanh", (0.3 - radius, 0.3 + radius), "enclosure",
                        rel_gap=1e-9)  # fmt: skip
        excess.append(SlopeOnInterval(0.3, radius).bound(ensemble, 0) - known.lower)
    assert excess[0] / excess[1] == pytest.approx(4, rel=0.2)
    assert excess[1] / excess[2] == pytest.approx(4, rel=0.2)


def test_without_the_remainder_or_the_slope_of_the_slope_it_is_no_bound():
    # Negative controls: tanh is steepest at 0; each part of the bound is needed somewhere.
    one, steep = ensemble_of([[1.0]], [0.0], [[1.0]], "tanh"), get_activation("tanh")
    for middle, radius in ((0.6, 0.2), (2.0, 2.0)):
        found = SlopeOnInterval(middle, radius).verdict(one, 0)
        slope, linear = 1 / math.cosh(middle) ** 2, 2 * math.tanh(middle) / math.cosh(middle) ** 2
        rest = 0.5 * steep.curvature_lipschitz * radius**2
        assert found.bound == pytest.approx(slope + radius * linear + rest)
        assert found.applies and not found.contradicted
        assert found.measured > slope + (rest if radius < 1 else radius * linear)


def test_the_interval_is_that_of_a_smooth_network_of_one_input():
    for ensemble, name in (
        (gaussian_ensemble(3, 1), "H2"),
        (gaussian_ensemble(3, 2, activation="tanh"), "H1"),
    ):
        found = SlopeOnInterval(0.0, 1.0).verdict(ensemble, 0)
        assert found.failed.name == name and found.bound is None and found.measured is None
        with pytest.raises(HypothesisError, match=rf"`ensemble` must have one input.*\({name}\)"):
            SlopeOnInterval(0.0, 1.0).bound(ensemble, 0)
    for middle, radius in ((0.0, 0.0), (0.0, -1.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(HypothesisError, match=r"`radius` must be positive.*thm-enclosure"):
            SlopeOnInterval(middle, radius)


# --- prop-rescaling


def factors_of(seed, m, spread=2.0):
    return torch.from_numpy(np.exp(spread * np.random.default_rng(seed).normal(size=(1, m))))


@PROPERTY
@given(
    seed=SEEDS, name=KINKED, m=st.integers(1, 9), d=st.integers(1, 3), k=st.integers(1, 2)
)  # fmt: skip
def test_rescaling_leaves_the_function_and_its_constants_alone(seed, name, m, d, k):
    ensemble = gaussian_ensemble(m, d, k, seeds=(seed,), activation=name)
    factors, points = factors_of(seed, m), sample(seed, 12, d)[0] * 3
    found = NeuronRescaling().verdict(ensemble, 0, factors, points)
    assert found.applies and not found.contradicted
    after = rescaled(ensemble, factors)
    ends = [bracket(*weights_of(each, 0), name, (-1.0, 1.0)) for each in (ensemble, after)]
    assert ends[0].lower == pytest.approx(ends[1].lower, rel=2e-6)
    formal = [
        pattern_upper_bound(*(weights_of(each, 0)[i] for i in (0, 2)), name)
        for each in (ensemble, after)
    ]
    assert formal[0] == pytest.approx(formal[1], rel=1e-9)


@PROPERTY
@given(seed=SEEDS, name=KINKED, m=st.integers(1, 9), spread=st.floats(0.0, 4.0))
def test_no_rescaling_takes_the_product_below_the_path_norm(seed, name, m, spread):
    ensemble, theorem = (
        gaussian_ensemble(m, 1, seeds=(seed,), activation=name),
        NeuronRescaling("product"),
    )
    found = theorem.verdict(ensemble, 0, factors_of(seed, m, spread))
    assert found.applies and not found.contradicted
    best = theorem.verdict(ensemble, 0, balancing_factors(ensemble))
    assert best.applies and best.bound == pytest.approx(best.measured, rel=1e-9)


def test_a_neuron_without_output_is_shrunk_away():
    # The infimum that is approached: a_j = 0 ≠ w_j.
    ensemble = ensemble_of([[1.0], [5.0]], [0.0, 0.0], [[2.0, 0.0]], "relu")
    gaps = []
    for small in (1.0, 1e-2, 1e-4):
        factors = torch.tensor([[math.sqrt(2), small]], dtype=torch.float64)
        gaps.append(NeuronRescaling("product").verdict(ensemble, 0, factors).slack)
    assert gaps[0] > 1.0 > gaps[1] > 0 and gaps[2] == pytest.approx(0.0, abs=1e-6)


def test_without_its_hypotheses_rescaling_moves_the_function():
    # Negative controls: no homogeneous σ; a factor below 0; several outputs.
    smooth = gaussian_ensemble(5, 1, activation="tanh")
    points = sample(0, 9, 1)[0]
    found = NeuronRescaling().verdict(smooth, 0, factors_of(1, 5), points)
    assert found.failed.name == "H1" and found.measured > 1e6 * found.bound
    kinked = gaussian_ensemble(5, 1)
    found = NeuronRescaling().verdict(kinked, 0, -factors_of(1, 5), points)
    assert found.failed.name == "H2" and found.measured is None
    flipped = [-getattr(kinked, n) for n in BLOCKS[:3]]
    turned = Ensemble(*flipped, kinked.output_bias, kinked.activation)
    assert (turned(points) - kinked(points)).abs().max() > 0.1
    plane = ensemble_of(np.eye(2), [0.0, 0.0], np.eye(2), "relu")
    found = NeuronRescaling("product").verdict(plane, 0, balancing_factors(plane))
    assert found.failed.name == "H3" and found.measured > 1.9 > found.bound


def test_weights_out_of_range_and_other_parts():
    ensemble = gaussian_ensemble(3, 1)
    huge = torch.full((1, 3), 1e300, dtype=torch.float64)
    for part in ("function", "product"):
        found = NeuronRescaling(part).verdict(ensemble, 0, huge)
        assert found.failed.name == "H2" and found.bound is None
    assert NeuronRescaling().verdict(ensemble, 0, factors_of(0, 3)).applies
    with pytest.raises(HypothesisError, match=r"`part` must be 'function' or 'product'"):
        NeuronRescaling("path")
    flat = ensemble_of([[0.0]], [0.0], [[0.0]], "relu")
    assert NeuronRescaling().verdict(flat, 0, factors_of(0, 1)).measured == 0.0
    assert formal_upper_bound([[0.0]], [[0.0]]) == 0.0


# --- lem-descent


@PROPERTY
@given(
    seed=SEEDS, name=SMOOTH, m=st.integers(1, 9), d=st.integers(1, 3), n=st.integers(1, 8),
    loss=st.sampled_from(["mse", "huber"]), share=st.floats(0.01, 1.0),
)  # fmt: skip
def test_a_step_that_is_short_enough_lowers_the_risk(seed, name, m, d, n, loss, share):
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), activation=name)
    (x, y), phi = sample(seed, n, d), get_loss(loss, 0.7)
    risk, gradient = risk_and_gradient(ensemble, x, y, phi)
    norm = float(ensemble.parameter_norm()) + 1.0
    beta = float(smoothness(Setting.of(ensemble, x, y, phi), norm, float(risk)))
    length = math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))
    rate = share * min(1 / beta, 1 / length)
    # β of `lem-smoothness`, proved for the whole segment, and β as seen between its points.
    proved = DescentStep(rate, beta).verdict(ensemble, 0, (x, y), phi)
    assert proved.applies and not proved.contradicted
    seen = DescentStep(rate).verdict(ensemble, 0, (x, y), phi)
    assert seen.applies and not seen.contradicted
    assert turning_on_segment(ensemble, rate, (x, y), phi) <= beta * (1 + 1e-9)


@PROPERTY
@given(seed=SEEDS, name=NAMES, m=st.integers(1, 9), k=st.integers(1, 2), exponent=st.floats(-7, 4))
def test_whatever_the_rate_the_lemma_is_not_contradicted(seed, name, m, k, exponent):
    ensemble = gaussian_ensemble(m, 2, k, seeds=(seed,), activation=name)
    found = DescentStep(math.exp(exponent)).verdict(
        ensemble, 0, sample(seed, 6, 2, k), get_loss("mse")
    )
    assert not found.contradicted


def constant(shift):
    """f = c, whose risk is ½(c − y)²: β is 1 everywhere."""
    return ensemble_of([[0.0]], [0.0], [[0.0]], "relu", shift)


def test_one_offset_attains_the_bound_and_a_longer_step_exceeds_it():
    data = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    found = DescentStep(1.0).verdict(constant(1.0), 0, data, get_loss("mse"))
    assert found.applies and not found.contradicted
    assert found.measured == 0.0 and found.bound == pytest.approx(0.0, abs=1e-11)
    assert turning_on_segment(constant(1.0), 1.0, data, get_loss("mse")) == pytest.approx(1.0)
    # Negative control: αβ = 1.5; and a β that is too small for the step.
    long = DescentStep(1.5).verdict(constant(1.0), 0, data, get_loss("mse"))
    assert long.failed.name == "H2" and long.measured > long.bound + 0.1
    wrong = DescentStep(1.5, 0.5).verdict(constant(1.0), 0, data, get_loss("mse"))
    assert wrong.failed.name == "H1" and wrong.measured > wrong.bound
    rest = DescentStep(0.0, math.inf).verdict(constant(1.0), 0, data, get_loss("mse"))
    assert rest.applies and rest.measured == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.1])
def test_from_a_kink_the_risk_may_rise_at_every_rate(rate):
    # Negative control, an exercise of the page: the gradient jumps at the start of the step.
    start = ensemble_of([[1.0]], [0.0], [[3.0]], "relu")
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    found = DescentStep(rate).verdict(start, 0, (x, y), get_loss("mse"))
    assert found.failed.name == "H1"
    assert found.measured >= 17 / 4 + 2 * rate > found.bound


def test_a_kink_that_is_not_crossed_is_none():
    ensemble = gaussian_ensemble(6, 1, seeds=(2,))
    data = sample(1, 5, 1)
    short = DescentStep(1e-4).verdict(ensemble, 0, data, get_loss("mse"))
    assert short.applies and not short.contradicted
    far = DescentStep(50.0).verdict(ensemble, 0, data, get_loss("mse"))
    assert far.failed.name == "H1"


def test_steps_out_of_range_do_not_apply_and_rates_below_0_are_refused():
    ensemble = gaussian_ensemble(3, 1, activation="tanh")
    x, y = sample(0, 4, 1)
    for data, rate in (((x, 1e200 * y), 1.0), ((x, y), 1e308)):
        found = DescentStep(rate).verdict(ensemble, 0, data, get_loss("mse"))
        assert not found.applies and not found.contradicted
    broken = replace(ensemble, output_bias=torch.full((1, 1), math.nan, dtype=torch.float64))
    assert not DescentStep(0.1).verdict(broken, 0, (x, y), get_loss("mse")).applies
    for rate in (-0.1, math.inf, math.nan):
        with pytest.raises(HypothesisError, match=r"`rate` must be finite and not negative"):
            DescentStep(rate)
