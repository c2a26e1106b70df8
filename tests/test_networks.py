"""Ensembles: shapes, forward pass and Jacobian against torch, initial scales, seeds."""

import math

import numpy as np
import pytest
import torch

from lipbook.activations import ACTIVATIONS
from lipbook.networks import (
    BLOCKS,
    INITIAL_SCALES,
    Ensemble,
    gaussian_ensemble,
)
from lipbook.rescaling import balancing_factors, rescaled


def as_module(ensemble, index):
    """Return network `index` as PyTorch's own layers: an independent implementation."""
    outer = torch.nn.Linear(ensemble.width, ensemble.output_dim, dtype=torch.float64)
    inner = torch.nn.Linear(ensemble.input_dim, ensemble.width, dtype=torch.float64)
    with torch.no_grad():
        inner.weight.copy_(ensemble.hidden_weight[index])
        inner.bias.copy_(ensemble.hidden_bias[index])
        outer.weight.copy_(ensemble.output_weight[index])
        outer.bias.copy_(ensemble.output_bias[index])
    return lambda x: outer(ensemble.activation.value(inner(x)))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("d", "k"), [(1, 1), (3, 1), (2, 4)])
def test_forward_and_jacobian_agree_with_torch(name, d, k):
    ensemble = gaussian_ensemble(7, d, k, seeds=(3, 4), activation=name)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, d)))
    outputs, jacobians = ensemble(x), ensemble.jacobian(x)
    assert outputs.shape == (2, 5, k) and jacobians.shape == (2, 5, k, d)
    for index in range(2):
        module = as_module(ensemble, index)
        torch.testing.assert_close(outputs[index], module(x).detach())
        for row in range(5):
            expected = torch.autograd.functional.jacobian(module, x[row])
            torch.testing.assert_close(jacobians[index, row], expected)


def test_norms_agree_with_numpy():
    ensemble = gaussian_ensemble(6, 3, 2, seeds=(0, 1, 2))
    for index in range(3):
        hidden, output = (
            ensemble.hidden_weight[index].numpy(),
            ensemble.output_weight[index].numpy(),
        )
        assert ensemble.hidden_norm()[index].item() == pytest.approx(np.linalg.norm(hidden, 2))
        assert ensemble.output_norm()[index].item() == pytest.approx(np.linalg.norm(output, 2))
        flat = np.concatenate([block[index].numpy().ravel() for block in ensemble.blocks()])
        assert ensemble.parameter_norm()[index].item() == pytest.approx(np.linalg.norm(flat))
        assert len(flat) == ensemble.n_parameters


def test_a_network_depends_on_its_own_seed_alone():
    together = gaussian_ensemble(5, 2, seeds=(7, 8, 9))
    alone = gaussian_ensemble(5, 2, seeds=(8,))
    for name in BLOCKS:
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0])
        assert torch.equal(getattr(together.select([1]), name), getattr(alone, name))


def test_no_global_generator_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    gaussian_ensemble(5, 2, seeds=(7,))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("scale", sorted(INITIAL_SCALES))
def test_initial_scales_have_the_stated_deviations(scale):
    m, d = 256, 4
    ensemble = gaussian_ensemble(m, d, seeds=range(20), scale=scale)
    stated = {
        "standard": (1 / math.sqrt(d), 1.0, 1 / math.sqrt(m)),
        "zero-bias": (1 / math.sqrt(d), 0.0, 1 / math.sqrt(m)),
        "mean-field": (1 / math.sqrt(d), 1.0, 1 / m),
        "tangent-kernel": (m**-0.25 / math.sqrt(d), m**-0.25, m**-0.25),
    }[scale]
    for block, deviation in zip(BLOCKS, (*stated, 0.0), strict=False):
        assert getattr(ensemble, block).std().item() == pytest.approx(deviation, rel=0.05)
    assert not ensemble.output_bias.any()


