"""What `lipbook certify` prints: for people, with no digit that is not true; for scripts, all."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from lipbook import __version__
from lipbook.certify.work import Certified
from lipbook.lipschitz.domains import Ball, Domain

_SHOWN_COORDINATES = 6


def rounded_text(value: float, digits: int, upwards: bool) -> str:
    """Return `value` ≥ 0 with so many significant digits, moved up or down, never the other way."""
    if not math.isfinite(value):
        return "∞"
    context = Context(prec=digits, rounding=ROUND_CEILING if upwards else ROUND_FLOOR)
    number = context.plus(Decimal(value))
    return f"{number:f}" if 1e-4 <= value < 1e16 or value == 0.0 else f"{number:e}"


def ended(answer: Certified) -> str:
    """Return why the search ended: exact, interrupted, time limit, or bounds."""
    if answer.bracket.exact:
        return "exact"
    if answer.interrupted:
        return "interrupted"
    return "time limit" if answer.bracket.seconds >= answer.request.time_limit else "bounds"


def _verdict(answer: Certified) -> str:
    gap, limit = answer.request.rel_gap, answer.request.time_limit
    open_end = "the constant lies between the two bounds"
    deep = len(answer.network.layers) > 2
    words = {
        "exact": f"exact to a relative gap of {gap:g}",
        "interrupted": f"open: interrupted; {open_end}",
        "time limit": f"open: the time limit of {limit:g} s has passed; {open_end}",
        "bounds": f"bounds, not exact; {open_end}",
    }[ended(answer)]
    if deep and not answer.bracket.exact:
        words = words.replace("open:", "bounds, not exact:")
    return words if answer.bracket.verified else f"{words} (not proved)"


def _domain_words(domain: Domain, d: int) -> str:
    power = f"^{d}" if d > 1 else ""
    if domain is None:
        return f"all of ℝ{power}"
    if isinstance(domain, Ball):
        center = domain.center
        about = _point(center) if isinstance(center, tuple) else f"{center:g}"
        return f"ball of radius {domain.radius:g} about {about}"
    low, high = domain
    if not isinstance(low, tuple) or not isinstance(high, tuple):
        return f"{'box' if power else 'interval'} [{low:g}, {high:g}]{power}"
    sides = [f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True)]
    more = f" × … ({d} in all)" if d > _SHOWN_COORDINATES else ""
    return "box " + " × ".join(sides[:_SHOWN_COORDINATES]) + more


def _point(point: tuple[float, ...]) -> str:
    shown = ", ".join(f"{v:.6g}" for v in point[:_SHOWN_COORDINATES])
    more = len(point) - _SHOWN_COORDINATES
    return f"({shown}, … {more} more)" if more > 0 else f"({shown})"


def _digits(gap: float) -> int:
    """Return enough digits to tell the bounds apart."""
    if not 0.0 < gap < math.inf:
        return 16
    return min(max(4, 3 - math.floor(math.log10(gap))), 16)


def _gap_words(gap: float) -> str:
    return "∞" if gap == math.inf else rounded_text(gap, 2, upwards=True)


def for_people(answer: Certified) -> str:
    """Return the answer in words, one line a fact."""
    found, layers = answer.bracket, answer.network.layers
    digits = _digits(found.gap)
    widths = " → ".join(map(str, answer.widths))
    activation = f", {answer.activation.name}" if len(layers) > 1 else ", affine"
    rows = [
        ("network", f"{widths}{activation} ({answer.network.source} {answer.request.file.name})"),
        ("domain", _domain_words(found.domain, answer.widths[0])),
        ("lower", rounded_text(found.lower, digits, upwards=False)),
        ("upper", rounded_text(found.upper, digits, upwards=True)),
        ("gap", f"{_gap_words(found.gap)} relative; {_verdict(answer)}"),
        ("method", found.method),
        ("basis", found.basis),
        ("witness", _witness_words(answer)),
        ("time", f"{found.seconds:.2g} s"),
    ]
    return "\n".join(f"{name:<8} {words}" for name, words in rows)


def _witness_words(answer: Certified) -> str:
    witness = answer.bracket.witness
    if witness is None:
        return "none"
    norm = rounded_text(witness.gradient_norm, _digits(answer.bracket.gap), upwards=False)
    words = f"x ≈ {_point(witness.point)}, gradient norm {norm}"
    if witness.pattern is None:
        return words
    return f"{words}, {int(witness.pattern.sum())} of {witness.pattern.size} neurons active"


def for_scripts(answer: Certified) -> dict[str, Any]:
    """Return the answer as what JSON can hold; an infinite number is null."""
    found, request = answer.bracket, answer.request
    return {
        "file": str(request.file),
        "network": {
            "source": answer.network.source,
            "layers": list(answer.network.names),
            "widths": answer.widths,
            "activation": answer.activation.name if len(answer.network.layers) > 1 else None,
        },
        "domain": _domain_tree(found.domain, answer.widths[0]),
        "lower": found.lower,
        "upper": _finite(found.upper),
        "gap": _finite(found.gap),
        "exact": found.exact,
        "ended": ended(answer),
        "verified": found.verified,
        "basis": found.basis,
        "method": found.method,
        "witness": _witness_tree(answer),
        "seconds": found.seconds,
        "rel_gap": request.rel_gap,
        "time_limit": request.time_limit,
        "seed": request.seed,
        "version": __version__,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _domain_tree(domain: Domain, d: int) -> dict[str, Any]:
    def full(value: float | tuple[float, ...]) -> list[float]:
        return list(value) if isinstance(value, tuple) else [value] * d

    if domain is None:
        return {"kind": "whole space"}
    if isinstance(domain, Ball):
        return {"kind": "ball", "center": full(domain.center), "radius": domain.radius}
    return {"kind": "box", "low": full(domain[0]), "high": full(domain[1])}


def _witness_tree(answer: Certified) -> dict[str, Any] | None:
    witness = answer.bracket.witness
    if witness is None:
        return None
    pattern = None if witness.pattern is None else [int(active) for active in witness.pattern]
    return {
        "point": list(witness.point),
        "gradient_norm": witness.gradient_norm,
        "pattern": pattern,
        "active": None if pattern is None else sum(pattern),
    }
