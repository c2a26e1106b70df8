"""Perceptrons of any depth: shapes, gradients against autograd, the loop, and L = 2 as it was."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from deep_runs import DEPTHS, N_STEPS, NAMES, batches, each_run
from random_runs import KINDS, kind_of

from lipbook.activations import ACTIVATIONS
from lipbook.caps.normalised import NormalisedRate
from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import deep_risk_and_gradient, deep_train
from lipbook.gradients import risk_and_gradient
from lipbook.losses import Huber, get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import ExponentialRate, make_schedule
from lipbook.training import DivergenceError, train

ALIKE = {"rtol": 1e-12, "atol": 1e-12}


def drawn(depth, seed=0, activation="tanh", size=2, k=1):
    """Networks with one to four neurons a layer, and data: n = 7, d = 2."""
    g = np.random.default_rng([seed, depth])
    widths = (2, *(int(m) for m in g.integers(1, 5, depth - 1)), k)
    seeds = range(seed * 10, seed * 10 + size)
    networks = gaussian_deep_ensemble(widths, seeds=seeds, activation=activation)
    # Last biases that are not 0, so that a sign or a factor in their gradients is seen.
    last = torch.from_numpy(g.normal(size=(size, k)))
    networks = replace(networks, biases=(*networks.biases[:-1], last))
    x = torch.from_numpy(g.normal(size=(7, 2)))
    return networks, x, torch.from_numpy(g.normal(size=(7, k)) * 2.0)


def as_module(networks, index):
    """PyTorch's own layers with the weights of one network: an independent implementation."""
    layers = []
    for weight, bias in networks.layers(index):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        layers.append(linear)
    return layers


def forward(layers, activation, x):
    """The output, and the least distance of a preactivation to 0."""
    nearest = math.inf
    for layer in layers[:-1]:
        x = layer(x)
        nearest = min(nearest, float(x.detach().abs().min()))
        x = activation.value(x)
    return layers[-1](x), nearest


def two_layers(ensemble):
    """The same networks as perceptrons of depth 2, sharing nothing."""
    w, b, a, c = (block.clone() for block in ensemble.blocks())
    return DeepEnsemble((w, a), (b, c), ensemble.activation)


# The networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("loss", [get_loss("mse"), Huber(0.4)])
def test_outputs_and_gradients_agree_with_autograd(depth, name, loss):
    networks, x, y = drawn(depth, seed=NAMES.index(name), activation=name, k=2)
    risk, gradient = deep_risk_and_gradient(networks, x, y, loss)
    outputs = networks(x)
    assert outputs.shape == (2, 7, 2) and risk.shape == (2,)
    for index in range(networks.size):
        module = as_module(networks, index)
        output, nearest = forward(module, networks.activation, x)
        assert nearest > 1e-6, "draw other networks: this one sits on a kink"
        torch.testing.assert_close(outputs[index], output.detach(), **ALIKE)
        expected = loss.risk(output - y)
        assert float(risk[index]) == pytest.approx(expected.item(), rel=1e-12, abs=0.0)
        expected.backward()
        for layer, linear in enumerate(module, 1):
            for kind, grad in (("weight", linear.weight.grad), ("bias", linear.bias.grad)):
                torch.testing.assert_close(gradient[f"{kind} {layer}"][index], grad, **ALIKE)


def test_shapes_names_and_blocks_belong_together():
    networks = gaussian_deep_ensemble((3, 5, 4, 2), seeds=range(6), activation="gelu")
    assert (networks.size, networks.depth, networks.widths) == (6, 3, (3, 5, 4, 2))
    assert (networks.input_dim, networks.output_dim) == (3, 2)
    expected = ("weight 1", "bias 1", "weight 2", "bias 2", "weight 3", "bias 3")
    shapes = [(6, 5, 3), (6, 5), (6, 4, 5), (6, 4), (6, 2, 4), (6, 2)]
    assert networks.names == expected
    assert [tuple(block.shape) for block in networks.blocks()] == shapes
    assert networks.n_parameters == 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2
    x, y = torch.ones(2, 3).double(), torch.zeros(2, 2).double()
    _, gradient = deep_risk_and_gradient(networks, x, y, get_loss("mse"))
    # In any order, but each under its own name.
    assert {n: tuple(g.shape) for n, g in gradient.items()} == dict(
        zip(expected, shapes, strict=True)
    )
    flat = np.concatenate([block[4].numpy().ravel() for block in networks.blocks()])
    assert float(networks.parameter_norm()[4]) == pytest.approx(np.linalg.norm(flat))
    norms = [np.linalg.norm(weight, 2) for weight, _ in networks.layers(4)]
    assert networks.weight_norms()[:, 4].tolist() == pytest.approx(norms)


