"""What the command line is given: assignments, files of parameters, folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lipbook.parameters import Parameter, check_name, shown
from lipbook.running.errors import Misuse


def folder_of(option: str, text: str) -> Path:
    """Return the folder that an option names.

    Raises:
        Misuse: No file system has such a path.
    """
    if not text or "\0" in text:
        raise Misuse(f"`{option}` must be the path of a folder. Got {shown(text)}.")
    return Path(text)


def parse_assignments(
    parameters: Sequence[Parameter], assignments: Sequence[str]
) -> dict[str, Any]:
    """Read the `-p NAME=VALUE` of a command line.

    Raises:
        Misuse: One has no `=`, or a name is set twice.
        ParameterError: A name is unknown or a value not allowed.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise Misuse(f"`-p` must read NAME=VALUE. Got {shown(text)}.")
        check_name(name, known)
        if name in values:
            raise Misuse(f"`-p {name}` must be given once. Got it twice.")
        values[name] = known[name].parse(value)
    return values


def read_file(file: str | None) -> dict[Any, Any]:
    """Read the mapping in a YAML file of parameters.

    Raises:
        Misuse: The file is missing, unreadable, no YAML, or no mapping.
    """
    if file is None:
        return {}
    import yaml

    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise Misuse(f"`-f` must be a readable YAML file. Got {shown(file)} ({reason}).") from None
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        what = " ".join(str(getattr(error, "problem", None) or type(error).__name__).split())
        raise Misuse(f"`-f` must be valid YAML. Got {shown(file)}: {what}{where}.") from None
    if not isinstance(tree, dict):
        raise Misuse(f"`-f` must hold lines `name: value`. Got {type(tree).__name__} in {file}.")
    return tree
