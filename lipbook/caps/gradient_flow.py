"""Gradient flow dΘ/ds = −∇R(Θ), to compare descent with small rates with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lipbook.gradients import Buffers, risk_and_gradient
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
    seen = float(certificates(ensemble, certificate)[0])
    if ensemble.size != 1 or not seen <= limit:
        raise ValueError(
            "`ensemble` must be one network that starts below the limit. "
            f"Got {ensemble.size} with a certificate of {seen:g}. Raise the limit."
        )
    buffers = Buffers.make(ensemble, len(x))

    def follow(start: Ensemble, length: float) -> Ensemble:
        return _runge_kutta(start, x, y, loss, length, buffers)

    here, times, points, history = ensemble, [0.0], [flat(ensemble)[0]], [seen]
    for index in range(round(horizon / step)):
        there, length = follow(here, step), step
        over = float(certificates(there, certificate)[0]) > limit
        if over:
            length = _last_below(here, step, limit, certificate, follow)
            there = follow(here, length)
        times.append(index * step + length)
        points.append(flat(there)[0])
        history.append(float(certificates(there, certificate)[0]))
        if over:
            return FlowPath(np.array(times), np.stack(points), np.array(history), True)
        here = there
    return FlowPath(np.array(times), np.stack(points), np.array(history), False)


def _last_below(here, step, limit, certificate, follow):  # type: ignore[no-untyped-def]
    """Return the longest part of a step that stays within the limit, by bisection."""
    low, high = 0.0, step
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        inside = float(certificates(follow(here, middle), certificate)[0]) <= limit
        low, high = (middle, high) if inside else (low, middle)
    return low


def _runge_kutta(
    start: Ensemble, x: Tensor, y: Tensor, loss: Loss, length: float, buffers: Buffers
) -> Ensemble:
    slopes: list[dict[str, Tensor]] = []
    for share in (0.0, 0.5, 0.5, 1.0):
        point = _moved(start, slopes[-1], share * length) if slopes else start
        slopes.append(risk_and_gradient(point, x, y, loss, buffers)[1])
    one, two, three, four = slopes
    mean = {n: (one[n] + 2.0 * two[n] + 2.0 * three[n] + four[n]) / 6.0 for n in BLOCKS}
    return _moved(start, mean, length)


def _moved(start: Ensemble, slope: dict[str, Tensor], length: float) -> Ensemble:
    return replace(start, **{n: getattr(start, n) - length * slope[n] for n in BLOCKS})
