"""The small machine-readable record of a chapter's run: its schema, files and comparison.

A record has two halves. `result` says what was computed and is compared, by tolerance, between two
runs. `provenance` says when, where and with which versions, and is never compared. Numbers that are
not finite are stored as the strings "inf", "-inf" and "nan", so that the file is strict JSON.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
SECTIONS = ("parameters", "values", "verdicts", "figures")
RESULT_KEYS = ("chapter", *SECTIONS, "modules", "digest")
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
# Words about the numbers, and the slack, which is bound − measured: all of it stands beside them.
NOT_COMPARED = frozenset(
    {"title", "quantity", "statement", "subject", "meaning", "unit", "rtol", "atol", "slack"}
)
VERDICT_RTOL = 1e-6
VERDICT_LABELS = {
    "contradicted": "contradicted",
    "failed": "failing hypothesis",
    "failed_step": "at step",
    "bound": "bound",
    "measured": "measured",
}


class RecordError(ValueError):
    """A file that is no record, or a record that breaks the schema."""


@dataclass(frozen=True)
class Difference:
    """One place where two results differ beyond tolerance; a side without such a place is None."""

    kind: str
    name: str
    published: Any
    new: Any

    def __str__(self) -> str:
        """Return the difference as one line, "value bound: 7.75 → 8.54"."""
        return f"{self.kind} {self.name}: {in_words(self.published)} → {in_words(self.new)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as `lipbook run --json` prints it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "published": self.published,
            "new": self.new,
        }


def in_words(side: Any) -> str:
    """Return one side of a difference for a reader."""
    if side is None:
        return "none"
    if isinstance(side, bool):
        return "yes" if side else "no"
    return f"{side:.6g}" if isinstance(side, float) else str(side)


def encode(number: Any) -> Any:
    """Return a number, bool, str or None as strict JSON holds it; numpy and torch scalars too.

    Raises:
        TypeError: `number` is no scalar of these kinds.
    """
    if type(number) not in (bool, int, float, str) and hasattr(number, "item"):
        try:
            number = number.item()
        except (ValueError, RuntimeError):  # numpy's and torch's "more than one element"
            got = type(number).__name__
            raise TypeError(f"`number` must be a single number. Got {got}.") from None
    if number is None or isinstance(number, (bool, int, str)):
        return number
    if not isinstance(number, float):
        raise TypeError(f"`number` must be a number, bool or str. Got {type(number).__name__}.")
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"


def decode(stored: Any) -> Any:
    """Return what `encode` was given, for numbers: the string "inf" becomes ∞ again."""
    return NOT_FINITE.get(stored, stored) if isinstance(stored, str) else stored


def check_record(record: Any, source: str = "record") -> dict[str, Any]:
    """Return `record` if it follows the schema.

    Raises:
        RecordError: It does not; the message names the first fault.
    """
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        got = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise RecordError(f"`{source}` must be a record of schema {SCHEMA}. Got {got!r}.")
    result = record.get("result")
    if not isinstance(result, dict) or not isinstance(record.get("provenance"), dict):
        raise RecordError(f"`{source}` must have the parts result and provenance.")
    missing = [key for key in RESULT_KEYS if key not in result]
    wrong = [key for key in SECTIONS if not isinstance(result.get(key), dict)]
    if missing or wrong:
        raise RecordError(f"`{source}` must hold {', '.join(missing or wrong)} in its result.")
    return record


def load(path: str | Path) -> dict[str, Any]:
    """Read a record from a file.

    Raises:
        RecordError: The file is missing, unreadable, no strict JSON, or breaks the schema.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"`{path}` must be a readable record. Got {error}.") from None
    try:
        return check_record(json.loads(text, parse_constant=_refuse_constant), str(path))
    except json.JSONDecodeError as error:
        raise RecordError(f"`{path}` must be JSON. Got {error}.") from None


