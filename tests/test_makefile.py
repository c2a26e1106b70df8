"""The set-up behind every make target, tried with a stand-in for Python that only takes notes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Behaves like a Python as far as the Makefile asks; `pip install` is noted in log.txt, and fails
# while there is a file named `offline`.
STAND_IN = r"""#!/bin/sh
case "$1 $2" in
  "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "venv" >> log.txt ;;
  "-m pip") case "$*" in *" install "*)
    echo "pip ${*##*constraints.txt }" >> log.txt; [ ! -e offline ] ;; esac ;;
  "-c "*) case "$2" in print*) echo ok ;; esac ;;
  "--version ") echo "Python 3.11.99" ;;
  *) echo "$*" >> log.txt ;;
esac
"""


class Folder:
    """A checkout with nothing but what the set-up reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, path / name)
            os.utime(path / name, (1_700_000_000, 1_700_000_000))
        self.python = path / "python-to-use"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def make(self, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        environment["PATH"] = path or environment["PATH"]
        return subprocess.run(
            ["make", *arguments], cwd=self.path, env=environment, capture_output=True, text=True
        )

    def log(self) -> list[str]:
        """What the stand-in was asked for since the last look."""
        noted = self.path / "log.txt"
        lines = noted.read_text().splitlines() if noted.exists() else []
        noted.unlink(missing_ok=True)
        return lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a folder with spaces")


def pinned_torch() -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith("torch=="))


def test_torch_goes_in_first_and_alone_and_nothing_is_done_twice(folder: Folder) -> None:
    first = folder.make("setup", f"PYTHON={folder.python}")
    assert first.returncode == 0, first.stderr
    assert folder.log() == [
        "venv",
        f"pip {pinned_torch()}",
        "pip -e .[book,test,browser,dev]",
    ]
    again = folder.make("setup", f"PYTHON={folder.python}")
    assert again.returncode == 0 and folder.log() == []


def test_what_the_benchmarks_need_is_installed_once(folder: Folder) -> None:
    folder.make("setup", f"PYTHON={folder.python}")
    folder.log()
    for installed in (["pip -e .[book,test,browser,dev,bench]"], []):
        assert folder.make("bench", "ARGS=--quick").returncode == 0
        assert folder.log() == [*installed, "-m benchmarks.lipschitz --quick"]


def test_an_interrupted_set_up_is_not_taken_for_done(folder: Folder) -> None:
    (folder.path / "offline").touch()
    assert folder.make("setup", f"PYTHON={folder.python}").returncode != 0
    assert not (folder.path / ".venv/.ready").exists()
    (folder.path / "offline").unlink()
    folder.log()
    assert folder.make("lint").returncode == 0
    assert [line.split()[0] for line in folder.log()] == ["pip", "pip", "-m", "-m"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_new_requirements_are_installed(folder: Folder, name: str) -> None:
    folder.make("setup", f"PYTHON={folder.python}")
    folder.log()
    os.utime(folder.path / name, (4_000_000_000, 4_000_000_000))
    assert folder.make("setup").returncode == 0
    assert [line.split()[0] for line in folder.log()] == ["pip", "pip"]


def test_a_moved_folder_gets_a_new_environment(folder: Folder) -> None:
    folder.make("setup", f"PYTHON={folder.python}")
    folder.log()
    folder.path = folder.path.rename(folder.path.with_name("elsewhere"))
    result = folder.make("setup", f"PYTHON={folder.path / 'python-to-use'}")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in folder.log()] == ["venv", "pip", "pip"]


def test_a_python_that_does_not_run_is_passed_over(folder: Folder, tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    shutil.copy(folder.python, shims / "python3.12")
    for shim in shims.iterdir():
        shim.chmod(0o755)
    result = folder.make("setup", path=f"{shims}:{os.environ['PATH']}")
    assert result.returncode == 0, result.stderr
    assert "from python3.12 (Python 3.11.99)" in result.stdout


def test_no_python_is_said_plainly(folder: Folder) -> None:
    result = folder.make("book", "PYTHON=python-of-tomorrow")
    assert result.returncode == 2
    assert "no Python to make .venv from. Tried: python-of-tomorrow." in result.stderr
    assert "apt install python3-venv" in result.stderr
    assert not (folder.path / ".venv").exists()


def test_plain_make_lists_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "test-all", "check", "refresh", "lab", "bench", "clean"):
        assert re.search(rf"^{target}:", makefile, re.M)
        assert re.search(rf"^make {target}\b", listing, re.M)
