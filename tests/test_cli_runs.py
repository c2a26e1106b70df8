"""Runs, refreshes and checks from the command line: what they print and what they leave behind."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trial_book import child_environment, edit, files_below, lipbook

from lipbook import __version__
from lipbook.cli import outcome


@pytest.fixture
def book(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh copy of the trial book, as the current folder."""
    monkeypatch.chdir(book)
    return book


def test_a_run_leaves_notebook_and_record_and_says_what_changed(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["run", "trial", "-p", "width=8", "-p", "rate=0.5", "--no-page"]) == 0
    out, err = capsys.readouterr()
    assert err == "Running trial …\n"
    (folder,) = (book / "runs").iterdir()
    assert out.splitlines() == [
        "What differs from the published run:",
        "  parameters set otherwise",
        "    width: 4 → 8",
        "  values",
        "    risk: 1 → 2",
        "",
        f"runs/{folder.name}/trial.ipynb",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "trial.ipynb"]
    assert folder.name.startswith("trial-") and len(folder.name) == len("trial-") + 8
    result = json.loads((folder / "record.json").read_text())["result"]
    assert result["parameters"]["width"] == 8 and result["values"]["risk"]["value"] == 2.0
    assert str(book) not in (folder / "trial.ipynb").read_text()
    assert sorted(path.name for path in book.iterdir()) == [
        "_config.yml", "_toc.yml", "notebooks", "runs",
    ]  # fmt: skip


def test_the_same_parameters_go_to_the_same_folder_again(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for spelling in ("rate=0.001", "rate=1e-3"):
        assert outcome(["run", "trial", "-p", spelling, "--no-page"]) == 0
    (folder,) = (book / "runs").iterdir()
    assert outcome(["run", "notebooks/trial.ipynb", "--no-page", "-o", f"runs/{folder.name}"]) == 0
    assert "Nothing differs from the published run" in capsys.readouterr().out


def test_the_command_line_wins_over_the_file(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (book / "params.yaml").write_text("width: 9\nrate: 1e-3\nactivation: leaky relu\n")
    arguments = ["-f", "params.yaml", "-p", "width=3", "-o", "a {b} ü", "--no-page", "--json"]
    assert outcome(["run", "trial", *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["out"] == "a {b} ü" and answer["page"] is None
    assert Path(answer["notebook"]).is_file() and Path(answer["record"]).is_file()
    parameters = answer["parameters"]
    assert (parameters["width"], parameters["rate"]) == (3, 0.001)
    assert parameters["activation"] == "leaky relu" and parameters["use_bias"] is True
    kinds = {each["kind"] for each in answer["differences"]}
    assert kinds == {"parameter", "value"}


def test_without_a_published_run_it_says_so(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(book / "notebooks" / "records")
    assert outcome(["run", "trial", "--no-page", "-o", "out"]) == 0
    assert "There is no published run to compare with." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("error", 'Cell [4] failed, which begins `if fault == "error":`. ValueError: `fault` must'),
        ("exit", "The kernel died: it may have run out of memory, or the chapter ended it."),
        ("silent", "The chapter ended without a record: its last cell must be chapter.close()."),
    ],
)
def test_a_run_that_fails_keeps_the_notebook(
    book: Path, capfd: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    assert outcome(["run", "trial", "-p", f"fault={fault}", "--no-page", "-o", "out"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and "Traceback" not in err
    first, last = err.splitlines()
    assert first == "Running trial …" and message in last and "out/trial.ipynb" in last
    assert [path.name for path in (book / "out").iterdir()] == ["trial.ipynb"]
    if fault == "error":  # a second try may go to the same folder, and clears it of the first
        assert outcome(["run", "trial", "--no-page", "-o", "out"]) == 0
        assert {path.name for path in (book / "out").iterdir()} == {"trial.ipynb", "record.json"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(book: Path, tmp_path: Path, number: int) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = files_below(book)
    process = subprocess.Popen(
        [sys.executable, "-m", "lipbook", "run", "trial", "-p", "fault=sleep", "--no-page"],
        cwd=book,
        env={**child_environment(), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: kernels(scratch) != [])
    time.sleep(1.0)  # into the cell that sleeps
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert out == "" and "Traceback" not in err
    wait_for(lambda: kernels(scratch) == [])
    assert files_below(book) == before and not (book / "runs").exists()
    assert not [path for path in book.iterdir() if path.name.startswith(".")]


def kernels(scratch: Path) -> list[str]:
    """Return the kernels whose connection file lies in a folder."""
    table = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    lines = table.stdout.splitlines()
    return [line for line in lines if "ipykernel_launcher" in line and str(scratch) in line]


def wait_for(condition: object, seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


# ---- refresh and check


def test_a_second_refresh_changes_no_byte(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(book)
    assert outcome(["refresh"]) == 0
    assert capsys.readouterr().err.startswith("trial: unchanged (")
    assert files_below(book) == before


def test_a_refresh_that_fails_leaves_what_was_stored(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = book / "notebooks" / "trial.ipynb"
    text = path.read_text().replace('str = \\"none\\"', 'str = \\"error\\"')
    path.write_text(text)
    before = files_below(book)
    assert outcome(["refresh", "trial"]) == 1
    err = capfd.readouterr().err
    assert "lipbook: trial: Cell [3] failed, which begins `if fault ==" in err
    assert "Traceback" not in err
    assert files_below(book) == before


def test_check_is_content_after_a_refresh(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["check"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert outcome(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_check_lists_every_fault(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(notebook: dict) -> None:  # type: ignore[type-arg]
        notebook["cells"][4]["source"] = "print(1)"

    edit(book / "notebooks" / "trial.ipynb", change)
    (book / "notebooks" / "stray.ipynb").write_text("{}")
    assert outcome(["check"]) == 1
    out = capsys.readouterr().out
    assert "notebooks/trial.ipynb: stored outputs were made by other code (digest " in out
    assert "Run `lipbook refresh trial`." in out
    assert "notebooks/stray.ipynb: belongs to no chapter of _toc.yml. Remove it." in out
    assert outcome(["check", "--json"]) == 1
    faults = json.loads(capsys.readouterr().out)
    assert {tuple(fault) for fault in faults} == {("file", "message")}


def test_a_reader_that_goes_away_is_no_error(book: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m lipbook chapters --json | head -c 1"
    done = subprocess.run(
        ["sh", "-c", command], cwd=book, env=child_environment(), capture_output=True, check=False
    )
    assert done.stdout == b"[" and done.stderr == b""


def test_the_command_is_installed_or_runs_as_a_module(book: Path) -> None:
    done = lipbook("--version", cwd=book)
    assert done.returncode == 0 and __version__ in done.stdout
