"""The command line as its users meet it: what it prints, refuses and leaves behind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from trial_book import files_below, lipbook

from lipbook import __version__
from lipbook.cli import outcome

HEAVY = ("torch", "papermill", "nbformat", "nbclient", "pandas", "numpy", "IPython", "matplotlib")


@pytest.fixture
def book(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh copy of the trial book, as the current folder."""
    monkeypatch.chdir(book)
    return book


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused: exit code 2, one line on stderr, no trace on disk."""
    before = files_below(Path.cwd())
    assert outcome(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lipbook: ") and err.count("\n") == 1
    assert err.strip().isprintable() and len(err) < 400
    assert files_below(Path.cwd()) == before
    return err.strip()


# ---- help, lists and start-up


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_commands_and_a_first_step(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert outcome(arguments) == 0
    out = capsys.readouterr().out
    for word in ("build", "chapters", "check", "refresh", "run", "Begin with `lipbook chapters`"):
        assert word in out


def test_help_of_run_says_what_a_newcomer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["run", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("-p, --parameter NAME=VALUE", "runs/CHAPTER-<digest", "lipbook chapters", "JSON"):
        assert words in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_chapters_for_a_reader(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["chapters"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trial\n  A trial chapter\n")
    assert "an int in 1..64; default 4" in out
    assert "one of relu | leaky relu | tanh; default relu" in out


def test_chapters_for_a_script(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["chapters", "--json"]) == 0
    (chapter,) = json.loads(capsys.readouterr().out)
    assert list(chapter) == ["name", "title", "path", "parameters"]
    assert chapter["name"] == "trial" and chapter["path"] == "notebooks/trial.ipynb"
    assert chapter["parameters"][0] == {
        "name": "width", "type": "int", "default": 4, "minimum": 1, "maximum": 64,
        "choices": None, "help": "hidden neurons",
    }  # fmt: skip


def test_a_book_without_notebooks_says_so(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    assert outcome(["chapters"]) == 0
    assert "_toc.yml lists no notebook" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["chapters"],
        ["chapters", "--json"],
        ["run", "trial", "-p", "width=0"],
        ["check"],
    ],
)
def test_answers_come_at_once(book: Path, arguments: list[str]) -> None:
    """Nothing heavy is imported, and the quickest of five starts takes less than half a second."""
    done = lipbook(*arguments, cwd=book, python=("-X", "importtime"))
    assert done.returncode == (2 if "run" in arguments else 0)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert imported.isdisjoint(HEAVY)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        lipbook(*arguments, cwd=book)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "must be one of build, certify, chapters, check, refresh, run. Got 'rnu'."),
        (["run"], "Missing argument 'CHAPTER'. See `lipbook run --help`."),
        (["run", "--paeg", "trial"], "No such option '--paeg'"),
        (["chapters", "extra"], "unexpected extra argument (extra)"),
        (["run", "trail"], "`CHAPTER` must be one of trial. Got 'trail'. Did you mean `trial`?"),
        (["run", ""], "`CHAPTER` must be one of trial. Got ''."),
        (["run", "trial\nimport os"], "Got 'trial\\nimport os'."),
        (["run", "notebooks/absent.ipynb"], "`CHAPTER` must be one of trial."),
        (["run", "elsewhere/trial.ipynb"], "`CHAPTER` must be one of trial."),
        (["run", "../../etc/passwd"], "`CHAPTER` must be one of trial."),
        (["refresh", "trail"], "Did you mean `trial`?"),
    ],
)
def test_misuse_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("width", "`-p` must read NAME=VALUE. Got 'width'."),
        ("widht=3", "Got 'widht'. Did you mean `width` or `widths`?"),
        ("width=0", "`width` must be an int in 1..64. Got '0'."),
        ("width=1e3", "`width` must be an int"),
        ("width=" + "9" * 100_000, "`width` must be an int"),
        ("rate=nan", "`rate` must be a float in 0.001..10. Got 'nan'."),
        ("use_bias=1", "`use_bias` must be true or false. Got '1'."),
        ("activation=sine", "`activation` must be one of relu | leaky relu | tanh. Got 'sine'."),
        ("activation=relu'; import os; '", "`activation` must be one of"),
        ('activation="relu"', "`activation` must be one of"),
        ("width=__import__('os').system('touch hacked')", "`width` must be an int"),
        ("__import__('os').system('touch hacked')=1", "`parameter` must be one of width"),
        ("width\nimport os\nx=3", "`parameter` must be one of width"),
        ("=3", "`parameter` must be one of width"),
        (" width=3", "`parameter` must be one of width"),
        ("widths=8,16", "written as JSON. Got '8,16'."),
        ("widths=[8,160]", "`widths` must be a nonempty list, each element an int in 1..64"),
    ],
)
def test_a_bad_parameter_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str], assignment: str, message: str
) -> None:
    assert message in refusal(capsys, "run", "trial", "-p", assignment)


def test_a_parameter_is_given_once(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "run", "trial", "-p", "width=3", "-p", "width=4")
    assert line == "lipbook: `-p width` must be given once. Got it twice."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`-f` must hold lines `name: value`. Got NoneType"),
        ("- width\n", "`-f` must hold lines `name: value`. Got list"),
        ("just words", "`-f` must hold lines `name: value`. Got str"),
        ("width: [1\nrate: 2", "`-f` must be valid YAML. Got 'params.yaml':"),
        ("a: !!python/object/apply:os.system ['touch hacked']", "`-f` must be valid YAML"),
        ("width: \0", "`-f` must be valid YAML"),
        ("{" * 1000, "`-f` must be valid YAML"),
        ("widht: 3", "Did you mean `width` or `widths`?"),
        ("3: 4", "`parameter` must be one of width, rate, use_bias, activation, widths, fault."),
        ("? [1, 2]\n: 4", "`-f` must be valid YAML"),
        ("width: 3.0", "`width` must be an int in 1..64. Got 3.0."),
        ("width: true", "`width` must be an int in 1..64. Got True."),
        ("width: 2020-01-01", "`width` must be an int in 1..64. Got datetime.date(2020, 1, 1)."),
        ("width:", "`width` must be an int in 1..64. Got None."),
        ("rate: .inf", "`rate` must be a float in 0.001..10. Got inf."),
        ("widths: {a: 1}", "`widths` must be a nonempty list"),
        ('activation: "relu\\0"', "Got 'relu\\x00'."),
        ('activation: "a\\nb"', "Got 'a\\nb'."),
    ],
)
def test_a_bad_file_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (book / "params.yaml").write_text(text)
    assert message in refusal(capsys, "run", "trial", "-f", "params.yaml")


def test_a_file_that_cannot_be_read_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "(No such file or directory)" in refusal(capsys, "run", "trial", "-f", "absent.yaml")
    assert "(Is a directory)" in refusal(capsys, "run", "trial", "-f", "notebooks")
    (book / "latin").write_bytes(b"width: \xff")
    assert "(it is no UTF-8 text)" in refusal(capsys, "run", "trial", "-f", "latin")
    assert "`-f` must be a readable" in refusal(capsys, "run", "trial", "-f", "a\0b")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("notebooks", "which holds other files. Choose another folder with -o."),
        ("_toc.yml", "`-o` must be a folder. Got '_toc.yml', which is a file."),
        ("_toc.yml/run", "`-o` must be a folder that can be written. Got '_toc.yml/run'"),
        (".", "which holds other files"),
        ("", "`-o` must be the path of a folder. Got ''."),
        ("a\0b", "`-o` must be the path of a folder. Got 'a\\x00b'."),
        ("x" * 300, "(File name too long)"),
    ],
)
def test_a_bad_output_folder_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    assert message in refusal(capsys, "run", "trial", "--no-page", "-o", out)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder no one can write")
def test_a_folder_that_cannot_be_written_is_one_line(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, "run", "trial", "--no-page", "-o", "/proc/lipbook")
    assert "`-o` must be a folder that can be written. Got '/proc/lipbook'" in line


def test_outside_a_checkout_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lipbook.running.checkout.is_root", lambda folder: False)
    line = refusal(capsys, "chapters")
    assert "must be inside a checkout of the book" in line and "clone" in line


def test_build_needs_jupyter_book(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for arguments in (["build"], ["run", "trial"]):
        assert "`build` must find Jupyter Book 1." in refusal(capsys, *arguments)


def test_build_goes_into_a_folder(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "build", "-o", "_toc.yml")
    assert line == "lipbook: `--out` must be a folder. Got '_toc.yml', which is a file."
