"""The book's learning rates for a plain PyTorch loop: nothing to subclass, nothing to rewrite.

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scheduler = lr_scheduler(optimizer, schedule)      # rates that depend on the step alone
    capped = hook(optimizer, model, ModuleBudget(12))  # a cap that looks at weights and gradients
    ...
    loss.backward(); optimizer.step(); scheduler.step()

A cap only ever lowers the rate of the coming step; whatever set the rate, a scheduler or a person,
finds it unchanged afterwards. The theorems speak of plain gradient descent, so `hook` refuses
momentum, weight decay and other optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lipbook.caps.torch_budget import ModuleBudget, module_certificate, rescale_
from lipbook.schedules import Schedule

__all__ = [
    "Cap",
    "ModuleBudget",
    "RateHook",
    "ScheduledRate",
    "check_gradients",
    "check_plain",
    "hook",
    "lr_scheduler",
    "module_certificate",
    "rescale_",
]

# What a step may depend on: the module with its gradients, and the optimiser with its rates.
Cap = Callable[[nn.Module, Optimizer], float]

# Options of SGD that make a step something else than −α∇R.
PLAIN = {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


class ScheduledRate(LRScheduler):
    """Set the rate of every parameter group to α_t of a schedule; t counts the calls of `step`."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        """Attach the schedule; the optimiser's own rate is replaced by α_0 at once.

        Args:
            optimizer: any.
            schedule: gives α_t for every t.
        """
        self.schedule = schedule
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return α_t for each parameter group."""
        after = max(self.last_epoch - self.schedule.start, 0)
        rate = self.schedule.learning_rate * float(self.schedule.rate_function(np.array(after)))
        return [rate for _ in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return how far the scheduler has come; the schedule itself is not part of it."""
        return {key: kept for key, kept in super().state_dict().items() if key != "schedule"}


def lr_scheduler(optimizer: Optimizer, schedule: Schedule) -> ScheduledRate:
    """Return a torch scheduler with the rates of a book's schedule, α_t = α·ρ(t − T₀).

    Args:
        optimizer: any; its own rate is replaced.
        schedule: from `make_schedule`, say.

    Returns:
        An `LRScheduler`; call its `step` after the optimiser's.
    """
    return ScheduledRate(optimizer, schedule)


class RateHook:
    """Lowers the rate of each step to a cap and puts the optimiser's own rate back after it.

    Attributes:
        rate: the largest rate of the last step; NaN before the first.
    """

    def __init__(self, optimizer: Optimizer, module: nn.Module, cap: Cap) -> None:
        """Attach to an optimiser; see `hook`."""
        check_plain(optimizer)
        self.rate, self._module, self._cap = math.nan, module, cap
        self._own: list[Any] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Detach: later steps are the optimiser's own."""
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # The arguments begin with the optimiser itself.
        if len(args) > 1 or kwargs.get("closure") is not None:
            raise ValueError(
                "`optimizer.step` must be called without a closure. Got one: it would make new "
                "gradients after the cap has looked at the old. Call loss.backward() first."
            )
        check_plain(optimizer)
        check_gradients(optimizer)
        limit = float(self._cap(self._module, optimizer))
        if not limit >= 0:
            raise ValueError(
                f"`cap` must return a rate that is at least 0. Got {limit}. Return 0 to stop."
            )
        self._own = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = min(float(group["lr"]), limit)
        self.rate = max(group["lr"] for group in optimizer.param_groups)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group, own in zip(optimizer.param_groups, self._own, strict=True):
            group["lr"] = own


def hook(optimizer: Optimizer, module: nn.Module, cap: Cap) -> RateHook:
    """Make every `optimizer.step()` obey a cap of the rate.

    Args:
        optimizer: torch.optim.SGD without momentum, weight decay or other options.
        module: what the cap looks at.
        cap: (module, optimizer) ↦ the largest rate allowed for the coming step, ≥ 0; a `check`
            method of the same arguments is called once, now.

    Returns:
        The `RateHook`, with the last rate and `remove`.

    Raises:
        ValueError: the optimiser is not plain gradient descent.
    """
    made = RateHook(optimizer, module, cap)
    if hasattr(cap, "check"):
        try:
            cap.check(module, optimizer)
        except ValueError:
            made.remove()
            raise
    return made


def check_plain(optimizer: Optimizer) -> None:
    """Raise ValueError unless each step of the optimiser is −α∇R and nothing else."""
    if type(optimizer) is not SGD:
        got = type(optimizer).__name__
        raise ValueError(
            f"`optimizer` must be torch.optim.SGD. Got {got}, whose steps are no multiples of the "
            "gradient. Use torch.optim.SGD(model.parameters(), lr=...)."
        )
    for group in optimizer.param_groups:
        for option, plain in PLAIN.items():
            if group[option] != plain:
                raise ValueError(
                    f"`optimizer` must have {option}={plain}. Got {option}={group[option]}. The "
                    "theorem speaks of plain gradient descent: leave the option out."
                )


def check_gradients(optimizer: Optimizer) -> None:
    """Raise ValueError if a gradient is not finite: then no rate is safe, 0 included."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise ValueError(
                    "`gradient` must be finite before `optimizer.step()`. Got NaN or infinity. "
                    "Skip this step, or look for the overflow in the loss."
                )
