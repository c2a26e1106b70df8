"""The grammar of a chapter's parameters cell, readable without a kernel.

A parameters cell opens with ``# Parameters of this chapter``; every other line declares one:

    name: type = default  # meaning and unit; constraint

The constraint is an inclusive range ``LOW..HIGH`` (either end may be left out) or choices
``a | b | c``; for a list it applies to every element. Only the standard library is used, so that
the command line can refuse bad input without loading anything heavy.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import keyword
import math
import numbers
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FIRST_LINE = "# Parameters of this chapter"
SCALARS = ("int", "float", "bool", "str")
TYPES = (*SCALARS, "list[int]", "list[float]", "list[str]")
FORM = "`name: type = default  # meaning and unit; constraint`"
INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class ParameterError(ValueError):
    """A parameters cell, or a value given for a parameter, that the grammar does not allow."""


def shown(value: object, limit: int = 60) -> str:
    """Return `value` as one short printable line, for an error message."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def closest(name: str, names: Iterable[str]) -> str:
    """Return "Did you mean `width`?" with the known names closest to `name`, or "" without one."""
    close = difflib.get_close_matches(name[:100], list(names), n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(f'`{match}`' for match in close)}?" if close else ""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its name, type, default, constraint and meaning."""

    name: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[Any, ...] | None
    help: str

    @property
    def scalar(self) -> str:
        """The type of the value itself, or of each element of a list."""
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.type.startswith("list[")

    def allowed(self) -> str:
        """Return the allowed values in words: "an int in 1..4096", "one of relu | tanh"."""
        if self.choices is not None:
            each = f"one of {' | '.join(map(str, self.choices))}"
        elif self.scalar == "bool":
            each = "true or false"
        else:
            low = "" if self.minimum is None else f"{self.minimum:.12g}"
            high = "" if self.maximum is None else f"{self.maximum:.12g}"
            noun = "an int" if self.scalar == "int" else "a float"
            each = f"{noun} in {low}..{high}"
        return f"a nonempty list, each element {each}" if self.is_list else each

    def _refuse(self, value: object) -> ParameterError:
        return ParameterError(f"`{self.name}` must be {self.allowed()}. Got {shown(value)}.")

    def parse(self, text: str) -> Any:
        """Read a value written on the command line.

        Args:
            text: The text after `name=`: "64", "1e-3", "1_000", "true", or JSON for a list.

        Returns:
            The validated value.

        Raises:
            ParameterError: The text is no value of this type, or breaks the constraint.
        """
        if self.is_list:
            try:
                return self.validate(json.loads(text))
            except ParameterError:
                raise
            except (ValueError, RecursionError):
                raise ParameterError(
                    f"`{self.name}` must be {self.allowed()}, written as JSON. Got {shown(text)}."
                ) from None
        if self.scalar == "bool":
            if text.strip().lower() not in ("true", "false"):
                raise self._refuse(text)
            return text.strip().lower() == "true"
        return self.validate(text)

    def validate(self, value: Any) -> Any:
        """Check a value that came from YAML, Python or a hand-edited cell.

        A string that reads as a number counts as one where a number is expected: YAML reads `1e-3`
        as a string.

        Args:
            value: The value.

        Returns:
            The value as this parameter's own type (an int given for a float becomes a float).

        Raises:
            ParameterError: The value has another type, is not finite, or breaks the constraint.
        """
        if not self.is_list:
            return self._element(value, value)
        if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
            raise self._refuse(value)
        return [self._element(element, value) for element in value]

    def _element(self, value: Any, whole: Any) -> Any:
        converted = convert(self.scalar, value)
        if converted is None or (self.choices is not None and converted not in self.choices):
            raise self._refuse(whole)
        below = self.minimum is not None and converted < self.minimum
        above = self.maximum is not None and converted > self.maximum
        if below or above:
            raise self._refuse(whole)
        return converted

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as `lipbook chapters --json` prints it."""
        choices = None if self.choices is None else list(self.choices)
        return {
            "name": self.name,
            "type": self.type,
            "default": self.default,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "choices": choices,
            "help": self.help,
        }


def convert(scalar: str, value: Any) -> Any:
    """Return `value` as the scalar type named, or None where it is no such value."""
    is_bool = isinstance(value, bool)
    if scalar == "bool":
        return value if is_bool else None
    if scalar == "str":
        return value if isinstance(value, str) else None
    if isinstance(value, str):
        value = read_number(value)
    if scalar == "int":
        return int(value) if isinstance(value, numbers.Integral) and not is_bool else None
    if is_bool or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_number(text: str) -> int | float | None:
    """Return the number that `text` spells in full, or None: "64", "1_000", "-1.5", "1e-3"."""
    stripped = text.strip()
    try:
        if INTEGER.fullmatch(stripped):
            return int(stripped)
        return float(stripped) if NUMBER.fullmatch(stripped) else None
    except ValueError:  # more digits than Python converts, or a misplaced underscore
        return None


def parse_cell(source: str) -> tuple[Parameter, ...]:
    """Read the declarations of a parameters cell.

    Args:
        source: The cell's source text.

    Returns:
        The parameters, in the order of the cell.

    Raises:
        ParameterError: A line is no declaration, a default breaks its own constraint, a number has
            no range, a name occurs twice, or the first line is missing.
    """
    lines = source.splitlines()
    if not lines or lines[0].strip() != FIRST_LINE:
        got = shown(lines[0]) if lines else "an empty cell"
        raise ParameterError(
            f"`first line` of a parameters cell must be `{FIRST_LINE}`. Got {got}."
        )
    found: dict[str, Parameter] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parameter = parse_line(line, number)
        if parameter.name in found:
            raise ParameterError(
                f"`{parameter.name}` must be declared once. Got it again on line {number}."
            )
        found[parameter.name] = parameter
    return tuple(found.values())


def parse_line(line: str, number: int) -> Parameter:
    """Read one declaration; `number` is the line's number in the cell, for messages."""
    name, kind, default, comment = split_line(line, number)
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ParameterError(
            f"`name` on line {number} must be a plain identifier. Got {shown(name)}."
        )
    if kind not in TYPES:
        raise ParameterError(f"`{name}` must have one of the types {', '.join(TYPES)}. Got {kind}.")
    meaning, _, constraint = comment.rpartition(";") if kind != "bool" else (comment, "", "")
    if not meaning.strip():
        wanted = "a meaning" if kind == "bool" else "a meaning and a constraint"
        raise ParameterError(
            f"`{name}` must have {wanted}. Got {shown(line.strip(), 90)}. Write {FORM}."
        )
    scalar = kind.removeprefix("list[").removesuffix("]")
    low, high, choices = parse_constraint(name, scalar, constraint.strip())
    parameter = Parameter(name, kind, default, low, high, choices, " ".join(meaning.split()))
    return Parameter(name, kind, parameter.validate(default), low, high, choices, parameter.help)


