"""Records: strict JSON on disk, written all at once, compared by tolerance."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipbook import records
from lipbook.records import Difference, RecordError


@pytest.fixture
def record() -> dict[str, Any]:
    """Return a record with one of everything."""
    verdict = {
        "theorem": "thm-path",
        "title": "Path",
        "hypotheses": [{"name": "H1", "statement": "0.5 < 1", "holds": True, "margin": 0.5}],
        "bound": 2.0,
        "measured": 1.0,
        "applies": True,
        "contradicted": False,
        "rtol": 1e-3,
    }
    series = {"n": 3, "min": -1.0, "max": 1.0, "mean": 1e-17, "first": -1.0, "last": 1.0}
    return {
        "schema": 1,
        "result": {
            "chapter": "demonstration",
            "parameters": {"width": 64, "widths": [1, 2]},
            "values": {
                "risk": {"value": 0.5, "rtol": 1e-2, "atol": 1e-9, "unit": "", "meaning": ""}
            },
            "verdicts": {"path": verdict},
            "figures": {"ladder": {"rtol": 1e-6, "series": {"exact": series}}},
            "modules": ["lipbook.parameters"],
            "digest": "00",
        },
        "provenance": {"python": "3.11"},
    }


def test_a_record_survives_its_file(record: dict[str, Any], tmp_path: Path) -> None:
    record["result"]["values"]["risk"]["value"] = records.encode(math.inf)
    path = tmp_path / "record.json"
    records.dump(record, path)
    assert records.load(path) == record
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_record_that_is_not_strict_json_leaves_the_old_file(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    records.dump(record, path)
    before = path.read_bytes()
    record["result"]["parameters"]["width"] = math.nan
    with pytest.raises(ValueError, match="JSON compliant"):
        records.dump(record, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    records.write_aside(path, "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.write_aside(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("NaN", "must be JSON"),
        ("[]", "must be a record of schema 1. Got 'list'"),
        ('{"schema": 2}', "must be a record of schema 1. Got 2"),
        ('{"schema": 1}', "must have the parts result and provenance"),
        ('{"schema": 1, "result": {}, "provenance": {}}', "must hold chapter, parameters"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=message):
        records.load(path)


def test_a_section_must_be_a_mapping(record: dict[str, Any]) -> None:
    record["result"]["values"] = []
    with pytest.raises(RecordError, match="`record` must hold values in its result"):
        records.check_record(record)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="must be a readable record"):
        records.load(tmp_path / "absent.json")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(RecordError, match="must be a readable record"):
        records.load(tmp_path / "latin")


@pytest.mark.parametrize(
    ("given_value", "stored"),
    [
        (1, 1),
        (True, True),
        (None, None),
        ("tanh", "tanh"),
        (0.5, 0.5),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([2.0]), 2.0),
        (np.float64(math.inf), "inf"),
    ],
)
def test_encode(given_value: Any, stored: Any) -> None:
    assert records.encode(given_value) == stored
    assert type(records.encode(given_value)) is type(stored)


def test_encode_takes_torch_scalars() -> None:
    torch = pytest.importorskip("torch")
    assert records.encode(torch.tensor(0.5)) == 0.5


def test_encode_refuses_what_is_no_scalar() -> None:
    with pytest.raises(TypeError, match=r"`number` must be a single number. Got ndarray"):
        records.encode(np.zeros(3))
    with pytest.raises(TypeError, match=r"`number` must be a number, bool or str. Got list"):
        records.encode([1])
    with pytest.raises(TypeError, match=r"`number` must be a number, bool or str. Got complex"):
        records.encode(1j)


@given(st.floats())
def test_decode_undoes_encode(number: float) -> None:
    back = records.decode(records.encode(number))
    assert back == number or (math.isnan(back) and math.isnan(number))


@given(st.floats(-1e100, 1e100), st.floats(0, 1), st.floats(0, 1))
def test_close_is_the_inequality_it_says(number: float, rtol: float, atol: float) -> None:
    room = atol + rtol * abs(number)
    assert records.close(number, number, rtol, atol)
    if 0.005 * room > math.ulp(number):  # the sum's own rounding stays inside
        assert records.close(number, number + 0.99 * room, rtol, atol)
    beyond = number + 1.01 * room + 1e-6 * (1 + abs(number))
    assert not records.close(number, beyond, rtol, atol)


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        ("inf", "inf", True),
        ("inf", "-inf", False),
        ("inf", 1e308, False),
        ("nan", "nan", True),
        ("nan", 0.0, False),
        (True, True, True),
        (True, 1, False),
        (1, 1.0, True),
        ("a", "a", True),
        ("a", "b", False),
        (None, None, True),
        (None, 0.0, False),
    ],
)
def test_close_on_what_is_no_plain_number(old: Any, new: Any, agree: bool) -> None:
    assert records.close(old, new, rtol=0.5) is agree


def test_equal_results_have_no_differences(record: dict[str, Any]) -> None:
    other = copy.deepcopy(record)
    other["provenance"] = {"python": "3.13", "host": "elsewhere"}
    other["result"]["digest"] = "11"
    assert records.compare(record, other) == []
    assert records.describe([]) == "Nothing differs from the published run beyond its tolerances."


def change(record: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """Return a copy of a record's tree with one place changed; `to=None` deletes it."""
    other = copy.deepcopy(record)
    place = other["result"]
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return other


