"""Each constant of each activation against mpmath and dense numerical search."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

from lipbook.activations import ACTIVATIONS, get_activation

NAMES = sorted(ACTIVATIONS)
SMOOTH = [name for name in NAMES if not ACTIVATIONS[name].is_piecewise_linear]
GRID = np.concatenate([np.linspace(-12, 12, 480_001), [-300.0, -40.0, 40.0, 300.0]])

REFERENCE = {
    "relu": lambda z: max(z, 0),
    "leaky relu": lambda z: z if z > 0 else mpmath.mpf(0.01) * z,
    "abs": abs,
    "tanh": mpmath.tanh,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
}
POINTS = [-30.0, -3.7, -1.0, -0.2, 0.31, 1.0, 2.4, 9.5, 30.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("z", POINTS)
def test_value_and_derivatives_agree_with_mpmath(name, z):
    activation, reference = ACTIVATIONS[name], REFERENCE[name]
    at = np.array([z])
    with mpmath.workdps(50):
        value = float(reference(mpmath.mpf(z)))
        slope = float(mpmath.diff(reference, z))
        curvature = float(mpmath.diff(reference, z, 2))
    assert activation.value(at)[0] == pytest.approx(value, rel=1e-12, abs=1e-300)
    assert activation.slope(at)[0] == pytest.approx(slope, rel=1e-11, abs=1e-15)
    if activation.curvature is not None:
        assert activation.curvature(at)[0] == pytest.approx(curvature, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_torch_and_numpy_agree_and_overwriting_does_both(name):
    activation = ACTIVATIONS[name]
    z = torch.from_numpy(GRID)
    for function in (activation.value, activation.slope, activation.curvature):
        if function is not None:
            np.testing.assert_allclose(function(z).numpy(), function(GRID), rtol=1e-13, atol=1e-15)
    value, slope = z.clone(), torch.empty_like(z)
    activation.value_and_slope_(value, slope)
    np.testing.assert_allclose(value.numpy(), activation.value(GRID), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(slope.numpy(), activation.slope(GRID), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_slope_range_and_lipschitz_constant_are_the_extremes_of_the_slope(name):
    activation = ACTIVATIONS[name]
    slopes = activation.slope(GRID)
    low, high = activation.slope_range
    assert low <= slopes.min() <= low + 1e-9
    assert high - 1e-9 <= slopes.max() <= high
    assert activation.lipschitz == max(abs(low), abs(high))


@pytest.mark.parametrize("name", NAMES)
def test_value_at_zero_and_bound(name):
    activation = ACTIVATIONS[name]
    assert activation.at_zero == pytest.approx(abs(float(REFERENCE[name](0))), abs=1e-16)
    values = np.abs(activation.value(GRID))
    if activation.bound is None:
        assert values.max() > 100
    else:
        assert activation.bound - 1e-9 <= values.max() <= activation.bound


@pytest.mark.parametrize("name", SMOOTH)
def test_second_and_third_derivative_bounds_are_attained_to_five_digits(name):
    activation = ACTIVATIONS[name]
    assert activation.curvature is not None
    curvature = activation.curvature(GRID)
    assert np.abs(curvature).max() <= activation.slope_lipschitz * (1 + 1e-15)
    assert np.abs(curvature).max() >= activation.slope_lipschitz * (1 - 1e-7)
    with mpmath.workdps(30):
        inner = np.linspace(-3, 3, 1201)
        third = [abs(float(mpmath.diff(REFERENCE[name], float(z), 3))) for z in inner]
    assert max(third) <= activation.curvature_lipschitz
    assert max(third) >= activation.curvature_lipschitz * (1 - 2e-5)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SMOOTH)))
def test_a_kinked_activation_claims_no_smoothness(name):
    activation = ACTIVATIONS[name]
    assert activation.slope_lipschitz is None and activation.curvature is None
    left, right = activation.kink_slopes
    assert left != right
    assert activation.slope(np.array([-1e-300, 0.0, 1e-300])).tolist() == [left, left, right]


@pytest.mark.parametrize("name", SMOOTH)
def test_slope_turns_and_limits(name):
    activation = ACTIVATIONS[name]
    edges = [-60.0, *activation.slope_turns, 60.0]
    for low, high in itertools.pairwise(edges):
        steps = np.diff(activation.slope(np.linspace(low, high, 20_001)))
        assert (steps >= -1e-15).all() or (steps <= 1e-15).all()
    ends = activation.slope(np.array([-800.0, 800.0]))
    np.testing.assert_allclose(ends, activation.slope_limits, atol=1e-300)


def test_homogeneity_is_claimed_exactly_where_it_holds():
    z = np.linspace(-2, 2, 41)
    for activation in ACTIVATIONS.values():
        holds = np.allclose(activation.value(3.0 * z), 3.0 * activation.value(z), rtol=1e-12)
        assert holds == activation.is_homogeneous


def test_unknown_activation_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"`activation` must be one of relu, .*Got 'swish'"):
        get_activation("swish")
    assert get_activation(ACTIVATIONS["tanh"]) is ACTIVATIONS["tanh"]
    assert math.isclose(get_activation("sigmoid").lipschitz, 0.25)
