"""The Chapter object, inside a real IPython shell but without a kernel."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from lipbook import records
from lipbook.notebook import Chapter, summary
from lipbook.parameters import FIRST_LINE, ParameterError
from lipbook.provenance import provenance, record_path
from lipbook.theorems.verdict import Hypothesis, Verdict

CELL = f"""{FIRST_LINE}
width: int = 64  # hidden neurons; 1..4096
rate: float = 0.5  # step size; 0.001..10
activation: str = "relu"  # activation; relu | tanh
"""


class Notebook:
    """A shell whose outputs are kept."""

    def __init__(self) -> None:
        self.shell = InteractiveShell.instance()
        self.outputs: list[Any] = []

    def run(self, source: str) -> Any:
        """Run one cell and return what its last expression gave; raise what it raised."""
        with capture_output() as captured:
            result = self.shell.run_cell(source, store_history=True)
        self.outputs = captured.outputs
        result.raise_error()
        return result.result

    def texts(self, mime: str = "text/plain") -> list[str]:
        """Return the texts of one kind that the last cell displayed."""
        return [output.data[mime] for output in self.outputs]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """Return a fresh shell; no record is asked for."""
    monkeypatch.delenv("LIPBOOK_RECORD", raising=False)
    monkeypatch.delenv("LIPBOOK_RECORD_DIR", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    InteractiveShell.clear_instance()
    yield Notebook()
    InteractiveShell.clear_instance()


@pytest.fixture
def opened(notebook: Notebook) -> Notebook:
    """Return a shell in which a chapter has been opened."""
    notebook.run(CELL)
    notebook.run("from lipbook.notebook import Chapter, fmt\nchapter = Chapter('trial')")
    return notebook


def test_outside_a_notebook_the_remedy_is_named() -> None:
    InteractiveShell.clear_instance()
    with pytest.raises(RuntimeError, match=r"must be made in a notebook.*lipbook run CHAPTER"):
        Chapter("trial")


def test_a_name_is_a_slug() -> None:
    with pytest.raises(ValueError, match=r"`name` must be letters, digits and hyphens"):
        Chapter("../trial")


def test_the_parameters_cell_comes_first(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linecache.cache", {})  # other tests' cells
    with pytest.raises(RuntimeError, match=r"`parameters cell` must have been run"):
        notebook.run("from lipbook.notebook import Chapter\nChapter('trial')")


def test_parameters_are_the_declared_ones(opened: Notebook) -> None:
    expected = {"width": 64, "rate": 0.5, "activation": "relu"}
    assert opened.run("chapter.parameters") == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("width = 0", "`width` must be an int in 1..4096. Got 0."),
        ("rate = float('nan')", "`rate` must be a float in 0.001..10. Got nan."),
        ("activation = 'sine'", "`activation` must be one of relu | tanh. Got 'sine'."),
        ("del width", "`width` must have a value. Got none: it was deleted."),
        (CELL.replace("= 64", "= 0"), "`width` must be an int in 1..4096. Got 0."),
    ],
)
def test_a_value_edited_by_hand_or_injected_is_enforced(
    notebook: Notebook, source: str, message: str
) -> None:
    notebook.run(CELL)
    notebook.run(f"# Parameters\n{source}" if not source.startswith("#") else source)
    with pytest.raises(ParameterError) as refusal:
        notebook.run("from lipbook.notebook import Chapter\nChapter('trial')")
    assert str(refusal.value) == message


def test_without_a_history_the_cell_is_found_too(notebook: Notebook) -> None:
    """nbval stores no history."""
    source = CELL.replace("4096", "4095")
    notebook.shell.run_cell(source, store_history=False)
    notebook.shell.run_cell(source.replace("= 64", "= 0"), store_history=False)
    assert not any(each.startswith(FIRST_LINE) for each in notebook.shell.user_ns["In"])
    with pytest.raises(ParameterError, match=r"must be an int in 1..4095. Got 0."):
        notebook.run("from lipbook.notebook import Chapter\nChapter('trial')")


def test_checked_values_are_written_back(notebook: Notebook) -> None:
    notebook.run(CELL)
    notebook.run("# Parameters\nrate = 1")
    notebook.run("from lipbook.notebook import Chapter\nchapter = Chapter('trial')")
    assert type(notebook.run("rate")) is float


def test_the_latest_declarations_count(notebook: Notebook) -> None:
    notebook.run(CELL)
    notebook.run(CELL.replace("4096", "8").replace("64", "8"))
    notebook.run("from lipbook.notebook import Chapter\nchapter = Chapter('trial')")
    assert notebook.run("chapter.parameters['width']") == 8


def test_values_keep_what_they_were_given(opened: Notebook) -> None:
    assert opened.run("chapter.value('bound', 7.75, rtol=1e-3, unit='ppm', meaning='b')") == 7.75
    opened.run("chapter.value('open', float('inf'))")
    values = opened.run("chapter.record()")["result"]["values"]
    entry = {"value": 7.75, "rtol": 1e-3, "atol": 0.0, "unit": "ppm", "meaning": "b"}
    assert values["bound"] == entry
    assert values["open"]["value"] == "inf"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("chapter.value('a b', 1)", "`name` must be letters, digits, _ and -. Got 'a b'."),
        ("chapter.value('a', 1, rtol=-1)", "`rtol` must be at least 0. Got -1."),
        ("chapter.value('a', 1, atol=float('nan'))", "`atol` must be at least 0. Got nan."),
        (
            "chapter.value('a', 1); chapter.value('a', 2)",
            "`name` must be new among the chapter's values. Got 'a' again.",
        ),
        ("chapter.table([])", "`rows` must hold at least one row"),
        ("chapter.table([{'a': '1'}, {'b': '1'}])", "`rows` must all have the columns ['a']"),
        ("chapter.table([{'': '1'}])", "`rows` must have a name for every column"),
    ],
)
def test_misuse_is_refused(opened: Notebook, source: str, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        opened.run(source)
    assert message in str(refusal.value)


def test_a_table_holds_text(opened: Notebook) -> None:
    with pytest.raises(TypeError, match=r"`rows` must hold text, made by fmt. Got float in 'a'"):
        opened.run("chapter.table([{'a': 1.0}])")


def test_by_hand_a_cell_may_run_again_unattended_it_may_not(
    opened: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened.run("chapter.value('a', 1)")
    opened.run("chapter.value('a', 2)")
    assert opened.run("chapter.record()")["result"]["values"]["a"]["value"] == 2
    monkeypatch.setenv("LIPBOOK_RECORD", str(tmp_path / "record.json"))
    with pytest.raises(ValueError, match=r"must be new among the chapter's values"):
        opened.run("chapter.value('a', 3)")


def verdict(margin: float = 0.5) -> Verdict:
    """Return a verdict whose second hypothesis holds by `margin`."""
    hypotheses = (
        Hypothesis("H1", "the loss is smooth", True),
        Hypothesis("H2", "the step is short", margin > 0, None if margin > 0 else 7, margin),
    )
    return Verdict("thm-path", "Path length", "path", hypotheses, 2.0, 1.5, "seed 0")


def test_a_data_file_is_kept_by_its_digest(
    opened: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "times.json").write_text("[1]", encoding="utf-8")
    assert opened.run("chapter.file('times.json')") == Path("times.json")
    entry = opened.run("chapter.record()")["result"]["values"]["file-times"]
    assert entry["file"] == "times.json"
    assert entry["value"] == hashlib.sha256(b"[1]").hexdigest()
    for path in ("absent.json", str(tmp_path / "times.json")):
        with pytest.raises(ValueError, match=r"`path` must name a file beside this notebook"):
            opened.run(f"chapter.file({path!r})")


def test_a_verdict_is_shown_and_kept(opened: Notebook) -> None:
    opened.shell.user_ns.update(good=verdict(), bad=verdict(-1.0))
    opened.run("chapter.verdict(good, key='good')\nNone")
    (text,) = opened.texts()
    assert f"{verdict().line()} Slack 0.5." in text and "H2" in text and "**" not in text
    assert "**Verdict.**" in opened.texts("text/markdown")[0]
    opened.run("chapter.verdict(bad, key='bad')\nNone")
    assert "fails at step 7" in opened.texts()[0] and "Slack" not in opened.texts()[0]
    kept = opened.run("chapter.record()")["result"]["verdicts"]
    assert (kept["good"]["applies"], kept["bad"]["applies"]) == (True, False)
    assert kept["good"]["rtol"] == records.VERDICT_RTOL


def test_a_slack_within_rounding_reads_alike_everywhere() -> None:
    from lipbook.wording import slack_words

    for measured in (2.0, 2.0 + 1e-15, 2.0 - 1e-15):
        attained = Verdict("t", "T", "q", (), 2.0, measured)
        assert slack_words(attained) == " Slack 0: the bound is attained."
    assert slack_words(Verdict("t", "T", "q", (), math.inf, 1.0)) == ""


def test_a_sentence_has_rounded_numbers(opened: Notebook) -> None:
    opened.run("chapter.value('bound', 7.7456)")
    opened.run("chapter.say(r'At most **{bound}**, $a_{width}$, `{k}` of {n}.', k=1, n=2)")
    assert opened.texts() == [r"At most 7.75, a_{width}, 1 of 2."]
    assert opened.texts("text/markdown") == [r"At most **7.75**, $a_{width}$, `1` of 2."]


def test_a_table_is_html_and_text(opened: Notebook) -> None:
    opened.run("chapter.table([{'bound': '<x>', 'value': '1'}], caption='Bounds')")
    html, text = opened.texts("text/html")[0], opened.texts()[0]
    assert '<th scope="col">value</th>' in html and '<th scope="row">&lt;x&gt;</th>' in html
    assert "<caption>Bounds</caption>" in html
    assert text == "Bounds\nbound  value\n<x>    1"


PLOT = """
from matplotlib import pyplot as plt
fig, ax = plt.subplots()
ax.plot([0, 1, 2], [3, 1, 2], color="#1b1b1d")
ax.set_xlabel("step")
chapter.figure(fig, name="{name}", caption="A line", alt="A <line> & more", data={data})
"""


def test_a_figure_is_shown_closed_and_summarised(opened: Notebook) -> None:
    opened.run(PLOT.format(name="line", data="{'y': [3, 1, 2, float('inf')]}"))
    (output,) = opened.outputs
    assert output.data["text/plain"] == "Figure: A <line> & more"
    meta = {"name": "fig-line", "caption": "A line", "alt": "A <line> & more"}
    assert output.metadata == {"image/svg+xml": meta}
    assert opened.run("plt.get_fignums()") == []
    figures = opened.run("chapter.record()")["result"]["figures"]
    assert figures["line"]["series"]["y"] == {
        "n": 4, "finite": 3, "min": 1.0, "max": 3.0, "mean": 2.0, "first": 3.0, "last": "inf",
    }  # fmt: skip


@pytest.mark.parametrize("argument", ["caption", "alt", "data"])
def test_a_figure_needs_caption_alt_and_data(opened: Notebook, argument: str) -> None:
    call = {"caption": "c", "alt": "a", "data": {"y": [1]}, argument: ""}
    opened.shell.user_ns["call"] = call
    with pytest.raises(ValueError, match=f"`{argument}` must not be empty. Got '' for figure f"):
        opened.run("chapter.figure(None, 'f', **call)")


def test_a_summary_needs_real_numbers() -> None:
    with pytest.raises(TypeError, match=r"`data` must hold real numbers. Got others in 'y'"):
        summary(["a"], "y")
    assert summary([], "y") == {"n": 0, "finite": 0}
    assert summary(math.nan, "y") == {"n": 1, "finite": 0, "first": "nan", "last": "nan"}
    torch = pytest.importorskip("torch")
    assert summary(torch.ones(2, 2, requires_grad=True), "y")["n"] == 4
    assert summary(np.arange(4).reshape(2, 2), "y")["mean"] == 1.5


def test_the_record_is_written_where_the_environment_says(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    monkeypatch.setenv("LIPBOOK_RECORD", str(path))
    notebook.run(CELL)
    notebook.run("from lipbook.notebook import Chapter\nchapter = Chapter('trial')")
    notebook.run("chapter.value('bound', 1.0)\nNone")
    notebook.run("chapter.close()")
    assert notebook.texts() == ["Record: 1 value, 0 verdicts, 0 figures."]
    record = records.load(path)
    assert record["result"]["chapter"] == "trial"
    assert "lipbook.parameters" in record["result"]["modules"]
    assert not {"lipbook", "lipbook.notebook"} & set(record["result"]["modules"])
    assert json.loads(path.read_text()) == record
    with pytest.raises(ValueError, match=r"`chapter.close\(\)` must be the last call. Got 'late'"):
        notebook.run("chapter.value('late', 1.0)")


def test_the_record_may_go_to_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIPBOOK_RECORD", raising=False)
    monkeypatch.setenv("LIPBOOK_RECORD_DIR", str(tmp_path))
    assert record_path("trial") == tmp_path / "trial.json"


def test_provenance_is_json(opened: Notebook) -> None:
    record = opened.run("chapter.record()")
    found = json.loads(json.dumps(record["provenance"]))
    assert {"versions", "python", "platform", "cpu", "threads", "started_at", "host"} <= set(found)
    assert found["duration_s"] >= 0
    assert provenance.__doc__ is not None