def split_line(line: str, number: int) -> tuple[str, str, Any, str]:
    """Split a declaration into name, type, default value and comment."""
    fault = ParameterError(f"`line {number}` must read {FORM}. Got {shown(line.strip(), 90)}.")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line.strip()).readline))
        comments = [token for token in tokens if token.type == tokenize.COMMENT]
        body = ast.parse(line.strip()).body
        statement = body[0]
        if len(body) != 1 or not isinstance(statement, ast.AnnAssign) or statement.value is None:
            raise fault
        if not isinstance(statement.target, ast.Name):
            raise fault
        default = ast.literal_eval(statement.value)
    except ParameterError:
        raise
    except (SyntaxError, ValueError, TypeError, tokenize.TokenError, RecursionError):
        raise fault from None
    comment = comments[-1].string.lstrip("#").strip() if comments else ""
    return statement.target.id, ast.unparse(statement.annotation), default, comment


def parse_constraint(
    name: str, scalar: str, text: str
) -> tuple[float | None, float | None, tuple[Any, ...] | None]:
    """Read a range "1..4096" or choices "relu | tanh" as (low, high, choices)."""
    if scalar == "bool":
        return None, None, None
    if scalar == "str" or (scalar == "int" and "|" in text):
        return None, None, parse_choices(name, text, scalar)
    low_text, dots, high_text = text.partition("..")
    low, high = (None if not end.strip() else convert(scalar, end) for end in (low_text, high_text))
    spelled = [end for end in (low_text, high_text) if end.strip()]
    if not dots or not spelled or any(convert(scalar, end) is None for end in spelled):
        raise ParameterError(
            f"`{name}` must have a range of {scalar} numbers such as `1..10`. Got {shown(text)}."
        )
    if low is not None and high is not None and low > high:
        raise ParameterError(f"`{name}` must have a range with LOW ≤ HIGH. Got {shown(text)}.")
    return low, high, None


def parse_choices(name: str, text: str, scalar: str) -> tuple[Any, ...]:
    """Read choices "relu | leaky relu" as a tuple of distinct values."""
    choices = [convert(scalar, part.strip()) if part.strip() else None for part in text.split("|")]
    if None in choices or len(set(choices)) != len(choices):
        raise ParameterError(
            f"`{name}` must have distinct {scalar} choices such as `a | b`. Got {shown(text)}."
        )
    return tuple(choices)


def resolve(parameters: Iterable[Parameter], given: Mapping[Any, Any]) -> dict[str, Any]:
    """Validate the values given and fill in the defaults.

    Args:
        parameters: The chapter's declared parameters: the only names allowed.
        given: Values by name; a value is checked as `Parameter.validate` does.

    Returns:
        One valid value for every declared parameter, in declared order.

    Raises:
        ParameterError: A name is not declared, or a value is not allowed.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        check_name(name, known)
    return {
        name: parameter.validate(given[name]) if name in given else parameter.default
        for name, parameter in known.items()
    }


def check_name(name: Any, known: Iterable[str]) -> None:
    """Raise ParameterError, naming the closest known names, unless `name` is one of `known`."""
    names = list(known)
    if name not in names:
        if not names:
            raise ParameterError(
                f"`parameter` must be left out: there are none. Got {shown(name)}."
            )
        hint = closest(str(name), names)
        raise ParameterError(
            f"`parameter` must be one of {', '.join(names)}. Got {shown(name)}. {hint}".rstrip()
        )
