"""`lipbook certify` as its users meet it: what it prints, refuses, and does on Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from network_writers import (
    arrays_of,
    gemm_model,
    pairs_of,
    tensors_of,
    write_examples,
    write_npz,
    write_onnx,
    write_safetensors,
    write_torch,
)
from trial_book import child_environment, files_below, lipbook

from lipbook import __version__, cli
from lipbook.certify import work
from lipbook.certify.report import rounded_text
from lipbook.cli import outcome
from lipbook.lipschitz import Ball, bracket
from lipbook.lipschitz.bracketing import METHODS
from lipbook.lipschitz.deep import deep_bracket

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network of each depth, as the current one."""
    monkeypatch.chdir(tmp_path)
    write_examples(tmp_path)
    return tmp_path


def refusal(capsys: Capture, *arguments: str) -> str:
    """Run a command that must be refused: exit code 2, one line on stderr, nothing else."""
    before = files_below(Path.cwd())
    assert outcome(["certify", *arguments]) == 2, arguments
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lipbook: ") and err.count("\n") == 1
    assert err.strip().isprintable() and len(err) < 500
    assert files_below(Path.cwd()) == before
    return err.strip()


def answer(capsys: Capture, *arguments: str) -> dict:
    """Run with --json; the tree that comes back."""
    assert outcome(["certify", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out, parse_constant=lambda name: pytest.fail(name))


def rows(capsys: Capture, *arguments: str) -> dict[str, str]:
    """Run for a reader; the lines that come back, by their first word."""
    assert outcome(["certify", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert list(found) == ["network", "domain", "lower", "upper", "gap", "method", "basis",
                           "witness", "time"]  # fmt: skip
    return found


# ---- answers


def test_an_exact_answer_for_a_reader(capsys):
    found = rows(capsys, "kink.npz")
    assert found["network"] == "1 → 3 → 1, relu (numpy archive kink.npz)"
    assert found["domain"] == "all of ℝ"
    assert Fraction(found["lower"]) <= 2 <= Fraction(found["upper"])
    assert found["lower"].startswith("1.99999") and found["upper"].startswith("2.00000")
    assert "exact to a relative gap of 1e-06" in found["gap"]
    assert found["method"] == "sort" and "exact order" in found["basis"]
    assert found["witness"].startswith("x ≈ (-2), gradient norm 1.99999")
    assert found["witness"].endswith("1 of 3 neurons active")


def test_an_exact_answer_for_a_script(capsys):
    found = answer(capsys, "plane.pt", "--domain=-1,2", "--rel-gap=1e-8", "--seed=3")
    (weight, bias), (output, _) = pairs_of(arrays_of(2, 6, 1))
    ours = bracket(weight, bias, output, domain=(-1.0, 2.0), rel_gap=1e-8, seed=3)
    assert (found["lower"], found["upper"], found["gap"]) == (ours.lower, ours.upper, ours.gap)
    assert found["exact"] and found["verified"] and found["ended"] == "exact"
    assert found["network"] == {"source": "torch state_dict", "layers": ["0", "2"],
                                "widths": [2, 6, 1], "activation": "relu"}  # fmt: skip
    assert found["domain"] == {"kind": "box", "low": [-1.0, -1.0], "high": [2.0, 2.0]}
    witness = found["witness"]
    assert tuple(witness["point"]) == ours.witness.point
    assert witness["pattern"] == ours.witness.pattern.astype(int).tolist()
    assert witness["active"] == sum(witness["pattern"])
    assert witness["gradient_norm"] == ours.witness.gradient_norm
    assert (found["rel_gap"], found["seed"], found["time_limit"]) == (1e-8, 3, 60.0)
    assert found["version"] == __version__ and found["file"] == "plane.pt"


def test_deep_networks_get_bounds(capsys):
    found = answer(capsys, "deep.pt", "--domain=ball:2@0,1,0")
    ours = deep_bracket(pairs_of(arrays_of(3, 5, 4, 2)), domain=Ball((0.0, 1.0, 0.0), 2.0))
    assert (found["lower"], found["upper"]) == (ours.lower, ours.upper)
    assert not found["exact"] and found["ended"] == "bounds" and found["method"] == "joint sdp"
    assert found["domain"] == {"kind": "ball", "center": [0.0, 1.0, 0.0], "radius": 2.0}
    assert len(found["witness"]["pattern"]) == 9 and found["network"]["widths"] == [3, 5, 4, 2]
    told = rows(capsys, "deep.pt", "--domain=ball:2")
    assert "bounds, not exact" in told["gap"] and told["domain"] == "ball of radius 2 about 0"
    assert "of 9 neurons active" in told["witness"]


def test_one_affine_map(capsys):
    found = answer(capsys, "affine.npz")
    assert found["lower"] <= 5.0 <= found["upper"] and found["exact"]
    assert found["network"]["activation"] is None and found["witness"]["pattern"] is None
    assert rows(capsys, "affine.npz")["network"] == "2 → 1, affine (numpy archive affine.npz)"


def test_the_activation_comes_from_the_file_or_the_caller(capsys):
    assert answer(capsys, "tanh.onnx")["network"]["activation"] == "tanh"
    assert answer(capsys, "tanh.onnx", "--activation=tanh")["network"]["activation"] == "tanh"
    assert answer(capsys, "kink.npz", "--activation", "leaky relu")["network"] == {
        "source": "numpy archive", "layers": ["W", "A"], "widths": [1, 3, 1],
        "activation": "leaky relu",
    }  # fmt: skip
    line = refusal(capsys, "tanh.onnx", "--activation=relu")
    assert "agree with the activation that is asked for, 'relu'" in line and "'tanh'" in line
    smooth = answer(capsys, "tanh.onnx", "--domain=-3,3")
    assert smooth["exact"] and smooth["witness"]["pattern"] is None
    assert "active" not in rows(capsys, "tanh.onnx", "--domain=-3,3")["witness"]


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors", "onnx"])
def test_every_kind_of_file_gives_one_answer(capsys, folder, suffix):
    arrays = arrays_of(2, 6, 1)
    path = folder / f"net.{suffix}"
    write = {
        "npz": lambda: write_npz(path, arrays),
        "pt": lambda: write_torch(path, tensors_of(arrays)),
        "safetensors": lambda: write_safetensors(path, tensors_of(arrays)),
        "onnx": lambda: write_onnx(path, gemm_model(arrays)),
    }
    write[suffix]()
    found, ours = answer(capsys, path.name), answer(capsys, "plane.pt")
    assert (found["lower"], found["upper"]) == (ours["lower"], ours["upper"])


@pytest.mark.parametrize("method", METHODS)
def test_methods_answer_or_say_why_not(capsys, method):
    for file in ("kink.npz", "plane.pt", "tanh.onnx"):
        arguments = [file, f"--method={method}", "--domain=-1,1"]
        if outcome(["certify", *arguments, "--json"]) == 0:
            out, _ = capsys.readouterr()
            assert json.loads(out)["method"] == method
        else:
            capsys.readouterr()
            assert f"{method!r} needs a" in refusal(capsys, *arguments)


def test_long_points_and_boxes_are_shortened_for_readers(capsys, folder):
    write_torch(folder / "wide.pt", tensors_of(arrays_of(9, 4, 3, 1)))
    sides = ",".join(f"{-i}:{i + 1}" for i in range(9))
    found = rows(capsys, "wide.pt", f"--domain={sides}")
    assert found["domain"].startswith("box [0, 1] × [-1, 2] × ")
    assert found["domain"].endswith("[-5, 6] × … (9 in all)")
    assert "… 3 more)" in found["witness"]
    assert len(answer(capsys, "wide.pt", f"--domain={sides}")["witness"]["point"]) == 9


def test_a_network_that_is_constant(capsys, folder):
    write_npz(folder / "zero.npz", {"W": [[0.0]], "b": [1.0], "A": [2.0]})
    found = answer(capsys, "zero.npz")
    assert found["lower"] == found["upper"] == found["gap"] == 0.0 and found["exact"]
    assert rows(capsys, "zero.npz")["upper"] == "0"


def test_an_upper_bound_beyond_all_floats_is_null(capsys, folder):
    big = {f"{2 * i}.weight": np.full((2, 2), 1e149) for i in range(3)}
    write_npz(folder / "big.npz", big)
    found = answer(capsys, "big.npz")
    assert found["upper"] is None and found["gap"] is None and not found["exact"]
    assert rows(capsys, "big.npz")["upper"] == "∞"


# ---- numbers


def test_digits_are_true():
    generator = np.random.default_rng(0)
    values = [*np.exp(generator.normal(size=300) * 20), 0.0, 1.0, 1e300, 5e-324, 0.1, 9.9999999]
    for value in values:
        for digits in (2, 4, 10, 16):
            low, high = (rounded_text(value, digits, upwards=up) for up in (False, True))
            assert Fraction(low) <= Fraction(float(value)) <= Fraction(high)
            assert float(high) <= float(low) * (1 + 2 * 10.0 ** (1 - digits)) or value == 0.0
    assert rounded_text(math.inf, 4, upwards=True) == "∞"


# ---- time limits and interrupts


def test_an_open_bracket_is_an_answer(capsys, folder):
    write_torch(folder / "hard.pt", tensors_of(arrays_of(12, 120, 1)))
    found = answer(capsys, "hard.pt", "--time-limit=0.5")
    assert found["lower"] < found["upper"] and not found["exact"]
    assert found["ended"] in ("time limit", "bounds") and found["seconds"] < 30
    told = rows(capsys, "hard.pt", "--time-limit=0.5")["gap"]
    assert "the constant lies between the two bounds" in told


def test_ctrl_c_in_the_search_prints_the_bracket_so_far(capsys, monkeypatch):
    from lipbook.lipschitz.deep import bracketing

    monkeypatch.setattr(
        bracketing, "chain_upper", lambda chain: os.kill(os.getpid(), signal.SIGINT) or math.nan
    )
    before = signal.getsignal(signal.SIGINT)
    found = answer(capsys, "deep.pt")
    assert found["ended"] == "interrupted" and found["method"] == "product"
    assert "bounds, not exact: interrupted;" in rows(capsys, "deep.pt")["gap"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_any_bracket(capsys, monkeypatch):
    def interrupted(*_arguments, **_keywords):
        raise KeyboardInterrupt

    for name in ("read_network", "bracket"):
        with monkeypatch.context() as patch:
            patch.setattr(work, name, interrupted)
            assert outcome(["certify", "kink.npz"]) == 130
        out, err = capsys.readouterr()
        assert out == "" and err.strip() == "lipbook: interrupted; nothing was changed."


def test_a_terminal_shows_the_bracket_as_it_narrows(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(cli.sys.stderr, "isatty", lambda: True, raising=False)
    assert outcome(["certify", "deep.pt"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"\r\x1b\[Kbetween [\d.]+ and [\d.]+ …", err)
    assert err.endswith("\r\x1b[K") and "\x1b" not in out


# ---- as a process


def test_help_and_refusals_come_at_once(folder):
    for arguments, code in ((["--help"], 0), (["plane.pt", "--domain=1,0"], 2)):
        done = lipbook("certify", *arguments, cwd=folder, python=("-X", "importtime"))
        assert done.returncode == code
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
        assert imported.isdisjoint({"torch", "numpy", "scipy", "onnx", "safetensors"})
    words = " ".join(lipbook("certify", "--help", cwd=folder).stdout.split())
    for each in ("lipbook certify model.pt --domain=-1,1", "--domain=ball:2", "default: 1e-6"):
        assert each in words


def test_an_answer_from_a_process(folder):
    done = lipbook("certify", "plane.pt", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["exact"]


def test_ctrl_c_of_a_process(folder):
    """Interrupted while it searches, it prints a bracket and is done."""
    write_torch(folder / "hard.pt", tensors_of(arrays_of(30, 400, 400, 1)))
    command = [sys.executable, "-m", "lipbook", "certify", "hard.pt", "--json", "--time-limit=300"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in its background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(6.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert (process.returncode == 130) == (out == "")
    assert out == "" or json.loads(out)["ended"] == "interrupted"
