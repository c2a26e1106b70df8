"""Gradient descent: closed-form gradients, a plain autograd loop as oracle, what is recorded."""

import numpy as np
import pytest
import torch

from lipbook.activations import ACTIVATIONS
from lipbook.gradients import risk_and_gradient
from lipbook.losses import Huber, MeanSquaredError, get_loss
from lipbook.networks import BLOCKS, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.training import DivergenceError, log_steps, train


def problem(n=12, d=2, k=1, seed=0):
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.standard_normal((n, d)))
    return x, torch.sin(2 * x[:, :1]).repeat(1, k) + torch.arange(k, dtype=torch.float64)


def autograd_gradient(ensemble, x, y, loss):
    leaves = {name: getattr(ensemble, name).clone().requires_grad_() for name in BLOCKS}
    hidden = ensemble.activation.value(
        torch.einsum("nd,emd->enm", x, leaves["hidden_weight"]) + leaves["hidden_bias"][:, None]
    )
    output = torch.einsum("enm,ekm->enk", hidden, leaves["output_weight"])
    residual = output + leaves["output_bias"][:, None] - y
    risk = loss.value(residual).sum(2).mean(1)
    risk.sum().backward()
    return risk.detach(), {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("loss", [MeanSquaredError(), Huber(0.4)])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 1), (3, 4)])
def test_closed_form_gradient_agrees_with_autograd(loss, name, d, k):
    x, y = problem(d=d, k=k)
    ensemble = gaussian_ensemble(6, d, k, seeds=(0, 1, 2), activation=name)
    risk, gradient = risk_and_gradient(ensemble, x, y, loss)
    expected_risk, expected = autograd_gradient(ensemble, x, y, loss)
    torch.testing.assert_close(risk, expected_risk)
    for block in BLOCKS:
        torch.testing.assert_close(gradient[block], expected[block])


def test_the_loop_is_plain_gradient_descent_and_records_it():
    x, y = problem()
    names = ["constant", "exponential", "eventual"]
    schedules = [make_schedule(name, 0.05, n_steps=30) for name in names]
    start = gaussian_ensemble(5, 2, seeds=(0, 1, 2), activation="tanh")
    run = train(start, x, y, schedules, 30, loss="huber", huber_delta=0.5, steps=[0, 7, 30])
    moving, risks, path = start.clone(), [], np.zeros((31, 3))
    for step in range(31):
        risk, gradient = autograd_gradient(moving, x, y, Huber(0.5))
        risks.append(risk.numpy())
        norm = torch.cat([gradient[n].flatten(1) for n in BLOCKS], dim=1).norm(dim=1).numpy()
        np.testing.assert_allclose(run.gradient_norm[step], norm, rtol=1e-10)
        if step == 7:
            for block in BLOCKS:
                kept = getattr(run.checkpoints[1], block)
                torch.testing.assert_close(kept, getattr(moving, block))
        if step < 30:
            rates = np.array([s.rates(30)[step] for s in schedules])
            path[step + 1] = path[step] + rates * norm
            for block in BLOCKS:
                shaped = torch.from_numpy(rates).view(-1, *[1] * (gradient[block].ndim - 1))
                getattr(moving, block).sub_(shaped * gradient[block])
    np.testing.assert_allclose(run.risk, np.array(risks), rtol=1e-10)
    np.testing.assert_allclose(run.path, path, rtol=1e-10)
    rates = np.stack([s.rates(30) for s in schedules], axis=1)
    np.testing.assert_allclose(run.mass[-1], rates.sum(0), rtol=1e-12)
    for block in BLOCKS:
        torch.testing.assert_close(getattr(run.ensemble, block), getattr(moving, block))