def test_tangent_kernel_scale_is_the_tangent_kernel_parametrisation_for_relu():
    m, rate = 64, 0.1
    ensemble = gaussian_ensemble(m, 2, scale="tangent-kernel", seeds=(1,))
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((9, 2)))
    y = torch.sin(x[:, :1])
    # f = (1/√m)·Σ ã σ(⟨w̃, x⟩ + b̃), one step of rate η on the tilde parameters, by autograd.
    tilde = [b[0] * m**0.25 for b in ensemble.blocks()][:3]
    tilde = [b.clone().requires_grad_() for b in tilde]
    w, b, a = tilde
    (0.5 * ((torch.relu(x @ w.T + b) @ a.T / math.sqrt(m) - y) ** 2).mean()).backward()
    stepped = [p.detach() - rate * p.grad for p in tilde]
    ours = [b[0].clone().requires_grad_() for b in ensemble.blocks()][:3]
    w, b, a = ours
    (0.5 * ((torch.relu(x @ w.T + b) @ a.T - y) ** 2).mean()).backward()
    for mine, theirs in zip(ours, stepped, strict=True):
        moved = mine.detach() - rate / math.sqrt(m) * mine.grad
        torch.testing.assert_close(moved * m**0.25, theirs)


def test_dtype_and_clone():
    ensemble = gaussian_ensemble(4, 1).to(dtype=torch.float32)
    assert ensemble(torch.zeros(2, 1)).dtype == torch.float32
    copy = ensemble.clone()
    copy.hidden_bias.zero_()
    assert ensemble.hidden_bias.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, r"`width` must be at least 1. Got 0"),
        ({"input_dim": 0}, r"`input_dim` must be at least 1. Got 0"),
        ({"seeds": ()}, r"`seeds` must name at least one seed"),
        ({"scale": "huge"}, r"`scale` must be one of standard, .* Got 'huge'"),
        ({"activation": "swish"}, r"`activation` must be one of"),
    ],
)
def test_misuse_of_the_start_is_refused(changes, message):
    arguments = {"width": 3, "input_dim": 2} | changes
    with pytest.raises(ValueError, match=message):
        gaussian_ensemble(arguments.pop("width"), arguments.pop("input_dim"), **arguments)


def test_blocks_that_do_not_fit_are_refused():
    good = gaussian_ensemble(3, 2)
    blocks = dict(zip(BLOCKS, good.blocks(), strict=True))
    relu = good.activation
    with pytest.raises(ValueError, match=r"must have the axes \(K, m, d\) and \(K, k, m\)"):
        Ensemble(**{**blocks, "hidden_weight": blocks["hidden_weight"][0]}, activation=relu)
    with pytest.raises(ValueError, match=r"`hidden_bias` must have shape \(1, 3\)"):
        Ensemble(**{**blocks, "hidden_bias": torch.zeros(1, 4)}, activation=relu)
    with pytest.raises(ValueError, match="must share one dtype and device"):
        Ensemble(**{**blocks, "hidden_bias": torch.zeros(1, 3)}, activation=relu)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_rescaling_leaves_the_function_alone_exactly_for_homogeneous_activations(name):
    ensemble = gaussian_ensemble(6, 2, 3, seeds=(0, 1), activation=name)
    factors = torch.from_numpy(np.random.default_rng(0).uniform(0.3, 3.0, (2, 6)))
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((9, 2)))
    same = torch.allclose(rescaled(ensemble, factors)(x), ensemble(x), rtol=1e-12, atol=1e-12)
    assert same == ensemble.activation.is_homogeneous


def test_balancing_turns_the_product_bound_into_the_path_norm_and_nothing_does_better():
    ensemble = gaussian_ensemble(8, 1, seeds=(0, 1, 2))
    ensemble.hidden_weight[0, 3] = 0.0
    path = (ensemble.hidden_weight[:, :, 0] * ensemble.output_weight[:, 0]).abs().sum(1)
    balanced = rescaled(ensemble, balancing_factors(ensemble))
    product = balanced.hidden_norm() * balanced.output_norm()
    # A dead neuron keeps its output weight: the infimum is then not attained.
    torch.testing.assert_close(product[1:], path[1:])
    assert (product >= path - 1e-12).all()
    generator = np.random.default_rng(3)
    for _ in range(200):
        factors = torch.from_numpy(generator.lognormal(0.0, 0.7, (3, 8)))
        other = rescaled(ensemble, factors)
        assert (other.hidden_norm() * other.output_norm() >= path - 1e-12).all()


def test_bad_factors_are_refused():
    with pytest.raises(ValueError, match=r"`factors` must be positive numbers of shape \(1, 4\)"):
        rescaled(gaussian_ensemble(4, 1), torch.zeros(1, 4))


def test_an_empty_selection_is_an_empty_ensemble():
    nobody = gaussian_ensemble(4, 1, seeds=(0, 1)).select([])
    assert nobody.size == 0 and nobody(torch.zeros(3, 1, dtype=torch.float64)).shape == (0, 3, 1)
