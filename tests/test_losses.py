"""Losses against PyTorch's own, and the bound λ(R) on the mean derivative."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.losses import Huber, MeanSquaredError, get_loss


def residuals(n=40, k=3, seed=0, scale=2.0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(scale * generator.standard_normal((n, k)))


def test_mse_is_half_of_pytorchs_and_huber_is_pytorchs():
    r = residuals(k=1)
    zero = torch.zeros_like(r)
    assert get_loss("mse").risk(r).item() == pytest.approx(0.5 * torch.nn.MSELoss()(r, zero).item())
    for delta in (0.3, 1.0, 5.0):
        ours = get_loss("huber", delta).risk(r).item()
        assert ours == pytest.approx(torch.nn.HuberLoss(delta=delta)(r, zero).item())


def test_several_outputs_are_summed_and_samples_averaged():
    r = residuals(n=7, k=3)
    assert MeanSquaredError().risk(r).item() == pytest.approx(0.5 * (r**2).sum().item() / 7)


@pytest.mark.parametrize("loss", [MeanSquaredError(), Huber(0.7)])
def test_derivative_agrees_with_autograd(loss):
    r = residuals().requires_grad_()
    loss.value(r).sum().backward()
    torch.testing.assert_close(loss.derivative(r.detach()), r.grad)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.01, 50.0), st.floats(0.05, 5.0))
def test_mean_derivative_bound_holds_for_both_losses(seed, k, scale, delta):
    r = residuals(n=9, k=k, seed=seed, scale=scale)
    for loss in (MeanSquaredError(), Huber(delta)):
        mean = loss.derivative(r).norm(dim=1).mean().item()
        assert mean <= loss.mean_derivative_bound(loss.risk(r).item(), k) * (1 + 1e-12)


def test_mean_derivative_bound_is_attained_and_needs_its_factor():
    equal = torch.full((5, 1), 0.8, dtype=torch.float64)
    for loss in (MeanSquaredError(), Huber(1.0), Huber(0.3)):
        bound = loss.mean_derivative_bound(loss.risk(equal).item())
        mean = loss.derivative(equal).abs().mean().item()
        assert mean == pytest.approx(bound)
        # Negative control: √R without the 2, or δ less a tenth, would be no bound.
        assert mean > math.sqrt(loss.risk(equal).item()) or mean > 0.9 * loss.delta


def test_misuse_is_refused():
    with pytest.raises(ValueError, match=r"`loss` must be 'mse' or 'huber'. Got 'mae'"):
        get_loss("mae")
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"`delta` must be a positive number"):
            Huber(bad)
    assert get_loss(Huber(2.0)).delta == 2.0
