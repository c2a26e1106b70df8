"""All times from the start alone: traps, wide networks, Lipschitz constants; controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.kernels import Curvature, parameter_jacobian
from lipbook.lipschitz import brackets
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.pl_lipschitz import PLLipschitz
from lipbook.theorems.pl_start import PLStart, PLWide, StartNumbers
from lipbook.theorems.pl_trap import PLTrap
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
SMOOTH = [name for name in NAMES if ACTIVATIONS[name].slope_lipschitz is not None]
DOMAIN = (-1.0, 1.0)


def moved(ensemble, length, seed):
    """The same network, all parameters together moved by a vector of this length."""
    generator = np.random.default_rng(seed)
    drawn = [torch.from_numpy(generator.standard_normal(b.shape)) for b in ensemble.blocks()]
    norm = math.sqrt(sum(float(each.square().sum()) for each in drawn))
    blocks = {
        name: block + length / norm * each
        for name, block, each in zip(BLOCKS, ensemble.blocks(), drawn, strict=True)
    }
    return Ensemble(**blocks, activation=ensemble.activation)


def constant_of(ensemble):
    found = brackets(ensemble, domain=DOMAIN, rel_gap=1e-4)
    return float(found.lower[0]), float(found.upper[0])


# Lipschitz constants ----------------------------------------------------------------------------


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    activation=st.sampled_from(NAMES),
    m=st.integers(1, 20),
    size=st.sampled_from([0.1, 1.0, 4.0]),
    path=st.sampled_from([0.0, 0.01, 0.3, 2.0]),
)
def test_a_short_way_changes_the_constant_by_little(seed, activation, m, size, path):
    start = moved(gaussian_ensemble(m, 1, seeds=(seed,), activation=activation), size, seed + 1)
    end = moved(start, path, seed + 2)
    theorem, (least, _) = PLLipschitz(1.0), constant_of(end)
    assert least <= theorem.product_bound(start, 0, path) * (1 + 1e-9)
    if activation in SMOOTH:
        assert least <= theorem.bound(start, 0, path, constant_of(start)[1]) * (1 + 1e-9)


def one_neuron(a, w, b, activation="softplus"):
    tensors = [torch.tensor([v], dtype=torch.float64) for v in (w, b, a)]
    c = torch.zeros(1, 1, dtype=torch.float64)
    return Ensemble(
        tensors[0][..., None, None],
        tensors[1][..., None],
        tensors[2][..., None, None],
        c,
        ACTIVATIONS[activation],
    )


def test_both_bounds_of_the_constant_are_nearly_attained():
    # From almost nothing: with both weights ε, a way of length e/√2 in each gives slope e²/2.
    small, path = 1e-3, 1.0
    start = one_neuron(small, small, 40.0)
    end = one_neuron(small + path / math.sqrt(2), small + path / math.sqrt(2), 40.0)
    theorem, known = PLLipschitz(1.0), constant_of(start)[1]
    least = constant_of(end)[0]
    assert 0.99 <= least / theorem.bound(start, 0, path, known) <= 1
    assert 0.99 <= least / theorem.product_bound(start, 0, path) <= 1
    # Negative control: with a path understated by a tenth the bound is beaten.
    assert least > theorem.bound(start, 0, 0.9 * path, known)


def test_the_turning_term_is_needed():
    # Two tanh neurons that cancel: moving one bias alone makes a slope out of none.
    weight = torch.full((1, 2, 1), 3.0, dtype=torch.float64)
    output = torch.tensor([[[4.0, -4.0]]], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    start, end = (
        Ensemble(
            weight, torch.tensor([[0.0, b]], dtype=torch.float64), output, zero, ACTIVATIONS["tanh"]
        )
        for b in (0.0, 0.01)
    )
    theorem = PLLipschitz(1.0)
    added = constant_of(end)[0]
    assert constant_of(start)[1] < 1e-6 < added <= theorem.bound(start, 0, 0.01, 0.0)
    assert added > 0.01 * math.hypot(0, 0)  # no weight moved, so the other terms would be 0


def test_the_smooth_bound_is_refused_at_a_kink():
    start = gaussian_ensemble(3, 1, activation="relu")
    with pytest.raises(HypothesisError, match=r"`start` must have a smooth activation for cor-pl"):
        PLLipschitz(1.0).bound(start, 0, 0.1, 1.0)


# A ball that descent cannot leave ---------------------------------------------------------------


def test_the_trap_holds_on_parabolas_and_is_nearly_attained():
    tightest = 0.0
    for mu, beta in ((1.0, 1.0), (0.5, 1.0), (0.1, 2.0)):
        for rate in (0.01, 0.5, 0.9, 1.9 / beta):
            point, path = np.array([0.7, 0.2]), 0.0
            curvature = np.array([mu, beta])
            risk = 0.5 * float(curvature @ point**2)
            bound = PLTrap(1e9, mu, beta).bound(rate, risk)
            trap = PLTrap(bound, mu, beta)
            assert all(each.holds for each in trap.hypotheses(rate, risk))
            small = PLTrap(0.99 * bound, mu, beta).hypotheses(rate, risk)[2]
            assert not small.holds and small.margin < 0
            for _ in range(3000):
                step = rate * curvature * point
                point, path = point - step, path + float(np.linalg.norm(step))
            tightest = max(tightest, path / bound)
    assert 0.99 <= tightest <= 1


def test_too_fast_or_too_flat_is_no_trap_and_refused():
    assert [h.holds for h in PLTrap(1.0, 1.0, 4.0).hypotheses(0.5, 0.1)] == [False, True, False]
    assert [h.holds for h in PLTrap(1.0, 0.0, 1.0).hypotheses(0.5, 0.1)] == [True, False, False]
    assert not PLTrap(1.0, 1.0, 1.0).hypotheses(0.1, 1e-9, distance=1.0)[2].holds
    with pytest.raises(HypothesisError, match=r"`rate` must be less than 2/β for thm-pl-trap"):
        PLTrap(1.0, 1.0, 4.0).bound(0.5, 0.1)
    with pytest.raises(HypothesisError, match=r"`mu` must be positive for thm-pl-trap \(H2\)"):
        PLTrap(1.0, 0.0, 4.0).bound(0.1, 0.1)


def case(m, seed, activation="tanh", n=3, loss="mse", target=0.3):
    x = torch.cos((2 * torch.arange(n, dtype=torch.float64) + 1) * math.pi / (2 * n))[:, None]
    ensemble = gaussian_ensemble(m, 1, seeds=(seed,), activation=activation)
    y = ensemble(x)[0] + target * torch.sin(math.pi * x)
    setting = Setting.of(ensemble, x, y, get_loss(loss))
    return ensemble, x, y, PLStart(StartNumbers.of(ensemble, 0, x, y, setting))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    activation=st.sampled_from(SMOOTH),
    m=st.sampled_from([3, 20, 200]),
    n=st.integers(1, 3),
    radius=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    share=st.sampled_from([0.3, 1.0]),
)
def test_the_ball_has_the_curvature_that_is_promised(seed, activation, m, n, radius, share):
    ensemble, x, y, start = case(m, seed, activation, n)
    trap = start.trap(radius)
    inside = moved(ensemble, share * radius, seed + 1)
    values = torch.linalg.svdvals(parameter_jacobian(inside, x)[0])
    if n <= inside.n_parameters:
        assert float(values[-1]) ** 2 / n >= trap.mu * (1 - 1e-9)
    if inside.n_parameters <= 100:
        curvature = Curvature.of(inside, x, y, get_loss("mse")).matrix()
        assert float(torch.linalg.matrix_norm(curvature[0], ord=2)) <= trap.beta * (1 + 1e-9)


def test_the_curvature_of_one_output_is_attained():
    # ∇²f at one sample: a neuron at the steepest and most curved place has it almost in full.
    sigma = ACTIVATIONS["tanh"]
    found = []
    for z in np.linspace(-2, 2, 401):
        network, x = one_neuron(5.0, 0.0, float(z), "tanh"), torch.zeros(1, 1, dtype=torch.float64)
        y = network(x)[0] - 1.0  # residual 1, so that ∇²R = JᵀJ + ∇²f
        parts = Curvature.of(network, x, y, get_loss("mse"))
        jacobian = parts.jacobian[0]
        second = parts.matrix()[0] - jacobian.T @ jacobian
        found.append(float(torch.linalg.matrix_norm(second, ord=2)))
    setting = Setting(sigma, 1, 1, 1, 0.0, 1.0, 1.0, get_loss("mse"))
    numbers = StartNumbers(None, 0.0, 5.0, 0.0, setting)
    assert 0.95 <= max(found) / PLStart(numbers).curvature(0.0) <= 1


def test_wide_networks_stay_where_the_start_says():
    ratios = []
    for seed in range(3):
        ensemble, x, y, start = case(1500, seed)
        rate = 0.2 * 2 * len(x) / start.numbers.largest
        trap = start.smallest(rate)
        assert trap is not None and start.bound(rate) <= trap.radius
        run = train(ensemble, x, y, make_schedule("constant", rate, n_steps=150), 150)
        found = start.verdict(run, 0)
        assert found.applies and not found.contradicted
        ratios.append(found.measured / found.bound)
        theorem = PLLipschitz(1.0)
        constants = np.array([constant_of(each)[1] for each in run.checkpoints[::13]])
        said = theorem.verdict(run, 0, found.bound, constants)
        assert said.applies and not said.contradicted
        finite = theorem.bound(ensemble, 0, found.bound, 0.0)
        wide = PLWide(start.numbers.least.value / 1500, len(x), 1, 1.0)
        added = float(constants.max() - constants[0])
        limit = wide.verdict(added, finite, start.numbers.risk, 0.8, margin=1.0)
        assert limit.applies and not limit.contradicted
        assert not wide.verdict(added, math.inf, start.numbers.risk, 0.8).applies
    assert 0.05 < max(ratios) <= 1


def test_the_start_says_nothing_where_it_cannot():
    for arguments, failed in (
        ({"m": 8, "seed": 0}, "H4"),
        ({"m": 1500, "seed": 0, "activation": "relu"}, "H2"),
        ({"m": 1500, "seed": 0, "loss": "huber"}, "H3"),
    ):
        ensemble, x, y, start = case(**arguments)
        loss = arguments.get("loss", "mse")
        run = train(ensemble, x, y, make_schedule("constant", 1e-3, n_steps=3), 3, loss=loss)
        assert start.verdict(run, 0).failed.name == failed and start.smallest(1e-3) is None
    decaying = train(*case(1500, 0)[:3], make_schedule("cosine", 1e-3, n_steps=3), 3)
    assert case(1500, 0)[3].verdict(decaying, 0).failed.name == "H3"
    short = PLLipschitz(1.0).verdict(decaying, 0, math.inf, np.ones(4))
    assert short.failed.name == "H2" and short.bound is None
    words = [PLLipschitz(1.0).verdict(decaying, 0, 1.0, np.ones(4), trusting=t) for t in ("", "so")]
    assert words[0].hypotheses[1].statement == "a finite bound e of the path is known for all times"
    assert words[1].hypotheses[1].statement == "a finite bound e of the path is known, if so"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: case(8, 0)[3].bound(0.01), r"`rate` must fit into a ball for prop-pl-start"),
        (lambda: case(8, 0, "relu")[3].trap(0.1), r"`setting` must have a smooth activation"),
        (lambda: case(8, 0, loss="huber")[3].trap(0.1), r"`setting` must have the loss mse"),
        (lambda: PLWide(0.0, 3, 1, 1.0).bound(1.0, 0.5), r"`least` must be positive for cor-pl"),
        (lambda: PLWide(1.0, 3, 1, 1.0).bound(1.0, 0.0), r"`decrease` must be positive for cor"),
    ],
)
def test_refusals_name_the_hypothesis(call, message):
    with pytest.raises(HypothesisError, match=message):
        call()
