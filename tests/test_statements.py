"""Every numbered statement of every chapter is one class of the library, under the same name."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import lipbook.generalization
import lipbook.theorems

ROOT = Path(__file__).resolve().parents[1]
KINDS = "theorem|lemma|proposition|corollary"
STATEMENT = re.compile(rf"^`{{3,}}\{{prf:(?:{KINDS})\}} *(.*?) *\n:label: *(\S+) *$", re.MULTILINE)

# A statement of several parts may have a class for one of them alone, named after the part. Their
# titles stand in stored records.
PARTS = {
    "thm-ladder": {"HalfAndHalf": "The half-and-half bound"},
    "thm-early-stopping": {"EarlyStopping": "Early stopping in disguise, part (c)"},
    "thm-promise": {"SmoothPromise": "A promise for all later steps, exact constant carried"},
    "thm-hindered": {"RiskFall": "The mass is put to use"},
}
# Statements of which no class but that of a part is there.
PART_ALONE = {"thm-ladder", "thm-early-stopping"}

# How a class gives what its statement says of one run, or of many starts.
VERDICTS = ("verdict", "verdict_over_seeds", "verdicts_over_seeds")
# Classes with hypotheses and a bound, and nothing that measures.
BOUND_ALONE = {"PLTrap"}


def statements_in(text: str) -> dict[str, str]:
    """Title of every numbered statement of a page, by label."""
    found = {label: title for title, label in STATEMENT.findall(text)}
    assert len(found) == len(re.findall(rf"\{{prf:(?:{KINDS})\}}", text)), "one has no label"
    return found


def prose_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@functools.cache
def on_pages() -> dict[str, tuple[str, str]]:
    """Title and chapter of every numbered statement of the chapters, by label."""
    found: dict[str, tuple[str, str]] = {}
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for label, title in statements_in(prose_of(notebook)).items():
            assert label not in found, f"{label} is in {notebook.stem} and {found[label][1]}"
            found[label] = (title, notebook.stem)
    return found


def modules_of(package: ModuleType) -> list[ModuleType]:
    names = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [importlib.import_module(each.name) for each in names]


@functools.cache
def in_code() -> dict[str, dict[str, type]]:
    """The classes that have a label of their own, by label and name."""
    found: dict[str, dict[str, type]] = {}
    for package in (lipbook.theorems, lipbook.generalization):
        for module in modules_of(package):
            for name, each in inspect.getmembers(module, inspect.isclass):
                label = each.__dict__.get("label")
                if each.__module__ == module.__name__ and isinstance(label, str):
                    found.setdefault(label, {})[name] = each
    return found


def plain(title: str) -> str:
    """A title without the signs of TeX."""
    return re.sub(r"[$\\{}]", "", title)


def test_the_chapters_have_statements() -> None:
    assert len(on_pages()) > 80 and len({chapter for _, chapter in on_pages().values()}) > 8


@pytest.mark.parametrize("label", sorted(on_pages()))
def test_every_statement_is_one_class_of_the_same_title(label: str) -> None:
    title, chapter = on_pages()[label]
    classes, parts = in_code().get(label, {}), PARTS.get(label, {})
    whole = [each for name, each in classes.items() if name not in parts]
    if label in PART_ALONE:
        assert not whole, f"{label} has a class now: it is no longer one of PART_ALONE"
        return
    assert len(whole) == 1, f"{chapter}: {label} has the classes {[c.__name__ for c in whole]}"
    assert whole[0].title == plain(title)  # type: ignore[attr-defined]


@pytest.mark.parametrize("label", sorted(on_pages()))
def test_every_class_of_a_statement_gives_a_verdict_and_cites_it(label: str) -> None:
    for name, each in in_code().get(label, {}).items():
        assert each.__doc__ and f"`{label}`" in each.__doc__, f"{name} does not cite {label}"
        given = any(callable(getattr(each, way, None)) for way in VERDICTS)
        assert given is (name not in BOUND_ALONE), f"{name} gives {'a' if given else 'no'} verdict"


@pytest.mark.parametrize("label", sorted(PARTS))
def test_the_list_of_parts_is_up_to_date(label: str) -> None:
    for name, title in PARTS[label].items():
        found = in_code()[label][name]
        assert found.title == title != on_pages()[label][0]  # type: ignore[attr-defined]


def test_every_class_belongs_to_a_statement() -> None:
    appendix = (ROOT / "book" / "tools.md").read_text(encoding="utf-8")
    labels = set(on_pages()) | set(statements_in(appendix))
    assert set(in_code()) <= labels


def test_labels_and_titles_are_read_off_a_page() -> None:
    page = (
        "````{prf:theorem} A *name*\n:label: thm-a\n\nText\n````\n\n```{prf:lemma}\n:label: b\n```"
    )
    assert statements_in(page) == {"thm-a": "A *name*", "b": ""}
    assert statements_in("```{prf:definition} Word\n:label: def-a\n```") == {}
    with pytest.raises(AssertionError, match="one has no label"):
        statements_in("```{prf:corollary} Name\nText\n```")
    assert plain(r"For all $\lambda$") == "For all lambda"