def test_a_clone_and_a_run_leave_the_networks_alone():
    networks, x, y = drawn(4)
    before = [block.clone() for block in networks.blocks()]
    copy = networks.clone()
    for block in copy.blocks():
        block.zero_()
    run = deep_train(networks, x, y, make_schedule("constant", 0.1, n_steps=3), 3, steps=range(4))
    for block in (*run.ensemble.blocks(), *run.checkpoints[0].blocks()):
        block.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, networks.blocks(), strict=True))
    assert any(bool(block.any()) for block in run.checkpoints[1].blocks())


def test_a_network_depends_on_its_own_seed_and_starts_as_said():
    together = gaussian_deep_ensemble((4, 300, 200, 1), seeds=(7, 8, 9), bias_scale=0.5)
    alone = gaussian_deep_ensemble((4, 300, 200, 1), seeds=(8,), bias_scale=0.5)
    for many, one in zip(together.blocks(), alone.blocks(), strict=True):
        assert torch.equal(many[1], one[0])
    assert not torch.equal(together.weights[0][0], together.weights[0][1])
    deviations = [float(block.std()) for block in together.blocks()][:5]
    expected = [0.5, 0.5, 300**-0.5, 0.5, 200**-0.5]
    assert deviations == pytest.approx(expected, rel=0.1)
    assert not together.biases[-1].any()
    single = gaussian_deep_ensemble((2, 3, 1), dtype=torch.float32)
    assert {block.dtype for block in single.blocks()} == {torch.float32}


W, B = torch.zeros(2, 3, 1), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ((), (), r"`weights` and `biases` must be as many, .* Got 0 and 0\. Use zeros"),
        ((W,), (B, B), r"as many, at least one of each\. Got 1 and 2"),
        ((W, W), (B, B), r"layer 2 of .* shapes \(2, 3, 3\) and \(2, 3\)\. Got \(2, 3, 1\)"),
        ((W,), (B[:1],), r"layer 1 of .* must have shapes \(2, 3, 1\) .* and \(1, 3\)\. Give"),
        ((W, W[:1, :1, :].expand(1, 1, 3)), (B, B[:1, :1]), r"layer 2 .* \(2, 1, 3\) .* Got \(1,"),
        ((W[0],), (B[0],), r"layer 1 of .* must have shapes \(3, 3, 1\)"),
        ((W,), (B.double(),), r"`weights` and `biases` must share one dtype and device\. Got \{"),
    ],
)
def test_layers_that_do_not_follow_on_each_other_are_refused(weights, biases, message):
    with pytest.raises(ValueError, match=message):
        DeepEnsemble(weights, biases, ACTIVATIONS["relu"])


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ((3,), {}, r"`widths` must be inputs, .* Got \(3,\)\. Use \(1, 32, 32, 1\)"),
        ((3, 0, 1), {}, r"`widths` must be .* each at least 1\. Got \(3, 0, 1\)"),
        ((3, 1), {"bias_scale": -1.0}, r"`bias_scale` must be at least 0\. Got -1\.0\. Use 1\.0"),
        ((3, 1), {"seeds": ()}, r"`seeds` must name at least one seed\. Got none"),
        ((3, 1), {"activation": "step"}, r"`activation` must be one of .* Got 'step'"),
    ],
)
def test_odd_networks_are_refused(widths, options, message):
    with pytest.raises(ValueError, match=message):
        gaussian_deep_ensemble(widths, **options)


# Two layers ----------------------------------------------------------------------------------


SHAPES = [(2, 3, 1), (3, 7, 2), (5, 6, 1)]


