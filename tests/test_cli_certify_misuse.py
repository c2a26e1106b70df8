"""What `lipbook certify` refuses, always in one line: domains, options, files, noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from network_writers import (
    hostile_files,
    write_examples,
)
from trial_book import files_below

from lipbook.activations import ACTIVATIONS
from lipbook.certify import options
from lipbook.certify.options import BallText, BoxText, parse_domain
from lipbook.cli import outcome
from lipbook.lipschitz.bracketing import METHODS
from lipbook.running.errors import Misuse

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


# ---- domains


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1,1", BoxText(-1.0, 1.0)),
        ("0,1e-3", BoxText(0.0, 1e-3)),
        ("-1:1,0:2", BoxText((-1.0, 0.0), (1.0, 2.0))),
        ("-1:1", BoxText((-1.0,), (1.0,))),
        ("ball:2", BallText(2.0, 0.0)),
        ("ball:2@1", BallText(2.0, 1.0)),
        ("ball:.5@1,-2.5,+3", BallText(0.5, (1.0, -2.5, 3.0))),
    ],
)
def test_domains_are_read(text, expected):
    assert parse_domain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ",", ":", "1", "1,", ",1", "1,2,3", "1:2:3", "1:2,3", "a,b", "nan,1", "-inf,inf", "1,1",
        "2,1", "0:1,1:0", "1e200,2e200", "ball", "ball:", "ball:0", "ball:-1", "ball:nan", "ball:x",
        "ball:1@", "ball:1@a", "ball:1@1,,2", "ball:1@nan", "ball:1@@2", "Ball:1", "[-1,1]",
        "(-1,1)", "-1;1", "-1 1", "1,2\n", "١,٢", "0x1,0x2", "1_0,2_0_", "1" * 400 + ",2",
    ],
)  # fmt: skip
def test_domains_that_are_none_are_one_line(capsys, text):
    with pytest.raises(Misuse, match="`--domain` must"):
        parse_domain(text)
    assert "`--domain` must" in refusal(capsys, "plane.pt", f"--domain={text}")


@pytest.mark.parametrize("text", ["0:1,0:1,0:1", "0:1", "ball:1@1,2,3"])
def test_domains_of_another_dimension_are_one_line(capsys, text):
    assert "must have one entry per input, 2 of them" in refusal(
        capsys, "plane.pt", f"--domain={text}"
    )


# ---- misuse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'FILE'. See `lipbook certify --help`."),
        (["a", "b"], "unexpected extra argument (b)"),
        (["kink.npz", "--jsno"], "No such option '--jsno'"),
        (["absent.pt"], "Got 'absent.pt', which cannot be opened (No such file or directory)."),
        ([""], "`FILE` must be"),
        (["a\0b"], "`FILE` must be a readable file."),
        (["."], "which is no regular file"),
        (["kink.npz", "--activation=rleu"], "gelu, silu. Got 'rleu'. Did you mean `relu`"),
        (["kink.npz", "--activation=LeakyReLU"], "Got 'LeakyReLU'. Did you mean `leaky relu`"),
        (["kink.npz", "--activation=leaky-relu"], "Did you mean `leaky relu`"),
        (["kink.npz", "--activation=relu\n"], "Got 'relu\\n'."),
        (["kink.npz", "--method=bracnh"], "Got 'bracnh'. Did you mean `branch`?"),
        (["kink.npz", "--rel-gap=0"], "`--rel-gap` must lie strictly between 0 and 1. Got '0'."),
        (["kink.npz", "--rel-gap=1"], "`--rel-gap` must lie strictly between 0 and 1."),
        (["kink.npz", "--rel-gap=nan"], "`--rel-gap` must be a finite number. Got 'nan'."),
        (["kink.npz", "--rel-gap=tiny"], "`--rel-gap` must be a finite number. Got 'tiny'."),
        (["kink.npz", "--time-limit=0"], "`--time-limit` must be a positive number of seconds."),
        (["kink.npz", "--time-limit=-1"], "`--time-limit` must be a positive number of seconds."),
        (["kink.npz", "--time-limit=inf"], "`--time-limit` must be a finite number."),
        (["kink.npz", "--seed=-1"], "`--seed` must be an int from 0 on. Got '-1'."),
        (["kink.npz", "--seed=1.0"], "`--seed` must be an int from 0 on."),
        (["kink.npz", "--seed=" + "9" * 5000], "`--seed` must be an int from 0 on."),
        (["deep.pt", "--method=sdp"], "`--method` must be auto for a network of 3 affine maps."),
        (["plane.pt", "--method=sort"], "needs a network of one input. Got 2 inputs"),
    ],
)  # fmt: skip
def test_misuse_is_one_line(capsys, arguments, message):
    assert message in refusal(capsys, *arguments)


def test_hostile_files_are_one_line(capsys, tmp_path):
    (tmp_path / "hostile").mkdir()
    mark = tmp_path / "mark"
    for path in hostile_files(tmp_path / "hostile", mark).values():
        assert "`FILE` must " in refusal(capsys, f"hostile/{path.name}")
    assert not mark.exists()


def test_fuzzed_options_and_files(capsys, folder):
    """Whatever comes: an answer or one line, and never anything else."""
    generator = np.random.default_rng(0)
    alphabet = list("-+.,:@e01289 abl\n\0é=[](){}%$'\"\\")
    names = ["--domain", "--activation", "--method", "--rel-gap", "--time-limit", "--seed"]
    whole = (folder / "plane.pt").read_bytes()
    for i in range(300):
        text = "".join(generator.choice(alphabet, int(generator.integers(0, 9))))
        arguments = [f"{generator.choice(names)}={text}"]
        if i % 3 == 0:
            data = bytearray(whole)
            data[int(generator.integers(len(data)))] ^= int(generator.integers(1, 256))
            (folder / "fuzzed.pt").write_bytes(bytes(data))
            arguments = []
        code = outcome(["certify", "fuzzed.pt" if i % 3 == 0 else "plane.pt", *arguments])
        out, err = capsys.readouterr()
        assert code in (0, 2)
        assert (out == "") == (code == 2) and err.count("\n") == (code == 2)


def test_the_names_that_need_no_import_are_the_ones_there_are():
    """Add to lipbook.certify.options what lipbook.activations or bracketing has got."""
    assert tuple(ACTIVATIONS) == options.ACTIVATIONS
    assert ("auto", *METHODS) == options.METHODS
