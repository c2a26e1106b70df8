"""The claims page: from each claim to theorems, code, tests and evidence, and back."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from conftest import ROOT
from lipbook_sphinx.catalogue import catalogue
from lipbook_sphinx.claims import STATUSES, seen

PAGE = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
CLAIMS = {
    name: dict(re.findall(r"^:(\w+): (.*)$", options, flags=re.MULTILINE))
    for name, options in re.findall(r":::\{claim\} (C\d)\n((?::\w+: .*\n)+)", PAGE)
}
BOOK = functools.cache(lambda: catalogue(ROOT))
SHOWN = ("proved and observed", "observed only")


def labels_of(name: str) -> list[str]:
    return CLAIMS[name].get("theorems", "").split()


def test_every_claim_has_a_chain() -> None:
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 7)]
    assert all(options["status"] in STATUSES for options in CLAIMS.values())


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_chain_ends_in_code_and_tests(name: str) -> None:
    known = BOOK()
    for label in labels_of(name):
        assert known[label].code, f"no class has the label {label}"
        assert known[label].tests, f"no test uses {known[label].code}"


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_what_counts_as_shown_was_seen(name: str) -> None:
    known, status = BOOK(), CLAIMS[name]["status"]
    if status.startswith("proved"):
        assert labels_of(name)
    if status == "proved and observed":
        verdicts = [v for label in labels_of(name) for _, v in known[label].verdicts]
        assert any(verdict["applies"] for verdict in verdicts)
    if status in SHOWN:
        assert re.search(rf"\{{claim\}} {name}\n.*?\{{record\}}`", PAGE, flags=re.DOTALL)


def test_labels_in_code_are_statements_of_the_book() -> None:
    pages = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for label, entry in BOOK().items():
        assert f":label: {label}" in text, f"{entry.code} belongs to no statement"


def test_a_catalogue_is_read_from_files_alone(tmp_path: Path) -> None:
    for folder in ("lipbook/theorems", "tests", "notebooks/records"):
        (tmp_path / folder).mkdir(parents=True)
    code = 'import nowhere\nclass Found:\n    label = "thm-found"\nclass Other:\n    title = "x"\n'
    (tmp_path / "lipbook/theorems/some.py").write_text(code)
    (tmp_path / "tests/test_some.py").write_text("assert theorems.Found()\n")
    (tmp_path / "tests/test_other.py").write_text("# Found\nassert Founded\n")
    [(label, entry)] = catalogue(tmp_path).items()
    assert (label, entry.code) == ("thm-found", ["lipbook.theorems.some.Found"])
    assert entry.tests == ["test_some.py"] and entry.verdicts == [] and entry.hypotheses == []


def test_verdicts_are_summed_up() -> None:
    def verdict(applies: bool, bound: object, measured: object) -> dict[str, object]:
        return {"applies": applies, "bound": bound, "measured": measured}

    found = seen([verdict(True, 3.0, 1.0), verdict(True, 5.0, 4.5), verdict(False, 1.0, 9.0)])
    assert found == (": applies in 2 of 3; with the least slack, 4.5 measured against 5 promised.")
    assert seen([verdict(False, "inf", 1.0)]) == ": applies in 0 of 1."
    assert seen([verdict(True, None, 1.0)]) == ": applies in 1 of 1."
