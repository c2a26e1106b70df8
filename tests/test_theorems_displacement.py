"""Displacement and path as code: the chain holds at every step, and its ends are attained."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches, kind_of

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import brackets
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.schedules import SCHEDULES, make_schedule
from lipbook.theorems.descent import PathBound
from lipbook.theorems.displacement import (
    LINKS,
    DisplacementBound,
    operator_displacement,
    quadratic_share,
    rounding,
    shares,
)
from lipbook.training import TrainingRun, train

NAMES = sorted(ACTIVATIONS)
UP = 1.0 + 1e-9


def small_run(seed, rate, schedule, activation, loss, scale="standard", dtype=torch.float64):
    """Three networks of random shape and data, every step recorded."""
    g = np.random.default_rng(seed)
    m, d, n = (int(g.integers(*ends)) for ends in ((1, 9), (1, 4), (1, 8)))
    x = torch.from_numpy(g.uniform(-1.5, 1.5, (n, d))).to(dtype)
    y = torch.from_numpy(g.normal(size=n) * 10.0 ** g.uniform(-1, 1)).to(dtype)
    starts = gaussian_ensemble(
        m, d, seeds=range(3 * seed, 3 * seed + 3), activation=activation, scale=scale, dtype=dtype
    )
    chosen = make_schedule(schedule, rate, n_steps=25, start=8, timescale=5.0)
    return train(
        starts, x, y, chosen, 25, loss=loss, huber_delta=0.5, steps=range(26),
        on_divergence="record",
    )  # fmt: skip


def constant_network(offset: float) -> Ensemble:
    """A network that is c and nothing else: R = c²/2 for the target 0."""
    nothing = torch.zeros(1, 1, 1, dtype=torch.float64)
    c = torch.full((1, 1), offset, dtype=torch.float64)
    return Ensemble(nothing, nothing[0], nothing, c, ACTIVATIONS["relu"])


def descend_constant(product: float, n_steps: int) -> TrainingRun:
    """Descent on R = c²/2 from c = 1 at a constant rate; the curvature is 1."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    schedule = make_schedule("constant", product, n_steps=n_steps)
    return train(constant_network(1.0), x, torch.zeros(1, dtype=torch.float64), schedule, n_steps)


