"""How a theorem refuses what it does not speak about."""

from __future__ import annotations

from typing import NoReturn


class HypothesisError(ValueError):
    """A bound was asked for where a hypothesis of its theorem cannot hold."""


def refuse(
    argument: str, must: str, theorem: str, hypothesis: str, got: object, remedy: str
) -> NoReturn:
    """Raise a `HypothesisError` that names the theorem and its hypothesis.

    Args:
        argument: the argument at fault.
        must: what it must be, in plain words.
        theorem: the label of the statement in the book.
        hypothesis: its name there, such as "H2".
        got: what was given.
        remedy: what to do instead, a sentence.

    Raises:
        HypothesisError: always.
    """
    raise HypothesisError(
        f"`{argument}` must {must} for {theorem} ({hypothesis}). Got {got}. {remedy}"
    )
