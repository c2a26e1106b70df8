"""The role {record}`chapter:name`: a number from a chapter's record, rounded in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from lipbook import records
from lipbook.parameters import closest
from lipbook.wording import fmt

FOLDER = Path("notebooks") / "records"


class RecordError(ValueError):
    """A role that names no record, or no entry of it."""


def entries(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the role can name: values, `KEY.bound` of a verdict, `parameters.NAME`."""
    result = record["result"]
    found = {name: entry["value"] for name, entry in result["values"].items()}
    for key, verdict in result["verdicts"].items():
        found |= {f"{key}.{field}": value for field, value in verdict.items()}
    return found | {f"parameters.{name}": value for name, value in result["parameters"].items()}


def look_up(folder: Path, text: str) -> tuple[str, Path]:
    """Return the rounded value that "chapter:name" or "chapter:name|digits" names, and its file.

    Raises:
        RecordError: There is no such record or entry, or the text has another form.
    """
    address, _, digits = text.partition("|")
    chapter, colon, name = (part.strip() for part in address.partition(":"))
    if not colon or (digits and not digits.strip().isdigit()):
        raise RecordError(f"`record` must read chapter:name or chapter:name|digits. Got {text!r}.")
    path = folder / f"{chapter}.json"
    if not path.is_file():
        names = sorted(each.stem for each in folder.glob("*.json"))
        raise RecordError(f"there is no record {path.name}. {closest(chapter, names)}".rstrip())
    known = entries(records.load(path))
    if name not in known:
        raise RecordError(f"{path.name} has no {name!r}. {closest(name, known)}".rstrip())
    return fmt(records.decode(known[name]), int(digits or 3)), path


class RecordRole(SphinxRole):
    """Writes the number; the page is read again when the record changes."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number as text."""
        try:
            number, path = look_up(Path(self.env.srcdir) / FOLDER, self.text)
        except (RecordError, records.RecordError, TypeError) as error:
            message = self.inliner.reporter.warning(f"record: {error}", line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        self.env.note_dependency(str(path))
        return [nodes.inline(self.rawtext, number, classes=["record"])], []


def setup(app: Sphinx) -> None:
    """Register the role."""
    app.add_role("record", RecordRole())