def test_displacement_path_and_product_bound_are_consistent():
    x, y = problem()
    start = gaussian_ensemble(5, 2, seeds=(0, 1), activation="relu")
    run = train(start, x, y, make_schedule("constant", 0.1, n_steps=50), 50)
    assert run.steps[0] == 0 and run.steps[-1] == 50 and (run.displacement[0] == 0).all()
    assert (run.displacement <= run.path[run.steps] + 1e-12).all()
    squares = sum(v**2 for v in run.block_displacement.values())
    np.testing.assert_allclose(run.displacement**2, squares)
    for block in BLOCKS:
        recorded = run.block_path[block][run.steps]
        assert (run.block_displacement[block] <= recorded + 1e-12).all()
    last = run.checkpoints[-1]
    expected = np.linalg.norm(last.hidden_weight[0], 2) * np.linalg.norm(last.output_weight[0], 2)
    assert run.product_bound[-1, 0] == pytest.approx(expected)


def test_training_leaves_the_start_alone_and_repeats_bit_for_bit():
    x, y = problem()
    start = gaussian_ensemble(4, 2, seeds=(5,))
    before = start.clone()
    runs = [train(start, x, y, make_schedule("cosine", 0.1, n_steps=20), 20) for _ in range(2)]
    assert (runs[0].risk == runs[1].risk).all()
    assert all(torch.equal(getattr(before, n), getattr(start, n)) for n in BLOCKS)


def test_a_network_trains_alike_alone_and_among_others():
    x, y = problem()
    together = gaussian_ensemble(6, 2, seeds=(1, 2, 3), activation="gelu")
    schedule = make_schedule("constant", 0.05, n_steps=40)
    many = train(together, x, y, schedule, 40)
    alone = train(together.select([2]), x, y, schedule, 40)
    np.testing.assert_allclose(many.risk[:, 2], alone.risk[:, 0], rtol=1e-12)


def test_one_diverging_network_stops_and_the_others_go_on():
    x, y = problem()
    start = gaussian_ensemble(6, 2, seeds=(1, 1))
    schedules = [make_schedule("constant", rate, n_steps=60) for rate in (50.0, 0.05)]
    run = train(start, x, y, schedules, 60, on_divergence="record")
    stopped = run.diverged_at[0]
    assert 0 < stopped < 60 and run.diverged_at[1] == -1
    assert run.diverged.tolist() == [True, False]
    assert np.isfinite(run.risk[:stopped, 0]).all() and np.isnan(run.risk[stopped:, 0]).all()
    assert (run.learning_rates[stopped:, 0] == 0).all()
    assert np.isnan(run.product_bound[-1, 0]) and np.isfinite(run.product_bound[-1, 1])
    alone = train(start.select([1]), x, y, schedules[1], 60)
    np.testing.assert_allclose(run.risk[:, 1], alone.risk[:, 0], rtol=1e-12)


def test_divergence_names_step_rate_and_a_smaller_one():
    x, y = problem()
    schedule = make_schedule("constant", 50.0, n_steps=60)
    with pytest.raises(DivergenceError, match=r"Got 50: network 0 diverged at step \d+. Try 12.5"):
        train(gaussian_ensemble(6, 2), x, y, schedule, 60)


def test_log_steps_include_both_ends():
    for n_steps in (1, 2, 10, 12345):
        steps = log_steps(n_steps, 40)
        assert steps[0] == 0 and steps[-1] == n_steps and (np.diff(steps) > 0).all()
        assert len(steps) <= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(12, dtype=torch.float64)}, r"`x` must have shape \(n, 2\)"),
        ({"y": torch.zeros(11, 1, dtype=torch.float64)}, r"`y` must have shape \(12, 1\)"),
        ({"y": torch.full((12, 1), torch.nan, dtype=torch.float64)}, r"`y` must be finite"),
        ({"n_steps": 0}, r"`n_steps` must be at least 1. Got 0"),
        ({"on_divergence": "ignore"}, r"`on_divergence` must be 'raise' or 'record'"),
        ({"steps": [3, 99]}, r"`steps` must lie between 0 and n_steps=5. Got 99"),
        (
            {"schedules": [make_schedule("constant", 0.1, n_steps=5)] * 3},
            r"`schedules` must be one",
        ),
        ({"loss": "mae"}, r"`loss` must be 'mse' or 'huber'"),
    ],
)
def test_misuse_is_refused(changes, message):
    x, y = problem()
    arguments = {
        "x": x,
        "y": y,
        "schedules": make_schedule("constant", 0.1, n_steps=5),
        "n_steps": 5,
    } | changes
    with pytest.raises(ValueError, match=message):
        train(gaussian_ensemble(4, 2), **arguments)


