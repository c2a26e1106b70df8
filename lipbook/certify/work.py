"""Reading a network, bracketing its Lipschitz constant, and noticing a Ctrl-C on the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from lipbook.activations import Activation, get_activation
from lipbook.certify.options import BallText, BoxText, Request
from lipbook.lipschitz.bracketing import bracket, solver_for
from lipbook.lipschitz.deep.bracketing import deep_bracket
from lipbook.lipschitz.domains import Ball, Domain, checked_domain
from lipbook.lipschitz.problem import checked_problem
from lipbook.lipschitz.results import LipschitzBracket
from lipbook.network_files.errors import NetworkFileError
from lipbook.network_files.reading import FileNetwork, read_network
from lipbook.running.errors import Misuse

Watch = Callable[[float, float], None]


@dataclass(frozen=True)
class Certified:
    """Hold the answer to a request.

    Attributes:
        request: what was asked for.
        network: what the file holds.
        activation: σ.
        bracket: of the Lipschitz constant.
        interrupted: whether Ctrl-C ended the search.
    """

    request: Request
    network: FileNetwork
    activation: Activation
    bracket: LipschitzBracket
    interrupted: bool

    @property
    def widths(self) -> list[int]:
        """Return d, the widths of the hidden layers, and k."""
        layers = self.network.layers
        return [layers[0][0].shape[1], *(len(weight) for weight, _ in layers)]


def certify(request: Request, watch: Watch | None = None) -> Certified:
    """Bracket the Lipschitz constant of the network in a file.

    Args:
        request: the file, the domain, the method and its limits.
        watch: called with (lower, upper) whenever a long search has narrowed its bracket.

    Returns:
        What was found; Ctrl-C during the search only makes the bracket wider.

    Raises:
        Misuse: the file holds no network, or the options do not fit it.
        KeyboardInterrupt: before there is any bracket.
    """
    try:
        network = read_network(request.file, request.activation)
        activation = network.activation or get_activation("relu")
        domain = _checked(request, network, activation)
    except (NetworkFileError, Misuse) as error:
        raise Misuse(str(error)) from None
    with _interrupts() as interrupted:
        found = _bracket(request, network, activation, domain, watch)
    return Certified(request, network, activation, found, bool(interrupted))


def _checked(request: Request, network: FileNetwork, activation: Activation) -> Domain:
    """Return the domain, if it and the method fit the network."""
    layers, count = network.layers, len(network.layers)
    if count != 2 and request.method != "auto":
        raise Misuse(
            f"`--method` must be auto for a network of {count} affine maps. "
            f"Got {request.method!r}. Leave it out."
        )
    try:
        domain = checked_domain(_domain(request), layers[0][0].shape[1])
        if count == 2:
            (weight, bias), (output, _) = layers
            problem = checked_problem(weight, bias, output, activation, domain)
            solver_for(request.method, problem)
    except ValueError as error:
        raise Misuse(str(error)) from None
    return domain


def _domain(request: Request) -> Any:
    asked = request.domain
    if isinstance(asked, BallText):
        return Ball(asked.center, asked.radius)
    return (asked.low, asked.high) if isinstance(asked, BoxText) else None


def _bracket(
    request: Request,
    network: FileNetwork,
    activation: Activation,
    domain: Domain,
    watch: Watch | None,
) -> LipschitzBracket:
    limits: dict[str, Any] = {
        "rel_gap": request.rel_gap,
        "time_limit": request.time_limit,
        "seed": request.seed,
        "watch": watch,
    }
    if len(network.layers) != 2:
        return deep_bracket(network.layers, activation, domain, **limits)
    (weight, bias), (output, _) = network.layers
    return bracket(weight, bias, output, activation, domain, request.method, **limits)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the Ctrl-C that come, each of which raises KeyboardInterrupt as ever."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)