def _refuse_constant(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is no JSON number", name, 0)


def dumps(record: Mapping[str, Any]) -> str:
    """Return the text of a record file: sorted keys, two spaces, strict JSON, a final newline."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def dump(record: Mapping[str, Any], path: str | Path) -> None:
    """Write a record, all or nothing: aside first, then renamed into place."""
    write_aside(path, dumps(record))


def write_aside(path: str | Path, text: str) -> None:
    """Write a text file so that a reader sees the old text or the new, never a part of either."""
    target = Path(path)
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)  # mkstemp leaves files that only the owner can read
        os.replace(aside, target)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def close(published: Any, new: Any, rtol: float, atol: float = 0.0) -> bool:
    """Say whether two stored numbers agree: |new − published| ≤ atol + rtol·|published|.

    Infinities of one sign agree, and so do two "nan"; texts, bools and None must be equal.
    """
    old, fresh = decode(published), decode(new)
    if isinstance(old, bool) or isinstance(fresh, bool):
        return old is fresh
    if not isinstance(old, (int, float)) or not isinstance(fresh, (int, float)):
        return bool(old == fresh)
    if not (math.isfinite(old) and math.isfinite(fresh)):
        return old == fresh or (math.isnan(old) and math.isnan(fresh))
    return abs(fresh - old) <= atol + rtol * abs(old)


def compare(published: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """List where the results of two records differ beyond the published tolerances.

    Args:
        published: The record to compare with; its rtol and atol hold.
        new: The other record.

    Returns:
        Parameters first, then verdicts, values and figures; empty if the results agree.
        Provenance, modules and digest are not compared.
    """
    old, fresh = published["result"], new["result"]
    found = []
    if old["chapter"] != fresh["chapter"]:
        found.append(Difference("chapter", "name", old["chapter"], fresh["chapter"]))
    for name, (was, now) in pairs(old["parameters"], fresh["parameters"]):
        if was != now:
            found.append(Difference("parameter", name, was, now))
    for key, (was, now) in pairs(old["verdicts"], fresh["verdicts"]):
        rtol = (was or now).get("rtol", VERDICT_RTOL)
        found += differing("verdict", key, was, now, rtol, 0.0)
    for name, (was, now) in pairs(old["values"], fresh["values"]):
        rtol, atol = ((was or now).get(key, 0.0) for key in ("rtol", "atol"))
        found += differing("value", name, _value(was), _value(now), rtol, atol)
    for name, (was, now) in pairs(old["figures"], fresh["figures"]):
        found += compare_figures(name, was, now)
    return found


def _value(entry: Mapping[str, Any] | None) -> Any:
    return None if entry is None else entry["value"]


def compare_figures(
    name: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> list[Difference]:
    """Compare the summaries of what two figures plot.

    A summary's numbers are compared on the scale of its series: the mean of values that cancel has
    no relative accuracy of its own.
    """
    if was is None or now is None:
        sides = ("not drawn" if side is None else "drawn" for side in (was, now))
        return [Difference("figure", name, *sides)]
    found = []
    for label, (old, new) in pairs(was["series"], now["series"]):
        ends = [decode((old or new).get(key)) for key in ("min", "max")]
        sizes = [abs(e) for e in ends if isinstance(e, (int, float)) and math.isfinite(e)]
        atol = was["rtol"] * max(sizes, default=0.0)
        found += differing("figure", f"{name} / {label}", old, new, was["rtol"], atol)
    return found


def pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Pair the entries of two mappings by key, None where one has none, in the order of `old`."""
    for key in (*old, *(key for key in new if key not in old)):
        yield key, (old.get(key), new.get(key))


def differing(
    kind: str, name: str, was: Any, now: Any, rtol: float, atol: float
) -> list[Difference]:
    """Compare two JSON trees leaf by leaf; words about the numbers are left out."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        found = []
        for key, (old, new) in pairs(was, now):
            if key not in NOT_COMPARED:
                # a margin may be nought to rounding: it has no scale of its own
                room = max(atol, rtol) if key == "margin" else atol
                found += differing(kind, f"{name} {key}", old, new, rtol, room)
        return found
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        found = []
        for index, (old, new) in enumerate(zip(was, now, strict=True)):
            label = old.get("name", index) if isinstance(old, Mapping) else index
            found += differing(kind, f"{name} {label}", old, new, rtol, atol)
        return found
    if close(was, now, rtol, atol):
        return []
    return [Difference(kind, name, _leaf(was), _leaf(now))]


def _leaf(side: Any) -> Any:
    return "present" if isinstance(side, (Mapping, list)) else side


def describe(differences: list[Difference], compared_with: str = "the published run") -> str:
    """Return the differences for a reader: what was set, which verdicts turned, what came out."""
    if not differences:
        return f"Nothing differs from {compared_with} beyond its tolerances."
    by_kind = {
        kind: [each for each in differences if each.kind == kind]
        for kind in ("chapter", "parameter", "verdict", "value", "figure")
    }
    turned, moved = verdict_lines(by_kind["verdict"])
    sections = {
        "chapter": plain_lines(by_kind["chapter"]),
        "parameters set otherwise": plain_lines(by_kind["parameter"]),
        "verdicts that turned": turned,
        "verdicts with other numbers": moved,
        "values": plain_lines(by_kind["value"]),
        "figures that plot other numbers": list(
            dict.fromkeys(each.name.partition(" / ")[0] for each in by_kind["figure"])
        ),
    }
    lines = [f"What differs from {compared_with}:"]
    for heading, entries in sections.items():
        lines += [f"  {heading}", *(f"    {entry}" for entry in entries)] if entries else []
    return "\n".join(lines)


def plain_lines(differences: list[Difference]) -> list[str]:
    """Return "width: 64 → 128" for each difference."""
    return [f"{d.name}: {in_words(d.published)} → {in_words(d.new)}" for d in differences]


def verdict_lines(differences: list[Difference]) -> tuple[list[str], list[str]]:
    """Return one line for each verdict that turned, and for each that only has other numbers."""
    turned, moved = [], []
    by_key: dict[str, dict[str, Difference]] = {}
    for each in differences:
        key, _, entry = each.name.partition(" ")
        by_key.setdefault(key, {})[entry] = each
    for key, changes in by_key.items():
        words = [
            f"{label} {in_words(changes[entry].published)} → {in_words(changes[entry].new)}"
            for entry, label in VERDICT_LABELS.items()
            if entry in changes
        ]
        if "" in changes:
            turned.append(plain_lines([changes[""]])[0])
        elif "applies" in changes or "contradicted" in changes:
            turned.append(f"{key} {standing(changes)}: {', '.join(words) or 'as before'}")
        else:
            moved.append(f"{key}: {', '.join(words) or 'other hypotheses'}")
    return turned, moved


def standing(changes: Mapping[str, Difference]) -> str:
    """Return what became of a verdict: it applies now, applies no longer, or is contradicted."""
    if "contradicted" in changes:
        return "is contradicted" if changes["contradicted"].new else "is no longer contradicted"
    return "applies now" if changes["applies"].new else "no longer applies"
