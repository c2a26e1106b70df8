"""The two ways in which the command line does not do what was asked."""

from __future__ import annotations


class Misuse(ValueError):
    """What was asked for cannot be done; nothing was started. The command line exits with 2."""


class RunFailed(RuntimeError):
    """What was started failed. The command line exits with 1."""
