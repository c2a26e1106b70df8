"""Data sets: what the packages ship, standardisation and its inverse, known Lipschitz constants."""

import math

import numpy as np
import pytest

from lipbook.data import REAL_DATA, TARGETS, synthetic


@pytest.mark.parametrize(
    ("name", "n", "d", "k"),
    [
        ("co2-cycle", 198, 1, 1),
        ("co2-trend", 521, 1, 1),
        ("diabetes", 442, 10, 1),
        ("digits", 1797, 64, 10),
    ],
)
def test_real_sets_have_their_sizes_sources_and_licences(name, n, d, k):
    dataset = REAL_DATA[name]()
    assert dataset.x.shape == (n, d) and dataset.y.shape == (n, k)
    assert dataset.n_samples == n and dataset.name == name
    assert "shipped by" in dataset.source and dataset.licence
    assert np.isfinite(dataset.x.numpy()).all() and np.isfinite(dataset.y.numpy()).all()


def test_the_trend_is_mauna_loas():
    trend = REAL_DATA["co2-trend"]()
    year = trend.raw_x(trend.x.numpy())[:, 0]
    ppm = trend.raw_y(trend.y.numpy())[:, 0]
    assert 1958.2 < year[0] < 1958.3 and 2001.9 < year[-1] < 2002.0
    assert 313 < ppm[0] < 318 and 369 < ppm[-1] < 373
    assert float(trend.x.abs().max()) == pytest.approx(1.0)
    # Annual means are 316.0 ppm (1959) and 369.5 ppm (2000), here from weekly flask samples.
    for when, mean in ((1959, 315.97), (2000, 369.55)):
        assert ppm[(year >= when) & (year < when + 1)].mean() == pytest.approx(mean, abs=0.5)


def test_the_cycle_peaks_in_may_and_bottoms_in_autumn():
    cycle = REAL_DATA["co2-cycle"]()
    phase = cycle.raw_x(cycle.x.numpy())[:, 0]
    ppm = cycle.raw_y(cycle.y.numpy())[:, 0]
    assert (phase >= 0).all() and (phase < 1).all()
    assert abs(ppm.mean()) < 0.2
    by_month = [ppm[np.floor(phase * 12) == month].mean() for month in range(12)]
    assert int(np.argmax(by_month)) == 4 and int(np.argmin(by_month)) in (8, 9)
    assert 5.0 < max(by_month) - min(by_month) < 7.5


def test_lipschitz_constants_convert_like_slopes():
    cycle = REAL_DATA["co2-cycle"]()
    x, y = cycle.x.numpy(), cycle.y.numpy()
    raw_x, raw_y = cycle.raw_x(x), cycle.raw_y(y)
    slope = (y[1, 0] - y[0, 0]) / (x[1, 0] - x[0, 0])
    raw_slope = (raw_y[1, 0] - raw_y[0, 0]) / (raw_x[1, 0] - raw_x[0, 0])
    assert cycle.raw_lipschitz(abs(slope)) == pytest.approx(abs(raw_slope))
    with pytest.raises(ValueError, match="`x_scale` must be one number for all inputs"):
        REAL_DATA["diabetes"]().raw_lipschitz(1.0)


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("d", [1, 3])
def test_targets_have_the_stated_lipschitz_constant(name, d):
    dataset = synthetic(name, 400, input_dim=d, seed=1)
    x, y = dataset.x.numpy(), dataset.y.numpy()[:, 0]
    assert (np.abs(x) <= 1).all()
    np.testing.assert_allclose(y, TARGETS[name].function(x.mean(1)))
    distance = np.linalg.norm(x[:, None] - x[None], axis=2) + np.eye(len(x))
    seen = (np.abs(y[:, None] - y[None]) / distance).max()
    assert seen <= dataset.lipschitz * (1 + 1e-9)
    # Along the diagonal the constant is reached (or grows without bound, for the jump).
    t = np.linspace(-1, 1, 40_001)
    steep = np.abs(np.diff(TARGETS[name].function(t)) / np.diff(t)).max() / math.sqrt(d)
    assert steep >= min(dataset.lipschitz, 1e3) * (1 - 1e-4)


def test_noise_is_bounded_and_seeded():
    clean, noisy = synthetic("sine", 300), synthetic("sine", 300, noise=0.2)
    assert (clean.x == noisy.x).all()
    difference = (clean.y - noisy.y).abs()
    assert 0.15 < difference.max() <= 0.2
    assert (synthetic("sine", 300, noise=0.2).y == noisy.y).all()
    assert (synthetic("sine", 300, seed=1).x != clean.x).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "cliff"}, r"`target` must be one of sine, .* Got 'cliff'"),
        ({"n_samples": 0}, r"`n_samples` must be at least 1. Got 0"),
        ({"input_dim": 0}, r"`input_dim` must be at least 1. Got 0"),
        ({"noise": -0.1}, r"`noise` must be a finite number ≥ 0. Got -0.1"),
    ],
)
def test_misuse_is_refused(arguments, message):
    chosen = {"target": "sine", "n_samples": 5} | arguments
    with pytest.raises(ValueError, match=message):
        synthetic(chosen.pop("target"), chosen.pop("n_samples"), **chosen)
