"""Gradient flow dΘ/ds = −∇R(Θ), to compare descent with small rates with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lipbook.gradients import Buffers, descended, risk_and_gradient
from lipbook.losses import Loss
from lipbook.networks import BLOCKS, Ensemble
from lipbook.theorems.moduli import certificates

# Halvings of the step in which the limit is met.
_HALVINGS = 30


@dataclass(frozen=True)
class FlowPath:
    """Hold the flow of one network from 0 to where its certificate first meets a limit.

    Attributes:
        times: s on an even grid, then s* if the limit was met, (N,).
        points: all parameters there, (N, p), in the order of `flat`.
        certificate: C there, (N,), rounded up.
        met: whether the limit was met before the horizon.
    """

    times: np.ndarray
    points: np.ndarray
    certificate: np.ndarray
    met: bool

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return Θ(min(s, s*)) for given s, (len(times), p), linear between the grid's points."""
        return np.stack([np.interp(times, self.times, c) for c in self.points.T], axis=1)


def flat(ensemble: Ensemble) -> np.ndarray:
    """Return all parameters of each network as one row, (K, p), in the order W, b, A, c."""
    return torch.cat([block.flatten(1) for block in ensemble.blocks()], 1).cpu().numpy()


def flow_to_limit(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    limit: float,
    *,
    step: float,
    horizon: float,
    certificate: str = "product",
) -> FlowPath:
    """Follow gradient flow until the certificate first meets the limit, by Runge–Kutta of order 4.

    Args:
        ensemble: one network.
        x: inputs, (n, d).
        y: targets, (n, k).
        loss: φ.
        limit: L*; infinite to follow the flow to the horizon.
        step: of the grid, in units of s.
        horizon: the largest s.
        certificate: C.

    Returns:
        The `FlowPath`; its last point is Θ(s*), to a share 10⁻⁹ of a step, if the limit was met.

    Raises:
        ValueError: several networks, or a start above the limit.
    """
    seen = _first_certificate(ensemble, limit, certificate)
    buffers = Buffers.make(ensemble, len(x))

    def follow(start: Ensemble, length: float) -> Ensemble:
        return _runge_kutta(start, x, y, loss, length, buffers)

    def steepness(network: Ensemble) -> float:
        return float(certificates(network, certificate)[0])

    def inside(start: Ensemble, part: float) -> bool:
        return steepness(follow(start, part)) <= limit

    here, times, points, history = ensemble, [0.0], [flat(ensemble)[0]], [seen]
    for index in range(round(horizon / step)):
        there, length = follow(here, step), step
        seen = steepness(there)
        over = seen > limit
        if over:
            length = _last_below(partial(inside, here), step)
            there = follow(here, length)
            seen = steepness(there)
        times.append(index * step + length)
        points.append(flat(there)[0])
        history.append(seen)
        if over:
            return FlowPath(np.array(times), np.stack(points), np.array(history), True)
        here = there
    return FlowPath(np.array(times), np.stack(points), np.array(history), False)


def _first_certificate(ensemble: Ensemble, limit: float, certificate: str) -> float:
    seen = float(certificates(ensemble, certificate)[0])
    if ensemble.size != 1 or not seen <= limit:
        raise ValueError(
            "`ensemble` must be one network that starts below the limit. "
            f"Got {ensemble.size} with a certificate of {seen:g}. Raise the limit."
        )
    return seen


def _last_below(inside: Callable[[float], bool], step: float) -> float:
    """Return the longest part of a step that stays within the limit, by bisection."""
    low, high = 0.0, step
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if inside(middle) else (low, middle)
    return low


def _runge_kutta(
    start: Ensemble, x: Tensor, y: Tensor, loss: Loss, length: float, buffers: Buffers
) -> Ensemble:
    slopes: list[dict[str, Tensor]] = []
    for share in (0.0, 0.5, 0.5, 1.0):
        point = descended(start, slopes[-1], share * length) if slopes else start
        slopes.append(risk_and_gradient(point, x, y, loss, buffers)[1])
    one, two, three, four = slopes
    mean = {n: (one[n] + 2.0 * two[n] + 2.0 * three[n] + four[n]) / 6.0 for n in BLOCKS}
    return descended(start, mean, length)
