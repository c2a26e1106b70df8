"""How a file is refused: one line that says what it must be, what it is, and what to do."""

from __future__ import annotations

from pathlib import Path

from lipbook.parameters import shown

SAVE_TORCH = "Save it with torch.save(model.state_dict(), 'model.pt')."
INSTALL = "Run: pip install 'lipbook[certify]'"


class NetworkFileError(ValueError):
    """A file that holds no perceptron that can be read."""


def refusal(path: Path, must: str, got: str, remedy: str) -> NetworkFileError:
    """Return the error "`FILE` must …. Got 'name', …. Remedy", on one line of printable text."""
    words = " ".join(got.split())
    words = words.rstrip(".") if len(words) <= 200 else f"{words[:199]}…"
    line = f"`FILE` must {must}. Got {shown(path.name)}, {words}. {remedy}".strip()
    return NetworkFileError("".join(c if c.isprintable() else "?" for c in line))
