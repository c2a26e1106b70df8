"""Perceptrons from lists of layers and from torch modules, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deep_oracles import (
    UPPER,
    net,
)
from torch import nn

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz.deep import (
    deep_bracket,
    deep_product_upper_bound,
    deep_sampled_lower_bound,
    deep_sdp_upper_bound,
    leaky_relu,
    same_activation,
)


def test_a_sequential_is_read_as_its_layers():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 6), nn.Tanh(),
        nn.Sequential(nn.Dropout(), nn.Linear(6, 5, bias=False), nn.Tanh()), nn.Linear(5, 2),
    ).double()  # fmt: skip
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    layers = [(m.weight, m.bias) for m in linear]
    for bound in UPPER:
        assert bound(module) == bound(layers, "tanh")
    module.eval()
    x = torch.randn(3, 4, dtype=torch.float64)
    norms = [
        torch.linalg.matrix_norm(torch.autograd.functional.jacobian(module, row[None])[0, :, 0], 2)
        for row in x
    ]
    found = [deep_sampled_lower_bound(module, row[None].numpy()) for row in x]
    assert found == pytest.approx([float(norm) for norm in norms], rel=1e-9)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.GELU(),
                                   nn.SiLU(), nn.LeakyReLU(0.25)])  # fmt: skip
def test_every_activation_of_torch_is_the_one_meant(layer):
    module = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 4), layer, nn.Linear(4, 1)).double()
    x = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradient = torch.autograd.functional.jacobian(module, x)
    found = deep_sampled_lower_bound(module, x[None].numpy())
    assert found == pytest.approx(float(gradient.norm()), rel=1e-8)


def test_a_last_activation_is_followed_by_the_identity():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    pairs = [(module[0].weight, module[0].bias), (module[2].weight, module[2].bias)]
    assert deep_sdp_upper_bound(module) == deep_sdp_upper_bound([*pairs, (np.eye(2), None)])


def test_leaky_relu_by_any_slope():
    assert leaky_relu(0.0) is ACTIVATIONS["relu"] and leaky_relu(-1.0) is ACTIVATIONS["abs"]
    assert leaky_relu(0.01) is ACTIVATIONS["leaky relu"]
    steep = leaky_relu(2.5)
    assert steep.lipschitz == 2.5 and steep.slope_range == (1.0, 2.5) and steep.name != "relu"
    z = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(steep.value(z), [-5.0, 0.0, 3.0])
    np.testing.assert_array_equal(steep.slope(z), [2.5, 2.5, 1.0])
    t = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    assert torch.equal(leaky_relu(0.1).slope(t), torch.tensor([0.1, 0.1, 1.0], dtype=t.dtype))
    assert torch.equal(steep.value(t), torch.tensor([-5.0, 0.0, 3.0], dtype=t.dtype))
    assert same_activation(leaky_relu(float(np.float32(0.01))), ACTIVATIONS["leaky relu"])
    assert not same_activation(ACTIVATIONS["leaky relu"], ACTIVATIONS["relu"])
    assert not same_activation(ACTIVATIONS["tanh"], ACTIVATIONS["relu"])
    with pytest.raises(ValueError, match="`slope` must be finite"):
        leaky_relu(math.nan)


class Hooked(nn.Sequential):
    """Not a plain Sequential."""


def with_hook() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    module[0].register_forward_hook(lambda *_: None)
    return module


ONES = np.ones((2, 2))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"`layers` must hold at least one affine map\. Got none\."),
        ("abc", r"`layers\[0\]` must be a pair \(weight, bias\)\. Got str"),
        (3.0, r"`layers` must be a list of pairs .* Got float"),
        ([(ONES, None), ONES], r"`layers\[1\]` must be a pair .* Got ndarray"),
        ([(np.ones(3), None)], r"`layers\[0\] weight` must have shape \(out, in\)\. Got \(3,\)"),
        ([(np.ones((0, 2)), None)], r"must have shape \(out, in\)\. Got \(0, 2\)"),
        ([(ONES, np.ones(3))], r"`layers\[0\] bias` must have shape \(2,\).* Got \(3,\)"),
        ([(ONES, None), (np.ones((2, 3)), None)], r"must fit together\. Got 2 outputs .* 3 inputs"),
        ([(ONES * np.nan, None)], r"`layers\[0\] weight` must be finite\. Got nan"),
        ([(ONES * 1e151, None)], r"`layers\[0\] weight` must stay within ±1e\+150"),
        ([(ONES, [1.0, np.inf])], r"`layers\[0\] bias` must be finite\. Got inf"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), r"`module` must hold Linear layers .* Got Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), r"two affine maps in a row"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), r"'relu' before the first affine map"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ReLU()), r"'relu' twice in a row"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh()),
         r"must share one kind of activation\. Got 'relu' and 'tanh'"),
        (nn.Sequential(), r"must hold at least one affine map"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU("tanh")), r"GELU with approximate='tanh'"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softplus(2)), r"Softplus with beta=2"),
        (nn.TransformerEncoderLayer(2, 1), r"must be an nn.Sequential .* Got TransformerEncoder"),
        (Hooked(nn.Linear(2, 2)), r"must be an nn.Sequential .* Got Hooked"),
        (with_hook(), r"must hold plain layers\. Got hooks on Linear"),
    ],
)  # fmt: skip
def test_what_is_no_perceptron_is_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        deep_bracket(layers)


def test_options_that_do_not_fit_are_refused():
    layers = net(0, 2, 3, 3, 1)
    with pytest.raises(ValueError, match="`domain` must have one entry per input, 2"):
        deep_bracket(layers, domain=([0.0] * 3, [1.0] * 3))
    with pytest.raises(ValueError, match="`rel_gap` must lie strictly between 0 and 1"):
        deep_bracket(layers, rel_gap=2.0)
    with pytest.raises(ValueError, match="`activation` must be one of"):
        deep_bracket(layers, "sine")
    with pytest.raises(ValueError, match="`points` must have shape"):
        deep_sampled_lower_bound(layers, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`points` must lie in the domain"):
        deep_sampled_lower_bound(layers, [[3.0, 0.0]], domain=(-1.0, 1.0))
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    assert deep_product_upper_bound(module, "relu") == deep_product_upper_bound(module)
    with pytest.raises(ValueError, match="`activation` must be the module's own, 'relu'"):
        deep_product_upper_bound(module, "tanh")
    assert deep_product_upper_bound(nn.Sequential(nn.Linear(2, 2)), "tanh") > 0.0