def straight_run(width: int, schedule: str, n_steps: int, target: float = 1e6) -> TrainingRun:
    """Equal ReLU neurons that one far-away target pulls in one direction for ever."""
    ones = torch.ones(1, width, 1, dtype=torch.float64)
    start = Ensemble(
        0.3 * ones, 0.1 * ones[..., 0], 0.2 * ones.mT, torch.zeros(1, 1, dtype=torch.float64),
        ACTIVATIONS["relu"],
    )  # fmt: skip
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.full((1,), target, dtype=torch.float64)
    rates = make_schedule(schedule, 0.05, n_steps=n_steps, start=n_steps // 2)
    return train(
        start, x, y, rates, n_steps, loss="huber", huber_delta=0.5, steps=range(n_steps + 1)
    )


def assert_chain(run: TrainingRun) -> None:
    chain = DisplacementBound().chain(run)
    assert tuple(chain) == LINKS
    slack = 1e-9 + rounding(run)[run.steps] * (1.0 + run.product_bound)
    for low, high in itertools.pairwise(LINKS):
        fine = chain[low] <= chain[high] * UP + slack
        assert (fine | np.isnan(run.displacement)).all(), (low, high)
    path = PathBound().bound(run)[run.steps]
    assert np.allclose(chain["path"], path, equal_nan=True) or np.isnan(run.displacement).any()


DRAWN = {
    "seed": st.integers(0, 10_000),
    "rate": st.sampled_from([1e-6, 0.01, 0.1, 0.5, 1.5, 3.0, 8.0, 40.0]),
    "schedule": st.sampled_from(SCHEDULES),
    "activation": st.sampled_from(NAMES),
    "loss": st.sampled_from(["mse", "huber"]),
    "scale": st.sampled_from(["standard", "zero-bias", "mean-field", "tangent-kernel"]),
}


@settings(derandomize=True, max_examples=60, deadline=None)
@given(**DRAWN)
def test_the_chain_and_the_shares_hold_on_small_runs(**drawn):
    run = small_run(**drawn)
    assert_chain(run)
    for name, share in shares(run).items():
        assert (np.isnan(share) | ((share >= 0.0) & (share <= UP))).all(), name
    # The four blocks make up the whole, for displacements exactly, for paths as an inequality.
    whole = sum(v**2 for v in run.block_displacement.values())
    assert np.allclose(whole, run.displacement**2, equal_nan=True)
    paths = sum(run.block_path[name] ** 2 for name in BLOCKS)
    assert (paths <= run.path**2 * UP + 1e-300).all()


def test_the_chain_holds_at_every_step_of_every_random_run():
    kinds = []
    for batch in batches():
        assert_chain(batch.run)
        kinds += [kind_of(batch.run, i) for i in range(batch.run.ensemble.size)]
        for share in shares(batch.run).values():
            assert (np.isnan(share) | (share <= UP)).all()
    assert len(kinds) == 256


def test_verdicts_on_random_runs_apply_unless_divergent_and_are_never_contradicted():
    theorem, applied = DisplacementBound(), 0
    for i_batch, batch in enumerate(batches()):
        run = batch.run
        g = np.random.default_rng(i_batch)
        points = torch.from_numpy(g.uniform(-3.0, 3.0, (60, run.ensemble.input_dim)))
        steepest = run.ensemble.jacobian(points).flatten(2).norm(dim=2).amax(dim=1)
        for i in range(run.ensemble.size):
            measured = 0.0 if run.diverged[i] else float(steepest[i])
            found = theorem.verdict(run, i, measured), theorem.verdict_on_blocks(run, i)
            for each in found:
                assert each.applies == (not run.diverged[i])
                assert not each.contradicted
            applied += found[0].applies
    assert 0 < applied < 256


def test_a_verdict_of_a_divergent_run_names_the_step_and_has_no_bound():
    run = small_run(1, 40.0, "constant", "relu", "mse")
    assert run.diverged.any()
    i = int(np.flatnonzero(run.diverged)[0])
    found = DisplacementBound().verdict(run, i, math.nan)
    assert (found.bound, found.measured, found.failed.name) == (None, None, "H1")
    assert found.failed_step == run.diverged_at[i]


def test_exact_constants_stay_below_the_bounds_on_the_line():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    tightest = 0.0
    for rate in (0.05, 0.5, 2.0):
        starts = gaussian_ensemble(7, 1, seeds=range(20), activation="relu")
        schedule = make_schedule("constant", rate, n_steps=60)
        run = train(starts, x, torch.sin(3 * x), schedule, 60, on_divergence="record")
        exact = brackets(run.ensemble).upper
        for i in range(20):
            found = DisplacementBound().verdict(run, i, float(exact[i]))
            assert not found.contradicted
            if found.applies:
                tightest = max(tightest, found.measured / found.bound)
    assert 0.3 < tightest <= 1.0


@pytest.mark.parametrize("width", [1, 2, 7, 40])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_bounds_are_attained_at_every_step_by_equal_neurons(width, schedule):
    run = straight_run(width, schedule, 30)
    chain = DisplacementBound().chain(run)
    for step, network in zip(run.steps, run.checkpoints, strict=True):
        exact = brackets(network).lower[0]
        for link in LINKS:
            assert chain[link][step, 0] == pytest.approx(exact, rel=1e-12), (step, link)
    moved = [name for name in BLOCKS if run.block_path[name][-1, 0] > 0.0]
    assert moved == list(BLOCKS)
    for name in moved:
        assert shares(run)[name][-1, 0] == pytest.approx(1.0, rel=1e-9)


def test_a_path_that_turns_is_longer_than_the_displacement():
    # The equality case needs one direction: networks with several samples do turn.
    run = small_run(5, 0.1, "constant", "tanh", "mse")
    assert (shares(run)["all weights"][-1] < 0.9999).all()


@pytest.mark.parametrize("product", [0.1, 1.0, 1.2, 1.5, 1.9, 1.97])
def test_descent_on_a_parabola_has_the_share_that_the_exercise_says(product):
    run = descend_constant(product, 500)
    share = run.displacement[-1, 0] / run.path[-1, 0]
    assert share == pytest.approx(quadratic_share(product), rel=1e-6)


def test_the_share_of_a_parabola_by_algebra():
    q, ab = sympy.symbols("q alpha_beta", positive=True)
    # Step k has length αβ|1 − αβ|^k, with q = |1 − αβ| = αβ − 1 beyond 1.
    k = sympy.symbols("k", integer=True, nonnegative=True)
    length = sympy.summation(ab * sympy.Rational(1, 3) ** k, (k, 0, sympy.oo)).subs(
        ab, sympy.Rational(4, 3)
    )
    assert 1 / length == sympy.nsimplify(quadratic_share(4 / 3))
    assert sympy.simplify((1 - q) / ab - (2 - ab) / ab).subs(q, ab - 1) == 0


def test_at_twice_the_inverse_curvature_the_path_grows_and_the_weight_comes_back():
    run = descend_constant(2.0, 100)
    assert run.displacement[-1, 0] == 0.0 and run.path[-1, 0] == 200.0


@pytest.mark.parametrize("product", [0.0, 2.0, -1.0, math.nan])
def test_no_share_where_descent_stands_still_or_does_not_converge(product):
    with pytest.raises(ValueError, match=r"`product` must lie between 0 and 2"):
        quadratic_share(product)


def test_negative_control_momentum_breaks_the_bound():
    # Heavy ball on c²/2: its steps are not α_t∇R_t, and it outruns Σα_t‖∇R_t‖.
    c, velocity, path, rate = 1.0, 0.0, 0.0, 0.05
    worst = 0.0
    for _ in range(12):
        velocity = 0.9 * velocity - rate * c
        path += rate * abs(c)
        c += velocity
        worst = max(worst, abs(c - 1.0) / path)
    assert worst > 1.5


def test_negative_control_a_path_of_one_block_does_not_bound_the_constant():
    run = straight_run(3, "constant", 30)
    start = run.checkpoints[0]
    only_hidden = (start.hidden_norm()[0] + run.block_path["hidden_weight"][-1, 0]) * (
        start.output_norm()[0]
    )
    assert float(only_hidden) < 0.7 * brackets(run.ensemble).lower[0]


def test_what_rounding_can_do_is_allowed_for_in_single_precision():
    run = small_run(3, 1e-6, "constant", "tanh", "mse", dtype=torch.float32)
    raw = run.block_displacement["hidden_bias"][1:] / run.block_path["hidden_bias"][run.steps][1:]
    assert raw.max() > 1.001  # Rounding alone moves the weights.
    for i in range(3):
        assert not DisplacementBound().verdict_on_blocks(run, i).contradicted


def test_operator_displacements_are_at_most_frobenius_ones_and_match_numpy():
    run = small_run(8, 0.1, "constant", "relu", "mse")
    found = operator_displacement(run, "hidden_weight")
    assert (found <= run.block_displacement["hidden_weight"] * UP).all()
    moved = run.checkpoints[-1].hidden_weight[0] - run.checkpoints[0].hidden_weight[0]
    assert found[-1, 0] == pytest.approx(np.linalg.norm(moved.numpy(), 2))