@pytest.mark.parametrize(("d", "m", "k"), [(1, 4, 1), *SHAPES])
def test_two_layers_are_drawn_as_the_two_layer_networks_are(d, m, k):
    deep = gaussian_deep_ensemble((d, m, k), seeds=range(20), activation="silu")
    flat = gaussian_ensemble(m, d, k, seeds=range(20), activation="silu")
    for one, other in zip(deep.blocks(), flat.blocks(), strict=True):
        torch.testing.assert_close(one, other, rtol=2.0**-52, atol=0.0)
    assert deep.activation is flat.activation


@pytest.mark.parametrize(("d", "m", "k"), SHAPES)
def test_two_layers_are_drawn_bit_for_bit(d, m, k):
    deep = gaussian_deep_ensemble((d, m, k), seeds=range(20))
    flat = gaussian_ensemble(m, d, k, seeds=range(20))
    for one, other in zip(deep.blocks(), flat.blocks(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_two_layers_train_as_the_two_layer_networks_do(name, loss):
    g = np.random.default_rng(3)
    flat = gaussian_ensemble(6, 2, seeds=range(3), activation=name)
    x, y = torch.from_numpy(g.normal(size=(9, 2))), torch.from_numpy(g.normal(size=9))
    plans = [make_schedule(n, 0.1, n_steps=30) for n in ("constant", "power", "eventual")]
    options = {"loss": loss, "huber_delta": 0.6, "steps": [0, 7, 30]}
    one = deep_train(two_layers(flat), x, y, plans, 30, **options)
    other = train(flat, x, y, plans, 30, **options)
    phi = get_loss(loss, 0.6)
    deep = deep_risk_and_gradient(two_layers(flat), x, y[:, None], phi)
    plain = risk_and_gradient(flat, x, y[:, None], phi)
    torch.testing.assert_close(deep[0], plain[0], **ALIKE)
    pairs = list(zip(one.ensemble.names, flat.names, strict=True))
    for ours, theirs in pairs:
        torch.testing.assert_close(deep[1][ours], plain[1][theirs], **ALIKE)
        np.testing.assert_allclose(one.block_path[ours], other.block_path[theirs], **ALIKE)
    for field in ("learning_rates", "risk", "gradient_norm", "mass", "path", "displacement"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), **ALIKE)
    for ours, theirs in zip(one.checkpoints, other.checkpoints, strict=True):
        for block, wanted in zip(ours.blocks(), theirs.blocks(), strict=True):
            torch.testing.assert_close(block, wanted, **ALIKE)


# The loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_loop_is_plain_gradient_descent_and_keeps_what_it_was_asked_for(depth):
    networks, x, y = drawn(depth, activation="softplus")
    run = deep_train(networks, x, y, make_schedule("power", 0.2, n_steps=12), 12, steps=[3, 8])
    assert run.steps.tolist() == [0, 3, 8, 12] and len(run.checkpoints) == 4
    moving, rates = networks.clone(), make_schedule("power", 0.2, n_steps=12).rates(12)
    for step in range(13):
        risk, gradient = deep_risk_and_gradient(moving, x, y, get_loss("mse"))
        np.testing.assert_allclose(run.risk[step], risk.numpy(), rtol=1e-12)
        if step in run.steps:
            kept = run.checkpoints[run.recorded(step)]
            for one, other in zip(kept.blocks(), moving.blocks(), strict=True):
                torch.testing.assert_close(one, other, **ALIKE)
        if step < 12:
            for name, block in zip(moving.names, moving.blocks(), strict=True):
                block.sub_(rates[step] * gradient[name])
    with pytest.raises(ValueError, match=r"`start` must be a recorded step .* Got 4\. Train with"):
        run.recorded(4)
    assert (run.displacement <= run.path[run.steps] * (1 + 1e-12)).all()


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_diverging_network_is_recorded_or_raised_and_the_others_go_on(depth):
    networks, x, y = drawn(depth, activation="relu", size=2)
    plans = [make_schedule("constant", rate, n_steps=200) for rate in (40.0, 0.01)]
    run = deep_train(networks, x, y, plans, 200, on_divergence="record", steps=range(201))
    stopped = int(run.diverged_at[0])
    assert 0 < stopped < 200 and run.diverged.tolist() == [True, False]
    assert np.isfinite(run.risk[:stopped, 0]).all() and np.isnan(run.risk[stopped:, 0]).all()
    assert not run.learning_rates[stopped:, 0].any() and np.isfinite(run.risk[:, 1]).all()
    for early, late in zip(run.checkpoints[stopped].blocks(), run.ensemble.blocks(), strict=True):
        assert torch.equal(early[0], late[0])
    with pytest.raises(DivergenceError, match=rf"network 0 diverged at step {stopped}\. Try 10,"):
        deep_train(networks, x, y, plans, 200)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("start", [0, 5])
def test_a_cap_is_obeyed_at_every_depth(depth, start):
    networks, x, y = drawn(depth, seed=1, activation="leaky relu")
    plan, cap = make_schedule("constant", 0.3, n_steps=25), None
    free = deep_train(networks, x, y, plan, 25, on_divergence="record")
    cap = NormalisedRate(0.2, ExponentialRate(4.0), start)
    run = deep_train(networks, x, y, plan, 25, cap=cap)
    lengths = run.learning_rates * run.gradient_norm[:-1]
    allowed = 0.2 * np.exp(-np.arange(25 - start) / 4.0)[:, None]
    assert (lengths[start:] <= allowed * (1 + 1e-12)).all()
    assert (run.learning_rates[:start] == 0.3).all() and (run.learning_rates <= 0.3).all()
    assert (run.learning_rates[start:] < 0.3).any()
    # Control: without the cap some step is longer.
    with np.errstate(invalid="ignore"):
        steps = free.learning_rates * free.gradient_norm[:-1]
    assert (np.nan_to_num(steps[start:], nan=np.inf) > allowed).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(7).double()}, r"`x` must have shape \(n, 2\) with n ≥ 1\. Got \(7,\)"),
        ({"y": torch.zeros(6, 1).double()}, r"`y` must have shape \(7, 1\), or \(7,\) .*\(6, 1\)"),
        ({"y": torch.full((7, 1), torch.nan).double()}, r"`y` must be finite\. Got NaN"),
        ({"n_steps": 0}, r"`n_steps` must be at least 1\. Got 0"),
        ({"steps": [3, 99]}, r"`steps` must lie between 0 and n_steps=5\. Got 99"),
        ({"loss": "hinge"}, r"`loss` must be 'mse' or 'huber'\. Got 'hinge'"),
        ({"on_divergence": "ignore"}, r"`on_divergence` must be 'raise' or 'record'"),
        ({"schedules": []}, r"`schedules` must be one schedule or one per network, 2 of them"),
        ({"cap": lambda state: state.risk * 0.0 - 1.0}, r"`cap` must return rates .* Got -1 at"),
    ],
)
def test_odd_arguments_are_refused(changes, message):
    networks, x, y = drawn(3)
    arguments = {
        "x": x, "y": y, "schedules": make_schedule("constant", 0.1, n_steps=5), "n_steps": 5,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        deep_train(networks, **{**arguments, **changes})


# The random runs -----------------------------------------------------------------------------


def test_the_random_runs_hold_enough_of_each_kind():
    found = Counter(kind_of(b.run, i) for b, i in each_run())
    assert sum(found.values()) == 160
    assert all(found[kind] >= 0.2 * sum(found.values()) for kind in KINDS), found
    met = {(b.setting.depth, b.setting.activation.name) for b in batches()}
    assert len(met) == len(DEPTHS) * len(NAMES)
    losses = {(b.setting.depth, b.setting.loss.name) for b in batches()}
    assert len(losses) == 2 * len(DEPTHS)
    assert len({s.name for b in batches() for s in b.run.schedules}) == 5
    rates = [s.learning_rate for b in batches() for s in b.run.schedules]
    assert max(rates) / min(rates) > 5e3
    assert {len(b.run.checkpoints) for b in batches()} == {N_STEPS + 1}
    widths = {m for b in batches() for m in b.setting.hidden_widths}
    assert widths == set(range(1, 9))
    assert {b.x.shape[1] for b in batches()} == {1, 2, 3}
    assert {len(b.x) for b in batches()} >= {1, 2, 9, 10}