SERIES = ("figures", "ladder", "series", "exact")


@pytest.mark.parametrize(
    ("path", "to", "lines"),
    [
        (("values", "risk", "value"), 0.504, []),
        (("values", "risk", "value"), 0.51, ["value risk: 0.5 → 0.51"]),
        (("values", "risk", "value"), "inf", ["value risk: 0.5 → inf"]),
        (("values", "risk", "meaning"), "another sentence", []),
        (("values", "risk"), None, ["value risk: 0.5 → none"]),
        (("values", "new"), {"value": 1.5, "rtol": 1}, ["value new: none → 1.5"]),
        (("parameters", "width"), 65, ["parameter width: 64 → 65"]),
        (("parameters", "widths"), [1], ["parameter widths: [1, 2] → [1]"]),
        (("verdicts", "path", "applies"), False, ["verdict path applies: yes → no"]),
        (("verdicts", "path", "bound"), 2.001, []),
        (("verdicts", "path", "bound"), 2.01, ["verdict path bound: 2 → 2.01"]),
        (
            ("verdicts", "path", "hypotheses", 0, "holds"),
            False,
            ["verdict path hypotheses H1 holds: yes → no"],
        ),
        (("verdicts", "path", "hypotheses"), [], ["verdict path hypotheses: present → present"]),
        (("verdicts", "path"), None, ["verdict path: present → none"]),
        ((*SERIES, "mean"), -1e-16, []),
        ((*SERIES, "mean"), 0.1, ["figure ladder / exact mean: 1e-17 → 0.1"]),
        ((*SERIES, "n"), 4, ["figure ladder / exact n: 3 → 4"]),
        (("figures", "ladder"), None, ["figure ladder: drawn → not drawn"]),
        (("chapter",), "other", ["chapter name: demonstration → other"]),
    ],
)
def test_compare_finds_what_changed_and_nothing_else(
    record: dict[str, Any], path: tuple[Any, ...], to: Any, lines: list[str]
) -> None:
    differences = records.compare(record, change(record, *path, to=to))
    assert [str(each) for each in differences] == lines


def test_describe_orders_what_a_reader_asks_first(record: dict[str, Any]) -> None:
    other = change(record, "values", "risk", "value", to=0.7)
    other = change(other, "parameters", "width", to=65)
    assert records.describe(records.compare(record, other)).splitlines() == [
        "What differs from the published run:",
        "  parameters set otherwise",
        "    width: 64 → 65",
        "  values",
        "    risk: 0.5 → 0.7",
    ]


def test_describe_says_what_became_of_a_verdict(record: dict[str, Any]) -> None:
    fails = copy.deepcopy(record)
    verdict = fails["result"]["verdicts"]["path"]
    verdict.update(applies=False, failed="H1", failed_step=7, bound="inf")
    verdict["hypotheses"][0]["holds"] = False
    there, back = records.compare(record, fails), records.compare(fails, record)
    line = (
        "    path no longer applies: failing hypothesis none → H1, at step none → 7, bound 2 → inf"
    )
    assert records.describe(there).splitlines()[1:] == ["  verdicts that turned", line]
    assert "    path applies now: failing hypothesis H1 → none" in records.describe(back)
    wrong = change(record, "verdicts", "path", "contradicted", to=True)
    described = records.describe(records.compare(record, wrong))
    assert "path is contradicted: contradicted no → yes" in described
    described = records.describe(records.compare(wrong, record))
    assert "path is no longer contradicted" in described


@pytest.mark.parametrize(
    ("path", "to", "lines"),
    [
        (
            ("verdicts", "path", "bound"),
            3.0,
            ["  verdicts with other numbers", "    path: bound 2 → 3"],
        ),
        (
            ("verdicts", "path", "hypotheses", 0, "margin"),
            0.1,
            ["  verdicts with other numbers", "    path: other hypotheses"],
        ),
        (("verdicts", "path"), None, ["  verdicts that turned", "    path: present → none"]),
        ((*SERIES, "max"), 2.0, ["  figures that plot other numbers", "    ladder"]),
        (("figures", "ladder"), None, ["  figures that plot other numbers", "    ladder"]),
        (("chapter",), "other", ["  chapter", "    name: demonstration → other"]),
    ],
)
def test_describe_is_brief(
    record: dict[str, Any], path: tuple[Any, ...], to: Any, lines: list[str]
) -> None:
    differences = records.compare(record, change(record, *path, to=to))
    assert records.describe(differences, "it").splitlines() == ["What differs from it:", *lines]


def test_a_difference_is_json() -> None:
    difference = Difference("value", "risk", 0.5, "inf")
    assert json.loads(json.dumps(difference.to_dict()))["new"] == "inf"
