"""The measured self-consistent rate for a plain PyTorch loop, by `lipbook.torch_tools.hook`."""

from __future__ import annotations

import math

import numpy as np
from torch import nn
from torch.optim import Optimizer

from lipbook.caps.self_consistent import largest_rate
from lipbook.theorems.deep_descent import deep_smoothness
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.setting import Setting
from lipbook.theorems.smoothness import smoothness


class ModuleSelfConsistent:
    """Cap the rate so that the coming step is sure to descend: α·β(‖Θ‖ + α‖∇R‖, R) ≤ 1.

    For a perceptron with one output, in full batches; the loss is ½·MSE or Huber, as in the
    setting, a `Setting` for two layers or a `DeepSetting` for any number. The risk is not among
    what an optimiser knows, so the loop has to tell it:

        cap = ModuleSelfConsistent(setting)
        hook(optimizer, model, cap)
        ...
        loss.backward(); cap.risk = loss.item(); optimizer.step()

    References:
        The book's theorems `thm-self-consistent` and `thm-deep-descent`.
    """

    def __init__(self, setting: Setting | DeepSetting) -> None:
        """Keep what is known of the problem before its first step.

        Args:
            setting: in which the network is trained.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        self._smoothness(setting, 0.0, 0.0)
        self.setting, self.risk = setting, math.nan

    def check(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Raise ValueError unless one rate moves all parameters of the network.

        Args:
            module: the network.
            optimizer: what moves it.
        """
        rates = sorted({float(group["lr"]) for group in optimizer.param_groups})
        if len(rates) > 1:
            raise ValueError(
                f"`optimizer` must have one rate for all parameters. Got {rates}. "
                "Use one parameter group."
            )
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        left_out = [name for name, p in module.named_parameters() if id(p) not in held]
        if left_out:
            raise ValueError(
                f"`optimizer` must hold all parameters of the network. Got all but {left_out[0]}. "
                "Use torch.optim.SGD(model.parameters(), lr=...)."
            )

    def __call__(self, module: nn.Module, optimizer: Optimizer) -> float:
        """Return the largest rate allowed for the coming step.

        Args:
            module: the network, with its gradients.
            optimizer: what moves it.

        Raises:
            ValueError: the risk of this step has not been told, or the optimiser has changed.
        """
        self.check(module, optimizer)
        risk, self.risk = self.risk, math.nan
        if not (math.isfinite(risk) and risk >= 0):
            raise ValueError(
                f"`risk` must be the loss of this step, finite and ≥ 0. Got {risk}. "
                "Set cap.risk = loss.item() after loss.backward()."
            )
        held = list(module.parameters())
        norm = math.sqrt(sum(float(p.detach().double().square().sum()) for p in held))
        slopes = [float(p.grad.double().square().sum()) for p in held if p.grad is not None]
        slope = math.sqrt(sum(slopes))

        def beta(rate: np.ndarray) -> np.ndarray:
            return np.asarray(self._smoothness(self.setting, norm + float(rate) * slope, risk))

        return float(largest_rate(beta, np.zeros(())))

    @staticmethod
    def _smoothness(setting: Setting | DeepSetting, norm: float, risk: float) -> float:
        """Return β(U, R); refuses a σ without a Lipschitz slope."""
        if isinstance(setting, DeepSetting):
            return deep_smoothness(setting, norm, risk)
        return float(smoothness(setting, norm, risk))