def test_progress_is_shown_on_request_only(capsys):
    x, y = problem()
    schedule = make_schedule("constant", 0.1, n_steps=5)
    train(gaussian_ensemble(4, 2), x, y, schedule, 5)
    assert capsys.readouterr().err == ""
    train(gaussian_ensemble(4, 2), x, y, schedule, 5, progress=True)
    assert "training" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_agrees_with_the_cpu():
    x, y = problem()
    start = gaussian_ensemble(6, 2, seeds=(1, 2), activation="tanh")
    schedule = make_schedule("constant", 0.05, n_steps=40)
    cpu = train(start, x, y, schedule, 40)
    gpu = train(start.to(device="cuda"), x.cuda(), y.cuda(), schedule, 40)
    np.testing.assert_allclose(cpu.risk, gpu.risk, rtol=1e-9)


# Rate caps -----------------------------------------------------------------------------------


def capped_problem():
    x, y = problem()
    return x, y, gaussian_ensemble(5, 2, seeds=(0, 1), activation="tanh")


def test_a_cap_lowers_the_rates_and_never_raises_them():
    x, y, ensemble = capped_problem()
    schedule = make_schedule("constant", 0.2, n_steps=30)
    seen = []

    def cap(state):
        seen.append((state.step, state.mass.clone(), state.risk.clone()))
        return 0.1 / state.gradient_norm

    free = train(ensemble, x, y, schedule, 30)
    capped = train(ensemble, x, y, schedule, 30, cap=cap)
    expected = np.minimum(0.2, 0.1 / capped.gradient_norm[:-1])
    np.testing.assert_allclose(capped.learning_rates, expected, rtol=1e-12)
    assert (capped.learning_rates < 0.2).any() and (capped.learning_rates == 0.2).any()
    assert [step for step, _, _ in seen] == list(range(30))
    np.testing.assert_allclose(np.stack([m for _, m, _ in seen]), capped.mass[:-1])
    np.testing.assert_array_equal(np.stack([r for _, _, r in seen]), capped.risk[:-1])
    assert (free.learning_rates == 0.2).all()


def test_a_cap_sees_the_weights_of_the_step_and_the_start():
    x, y, ensemble = capped_problem()
    schedule = make_schedule("constant", 0.2, n_steps=5)

    def cap(state):
        torch.testing.assert_close(state.first_norm, ensemble.parameter_norm())
        assert (state.first_risk == state.risk).all() == (state.step == 0)
        again, gradient = risk_and_gradient(state.ensemble, x, y, get_loss("mse"))
        torch.testing.assert_close(again, state.risk)
        torch.testing.assert_close(dict(gradient), dict(state.gradient))
        return torch.full_like(state.risk, np.inf)

    train(ensemble, x, y, schedule, 5, cap=cap)


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_a_cap_must_not_be_negative(bad):
    x, y, ensemble = capped_problem()
    schedule = make_schedule("constant", 0.2, n_steps=5)
    with pytest.raises(ValueError, match=r"`cap` must return rates that are at least 0. Got .* 0"):
        train(ensemble, x, y, schedule, 5, cap=lambda state: torch.full_like(state.risk, bad))


def test_a_stopped_network_keeps_rate_zero_under_a_cap():
    x, y, ensemble = capped_problem()
    schedule = make_schedule("constant", 1e6, n_steps=40)
    free = torch.tensor([np.inf, 1e-9], dtype=torch.float64)
    run = train(ensemble, x, y, schedule, 40, cap=lambda state: free, on_divergence="record")
    assert run.diverged.tolist() == [True, False]
    assert (run.learning_rates[run.diverged_at[0] :, 0] == 0.0).all()
