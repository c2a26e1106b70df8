"""What `lipbook certify` is asked for, checked without loading anything heavy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lipbook.network_files.errors import NetworkFileError
from lipbook.network_files.paths import checked_path
from lipbook.parameters import INTEGER, NUMBER, closest, shown
from lipbook.running.errors import Misuse

# What lipbook.activations and lipbook.lipschitz.bracketing know by name; the tests compare.
ACTIVATIONS = ("relu", "leaky relu", "abs", "tanh", "sigmoid", "softplus", "gelu", "silu")
METHODS = ("auto", "sort", "sweep", "branch", "enclosure", "sdp", "product")

DOMAIN_FORMS = "LOW,HIGH, or LOW:HIGH for each input, or ball:RADIUS, or ball:RADIUS@CENTER"
_LARGEST = 1e150


@dataclass(frozen=True)
class BoxText:
    """Hold a box: one number for all inputs, or one number each."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]


@dataclass(frozen=True)
class BallText:
    """Hold a ball: its radius, and its center, one number for all inputs or one number each."""

    radius: float
    center: float | tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """Hold what is asked for.

    Attributes:
        file: an existing file.
        activation: a name in `ACTIVATIONS`; None takes the file's, or relu.
        domain: None for the whole space.
        method: a name in `METHODS`.
        rel_gap: strictly between 0 and 1.
        time_limit: s, positive.
        seed: not negative.
    """

    file: Path
    activation: str | None
    domain: BoxText | BallText | None
    method: str
    rel_gap: float
    time_limit: float
    seed: int


def checked_request(
    file: str,
    activation: str | None,
    domain: str | None,
    method: str,
    rel_gap: str,
    time_limit: str,
    seed: str,
) -> Request:
    """Return what the options ask for.

    Raises:
        Misuse: one of them is wrong, or there is no such file.
    """
    gap = _number("--rel-gap", rel_gap)
    if not 0.0 < gap < 1.0:
        raise Misuse(
            f"`--rel-gap` must lie strictly between 0 and 1. Got {shown(rel_gap)}. Try 1e-6."
        )
    limit = _number("--time-limit", time_limit)
    if not limit > 0.0:
        raise Misuse(
            f"`--time-limit` must be a positive number of seconds. Got {shown(time_limit)}. Try 60."
        )
    if not INTEGER.fullmatch(seed) or len(seed) > 30 or int(seed) < 0:
        raise Misuse(f"`--seed` must be an int from 0 on. Got {shown(seed)}. Try 0.")
    return Request(
        file=_file(file),
        activation=None if activation is None else _name("--activation", activation, ACTIVATIONS),
        domain=None if domain is None else parse_domain(domain),
        method=_name("--method", method, METHODS),
        rel_gap=gap,
        time_limit=limit,
        seed=int(seed),
    )


def _file(text: str) -> Path:
    try:
        return checked_path(Path(text))
    except NetworkFileError as error:
        raise Misuse(str(error)) from None


def _name(option: str, text: str, names: Sequence[str]) -> str:
    if text not in names:
        line = f"`{option}` must be one of {', '.join(names)}. Got {shown(text)}. "
        raise Misuse((line + closest(text.lower(), names)).rstrip())
    return text


def _number(option: str, text: str) -> float:
    try:
        value = float(text) if NUMBER.fullmatch(text) else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise Misuse(f"`{option}` must be a finite number. Got {shown(text)}. Write it as 1e-3.")
    return value


def parse_domain(text: str) -> BoxText | BallText:
    """Read a domain: "-1,1" or "-1:1,0:2" for boxes, "ball:2" or "ball:2@0,1" for balls.

    Raises:
        Misuse: it is none of these, or empty.
    """
    if text.startswith("ball:"):
        radius, at, center = text.removeprefix("ball:").partition("@")
        size = _number("--domain", radius)
        if not size > 0.0:
            raise Misuse(f"`--domain` must have a positive radius. Got {shown(text)}. Enlarge it.")
        numbers = [_number("--domain", part) for part in center.split(",")] if at else [0.0]
        return BallText(size, numbers[0] if len(numbers) == 1 else tuple(numbers))
    parts = text.split(",")
    pairs = [part.split(":") for part in parts] if ":" in text else [parts]
    if any(len(pair) != 2 for pair in pairs):
        raise Misuse(f"`--domain` must read {DOMAIN_FORMS}. Got {shown(text)}. Try -1,1.")
    low = tuple(_number("--domain", pair[0]) for pair in pairs)
    high = tuple(_number("--domain", pair[1]) for pair in pairs)
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise Misuse(f"`--domain` must have LOW < HIGH. Got {shown(text)}. Swap or widen them.")
    return BoxText(low, high) if ":" in text else BoxText(low[0], high[0])
