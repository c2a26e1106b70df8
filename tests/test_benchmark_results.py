"""The reader of the benchmarks' result file, and the pictures of what it holds."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from lipbook.benchmark_results import (
    STOPS,
    case_name,
    curves,
    hardness,
    networks,
    prices,
    reach,
    read_results,
    rounded_up,
)
from lipbook.lipschitz import bracket
from lipbook.lipschitz.semidefinite.multipliers import GAP
from lipbook.plotting.costs import (
    draw_hardness,
    draw_prices,
    draw_scaling,
    draw_times,
    seconds_text,
)

WHAT = {"auto": "exact", "sdp": "upper", "product": "upper", "ascent": "lower"}


def row(tool: str, m: int, value: float | None, **others: Any) -> dict[str, Any]:
    """Return a row as the benchmarks write it."""
    case = {"net": "rand", "d": 2, "m": m, "k": 1, "activation": "relu"}
    case |= {"half_width": None, "seed": 0}
    case |= {key: others.pop(key) for key in list(others) if key in case}
    numbers = {"lower": None, "upper": None, "solver_seconds": None, "peak_mb": 1.0}
    times = {"seconds": 0.5 * m, "cpu_seconds": 0.25 * m, "repetitions": 5}
    what, status = WHAT.get(tool, "upper"), "ok"
    full = {"tool": tool, "case": case, "what": what, "status": status, "value": value}
    return full | numbers | times | others


ROWS = [
    row("auto", 4, 2.0, lower=2.0, upper=2.0),
    row("auto", 4, 3.0, lower=3.0, upper=3.0, seed=1),
    row("auto", 8, None, lower=1.0, upper=4.0, status="gap left", seconds=9.0, cpu_seconds=8.0),
    row("sdp", 4, 3.0, lower=2.9, upper=3.0),
    row("sdp", 4, 3.0, lower=2.9, upper=3.0, seed=1),
    row("sdp", 8, 3.0, lower=2.9, upper=3.0),
    row("ascent", 8, 1.5, lower=1.5),
    row("product", 4, 6.0, upper=6.0),
    row("product", 4, 6.0, upper=6.0, net="zigzag-2"),
    row("lipsdp-scs", 4, None, what="", status="skipped: …", seconds=None, cpu_seconds=None),
    row("auto", 4, 1.0, lower=1.0, upper=1.0, activation="tanh", half_width=3.0),
]


def written(path: Path, **others: Any) -> Path:
    """Write a result file."""
    contents = {"schema": 1, "rows": ROWS, "ratios": {"a": {"value": 1.0}}, "provenance": {}}
    path.write_text(json.dumps(contents | others), encoding="utf-8")
    return path


@pytest.fixture
def results(tmp_path: Path) -> Any:
    return read_results(written(tmp_path / "r.json"))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_every_row_is_read_with_its_constant(results):
    assert len(results.rows) == len(ROWS) and results.ratios == {"a": {"value": 1.0}}
    at = results.rows.set_index(["tool", "case"])
    assert at.loc[("sdp", "(2,4,1)"), "ratio"] == 1.5
    assert at.loc[("sdp", "(2,4,1) #1"), "ratio"] == 1.0
    # Open: the best of both sides, the SDP bound and the ascent included; no ratio.
    open_one = at.loc[("sdp", "(2,8,1)")]
    assert (open_one["constant_lower"], open_one["constant_upper"]) == (1.5, 3.0)
    assert np.isnan(open_one["ratio"])
    # Times are the processor's; the clock's where that one stands still.
    assert open_one["seconds"] == 2.0
    assert np.isnan(at.loc[("lipsdp-scs", "(2,4,1)"), "seconds"])


def test_a_bound_on_the_whole_space_is_no_bracket_of_another_domain(tmp_path):
    both = [row("sdp", 4, 1.0, half_width=1.0), row("auto", 4, None, half_width=1.0, lower=0.5)]
    found = read_results(written(tmp_path / "r.json", rows=both)).rows
    assert found["constant_upper"].isna().all()


def test_names_of_cases():
    case = ROWS[-1]["case"]
    assert case_name(case) == "(2,4,1) tanh ±3"
    assert case_name({**case, "net": "co2-cycle", "seed": 2}) == "co2-cycle (2,4,1) tanh ±3 #2"


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"must be a result file.*make bench"):
        read_results(path)
    with pytest.raises(ValueError, match=r"must be a result file. Got FileNotFoundError"):
        read_results(tmp_path / "absent.json")


def test_curves_stop_at_the_first_size_without_an_answer(results):
    drawn = networks(results.rows, [4, 8])
    assert set(drawn["net"]) == {"rand"} and set(drawn["activation"]) == {"relu"}
    found = curves(drawn, "m")
    assert list(found["sdp"].x) == [4.0, 8.0] and list(found["sdp"].y) == [1.0, 2.0]
    assert found["sdp"].stopped is None and found["sdp"].ours and found["sdp"].what == "upper"
    assert list(found["auto"].x) == [4.0] and found["auto"].stopped == (8.0, 8.0)
    assert "lipsdp-scs" not in found
    assert list(networks(results.rows, [4], random=False)["net"]) == ["zigzag-2"]


def test_widths_that_were_not_measured_are_refused(results):
    with pytest.raises(
        ValueError, match=r"`widths` must name widths .* Got \[5\]. Use some of 4, 8"
    ):
        networks(results.rows, [5])
    assert list(networks(results.rows, None, random=False)["m"]) == [4]


def test_prices_need_the_constant(results):
    found = prices(networks(results.rows, [4, 8]))
    assert list(found["sdp"].x) == [1.0] and list(found["sdp"].y) == [1.25]
    assert list(found["sdp"].sizes) == [4.0]
    assert "ascent" not in found


def test_hardness_and_reach(results):
    drawn = networks(results.rows, [4, 8])
    (kind,) = hardness(drawn)
    assert kind.words == "random, d = 2" and list(kind.closed) == [True, True, False]
    assert list(kind.least) == [1.5, 1.0, 1.0] and list(kind.most) == [1.5, 1.0, 2.0]
    assert reach(drawn).loc[2].tolist() == [4, 8, 8, 0, 1]
    assert reach(drawn[drawn["m"] == 8]).loc[2].tolist() == [0, 8, 8, 0, 1]
    assert reach(drawn[drawn["m"] == 4]).loc[2].tolist() == [4, 4, 0, 0, 0]


@pytest.mark.parametrize(
    ("x", "digits", "up"),
    [(0.0072, 1, 0.008), (0.00711, 2, 0.0072), (0.01, 1, 0.01), (123.4, 1, 200.0), (0.0, 1, 0.0)],
)
def test_a_largest_difference_is_rounded_up(x, digits, up):
    assert rounded_up(x, digits) == up


def test_the_tolerances_that_the_page_names_are_those_of_the_searches():
    assert STOPS["multipliers"] == GAP
    assert STOPS["constant"] == inspect.signature(bracket).parameters["rel_gap"].default


def test_the_tolerances_that_the_page_names_are_those_of_the_solvers():
    clarabel = pytest.importorskip("clarabel")
    conelp = pytest.importorskip("cvxopt.coneprog").conelp
    folder = "cvxpy.reductions.solvers.conic_solvers"
    scs = pytest.importorskip(f"{folder}.scs_conif").SCS
    assert STOPS["CLARABEL"] == clarabel.DefaultSettings().tol_gap_rel
    assert STOPS["SCS"] == scs.parse_solver_options({})["eps_rel"]
    assert re.search(r"options\['reltol'\] scalar \(default: 1e-6\)", conelp.__doc__)
    assert STOPS["CVXOPT"] == 1e-6


def test_the_pictures_say_what_they_show(results):
    drawn = networks(results.rows, [4, 8])
    _, axes = plt.subplots(2)
    alt = draw_prices(axes, {"two inputs": prices(drawn), "none": {}})
    assert "SDP, ours 1.25 in 1 s at m = 4" in alt and "none: nothing" in alt
    _, axes = plt.subplots(2)
    alt = draw_times(axes, {"two inputs": curves(drawn, "m"), "none": {}}, "width")
    assert "exact, ours 1 s to 1 s at 4, no answer at 8" in alt and "none: nothing" in alt
    _, axes = plt.subplots(1, 2)
    alt = draw_hardness(*axes, hardness(drawn))
    ends = "bound over constant 1 to 1.5 on the 2 that are closed, between 1 and 2 on the 1 that"
    assert f"random, d = 2: {ends} are open" in alt
    bounds = {"product": np.array([2.0, 9.0]), "SDP": np.array([1.5, 1.5])}
    alt = draw_scaling(plt.subplots()[1], np.array([0.0, 4.0]), bounds)
    assert "product from 2 to 9; SDP from 1.5 to 1.5" in alt


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "2 s"), (0.0126, "13 ms"), (3e-5, "30 µs"), (4e-8, "0.04 µs")]
)
def test_times_have_units(seconds, text):
    assert seconds_text(seconds) == text
