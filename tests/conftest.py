"""What several test files share."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trial_book import lipbook, make_book

ROOT = Path(__file__).parents[1]

sys.path.insert(0, str(ROOT / "book" / "_ext"))
# Whoever starts the tests in the background hands down an ignored Ctrl-C; the tests of interrupts
# need the usual one, here and in the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build a book strictly, as CI does: every warning is listed and fails the build."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source)]
    command += ["--path-output", str(out), "-W", "-n", "--keep-going"]
    return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")


@pytest.fixture(scope="session")
def book_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built book; built once for all tests."""
    out = tmp_path_factory.mktemp("book")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return out / "_build" / "html"


@pytest.fixture(scope="session")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial book with stored outputs, made once for all tests; copy it before changing it."""
    book = make_book(tmp_path_factory.mktemp("trial") / "book")
    done = lipbook("refresh", cwd=book)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("trial: stored (") and done.stderr.count("\n") == 1
    return book


@pytest.fixture
def book(refreshed: Path, tmp_path: Path) -> Path:
    """A fresh copy of the trial book."""
    return Path(shutil.copytree(refreshed, tmp_path / "book"))
