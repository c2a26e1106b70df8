"""The benchmark harness: ratios and tables on rows made up here, processes that misbehave, and our
own tools for real. The peers' formulations are compared with each other where they are installed.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import lipschitz, plans, running  # noqa: E402
from benchmarks.cases import TRAINED, Case, rand, trained  # noqa: E402
from benchmarks.networks import Networks, weights  # noqa: E402
from benchmarks.results import Row, read  # noqa: E402
from benchmarks.running import Job, Limits, run_tool  # noqa: E402
from benchmarks.table import cell, ratio_table, seconds_text, table  # noqa: E402
from benchmarks.targets import Ratio, ratios  # noqa: E402
from benchmarks.tools import TOOLS, Answer, Task  # noqa: E402
from benchmarks.worker import REPETITIONS, peak_counter, timed  # noqa: E402

A, B = rand(10, 50), rand(10, 200)


def row(tool: str, case: Case, value: float | None = 1.0, cpu: float = 1.0, **more: Any) -> Row:
    given = {"status": "ok", "what": TOOLS[tool].what, "seconds": 9.0, "cpu_seconds": cpu, **more}
    return Row(tool, case, value=value, **given)


# --- cases and plans


def test_random_networks_are_those_of_the_library() -> None:
    hidden, bias, output = weights(rand(3, 5, 2, seed=7))
    draw = np.random.default_rng(7).standard_normal
    assert np.array_equal(hidden, draw((5, 3)) * (1 / np.sqrt(3)))
    assert np.array_equal(bias, draw(5)) and np.array_equal(output, draw((2, 5)) * (1 / np.sqrt(5)))


def test_a_case_reads_well_and_comes_back_from_its_row() -> None:
    case = rand(2, 400, activation="tanh", half_width=3.0, seed=1)
    assert str(case) == "(2,400,1) tanh ±3 #1" and str(trained("digits", 64)) == "digits (64,64,10)"
    assert case.domain == (-3.0, 3.0) and A.domain is None
    assert Case(**case.to_dict()) == case


def test_plans_name_tools_and_distinct_cases() -> None:
    for plan in (plans.full(), plans.quick(), plans.grid()):
        assert plan.keys() <= TOOLS.keys() and list(plan) == [n for n in TOOLS if n in plan]
        for cases in plan.values():
            assert len(set(map(str, cases))) == len(cases) > 0
            assert [case.m for case in cases] == sorted(case.m for case in cases)
    assert (
        plans.full().keys() - plans.grid().keys() and max(c.m for c in plans.full()["sdp"]) > 9999
    )
    names = {case.net for case in plans.grid()["sdp"]}
    assert names == {"rand", *TRAINED}


def test_only_selects_tools_and_cases() -> None:
    plan = plans.full()
    assert plans.only(plan, []) == plan
    assert plans.only(plan, ["sdp"]) == {"sdp": plan["sdp"]}
    assert set(plans.only(plan, ["(8,64,1)"])) >= {"sdp", "branch"}
    assert plans.only(plan, ["sdp", "(8,64,1)"]) == {"sdp": [rand(8, 64)]}
    with pytest.raises(ValueError, match=r"`--only` must name tools or cases.*Got 'sqp'"):
        plans.only(plan, ["sqp"])


# --- ratios


def test_the_fastest_textbook_form_is_the_peer() -> None:
    rows = [row("sdp", B, cpu=0.01), row("lipsdp-cvxopt", B, cpu=9.0)]
    found = ratios([*rows, row("maxcut-cvxopt", B, cpu=6.0), row("lipsdp-clarabel", B, cpu=4.0)])
    assert found["sdp_time_ratio_m200"].value == pytest.approx(600.0)
    assert found["sdp_time_ratio_m200"].reached is True
    assert found["sdp_time_ratio_any_route_m200"].value == pytest.approx(400.0)
    assert found["sdp_time_ratio_any_route_m200"].reached is None
    slower = ratios([rows[1], replace(rows[0], cpu_seconds=0.1)])["sdp_time_ratio_m200"]
    assert slower.value == pytest.approx(90.0) and slower.reached is False


def test_a_missing_row_leaves_a_ratio_open() -> None:
    assert all(ratio.value is None for ratio in ratios([]).values())
    half = ratios([row("sdp", A, cpu=0.001), row("lipsdp-cvxopt", A)])
    assert half["sdp_time_ratio_m50"].value is None  # (2,50,1) has not been measured
    assert half["sdp_time_ratio_m50"].reached is None


def test_a_peer_that_was_stopped_bounds_the_ratio_from_below() -> None:
    case = rand(2, 400)
    stopped = [
        row(name, case, None, 150.0, status="time limit")
        for name in ("lipsdp-cvxopt", "maxcut-cvxopt")
    ]
    found = ratios([row("sdp", case, cpu=0.01), *stopped])["sdp_time_ratio_m400"]
    assert found.value == pytest.approx(15_000.0) and "lower bound" in found.note
    # One form alone says nothing of the other.
    assert ratios([row("sdp", case), stopped[0]])["sdp_time_ratio_m400"].value is None


def test_values_below_the_peer_and_wide_gaps_are_seen() -> None:
    def found(value: float, lower: float) -> dict[str, Ratio]:
        ours = row("sdp", A, value, upper=value, lower=lower)
        return ratios([ours, row("lipsdp-cvxopt", A, 2.0)])

    good = found(2.0001, 1.9999)
    assert all(good[f"sdp_{name}"].reached for name in ("value_relative", "value_below", "gap_max"))
    assert found(2.001, 1.9999)["sdp_value_relative"].reached is False
    assert found(1.9999, 1.9999)["sdp_value_below"].reached is False
    assert found(2.0001, 1.99)["sdp_gap_max"].reached is False


def test_a_bracket_outside_sampled_and_sdp_is_seen() -> None:
    sampled, bound = row("sampling-200000", A, 1.0), row("sdp", A, 1.5, upper=1.5)

    def outside(lower: float, upper: float) -> Ratio:
        bracket = row("branch", A, None, lower=lower, upper=upper, status="gap left")
        return ratios([sampled, bound, bracket])["bracket_outside"]

    assert outside(0.9, 1.2).reached is True
    assert outside(0.8, 0.9).reached is False and outside(1.6, 1.7).reached is False


def test_equal_time_needs_every_case() -> None:
    rows = [row("ascent", case, 1.1) for case in plans.CLIMBED]
    rows += [row("sampling-matched", case, 1.0) for case in plans.CLIMBED]
    name = "lower_bound_vs_sampling"
    assert ratios(rows)[name].value == pytest.approx(1.1) and ratios(rows)[name].reached
    assert ratios(rows[:-1])[name].value is None
    assert ratios([*rows[:-1], replace(rows[-1], value=1.09)])[name].reached is False


# --- table


def test_a_cell_says_what_there_is() -> None:
    assert cell(row("sdp", A, 1.23456, seconds=0.0014)) == "1.2346 / 1.4 ms"
    assert cell(row("lipsdp-scs", A, 2.0, seconds=2.0, status="optimal_inaccurate")) == "2? / 2 s"
    gap = row("branch", A, None, lower=1.0, upper=2.0, seconds=60.0, status="gap left")
    assert cell(gap) == "[1, 2] / 60 s"
    assert cell(Row("sdp", A, "missing: no sdp")) == "missing" and cell(None) == ""
    assert cell(Row("eclipse", A, "time limit", seconds=120.0)) == "stopped 120 s"
    assert [seconds_text(t) for t in (None, 4.2e-6, 90.0)] == ["?", "4.2 µs", "90 s"]


def test_the_table_leaves_out_what_is_empty() -> None:
    text = table([row("sdp", A), row("product", B)], [A, B, rand(1, 100)])
    head, *lines = text.splitlines()
    assert head.split() == ["(10,50,1)", "(10,200,1)"] and len(lines) == 2
    verdicts = ratio_table({"a": Ratio(2.0, 1.0, True, "x"), "b": Ratio(2.0, 1.0, False, "y")})
    assert "≥ 1" in verdicts and "NOT REACHED" in verdicts.splitlines()[2]


# --- timing and processes


def test_the_first_answer_only_warms_up() -> None:
    answers = iter(range(1000))
    told: list[int] = []
    given, costs = timed(lambda: Answer(float(next(answers))), 60.0, lambda: told.append(1))
    assert len(costs) >= REPETITIONS and given.value == len(costs) == len(told) - 1
    _, once = timed(lambda: Answer(1.0), budget=0.0)
    assert len(once) == 1


def test_memory_is_seen_where_the_system_tells() -> None:
    peak = peak_counter()
    block = np.ones(40_000_000)
    assert block.sum() > 0
    del block
    grown = peak()
    assert grown is None or 300.0 < grown < 400.0


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    return Networks(tmp_path)


# Answers the first job, then does what its tool's name says.
STAND_IN = """
import os, signal, sys, time
print('{"ready": true}', flush=True)
print('{"row": 0, "status": "ok", "value": 2.0, "seconds": 1.0}', flush=True)
if sys.argv[1] == "product": time.sleep(600)
if sys.argv[1] == "sdp": os.kill(os.getpid(), signal.SIGABRT)
while sys.argv[1] == "ascent": pass
sys.exit(3)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(running, "WORKER", (sys.executable, str(tmp_path / "worker.py")))
    monkeypatch.setattr(running, "BUSY", 1.0)
    monkeypatch.setattr(running, "GRACE", 0.0)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("tool", "then"),
    [("product", "time limit"), ("sdp", "crashed: SIGABRT"), ("ascent", "time limit")],
)
def test_a_process_that_hangs_or_dies_costs_one_job(
    networks: Networks, tool: str, then: str
) -> None:
    jobs = [Job(rand(1, 2)), Job(rand(2, 3)), Job(rand(2, 4)), Job(rand(1, 5))]
    first, second, third, last = run_tool(tool, jobs, Limits(1.0, 1.0, 0.0), networks)
    assert (first.status, first.value) == ("ok", 2.0) and second.status == then
    assert third.status.startswith("skipped")  # no smaller than the second in any size
    assert last.status == "ok" and last.case == rand(1, 5)
    again = list(run_tool(tool, jobs[2:3], Limits(1.0, 1.0, 0.0), networks, [second]))
    assert again[0].status.startswith("skipped")


@pytest.mark.usefixtures("stand_in")
def test_a_process_that_gives_up_is_started_again(networks: Networks) -> None:
    jobs = [Job(rand(1, 2)), Job(rand(1, 3)), Job(rand(1, 4))]
    found = [row.status for row in run_tool("sort", jobs, Limits(5.0, 5.0, 0.0), networks)]
    assert found == ["ok", "failed: the process ended with code 3", "ok"]


# --- the program


def test_a_quick_run_of_our_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    chosen = ["--quick", "--only", "product", "sort", "(1,100,1)", "--json", str(file)]
    assert lipschitz.main(chosen) == 0
    shown = capsys.readouterr()
    assert "exact: sort" in shown.out and "product of spectral norms" in shown.out
    assert shown.err.count("(1,100,1)") == 2
    rows = {row.tool: row for row in read(file)[0]}
    assert rows["sort"].value < rows["product"].value and rows["sort"].lower > 1.0
    assert rows["sort"].repetitions >= REPETITIONS and rows["sort"].cpu_seconds > 0.0
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["provenance"]["threads_per_tool"] == 1
    assert kept["provenance"]["plan"] == "quick"
    assert kept["provenance"]["limits"]["search"] == lipschitz.LIMITS["quick"].search
    assert lipschitz.main([*chosen, "--resume"]) == 0
    again, where = read(file)
    assert capsys.readouterr().err == "" and again == list(rows.values())
    assert [run["started_at"] for run in where["earlier"]] == [kept["provenance"]["started_at"]]


def test_it_runs_as_a_module_and_names_what_is_wrong() -> None:
    command = [sys.executable, "-m", "benchmarks.lipschitz", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "`--only` must name tools or cases" in done.stderr
    for arguments in (["--resume"], ["--limit", "0"], ["--quick", "--grid"]):
        with pytest.raises(SystemExit):
            lipschitz.arguments(arguments)


def test_json_goes_to_stdout_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lipschitz, "run_tool", lambda name, jobs, *_: [row(name, jobs[0].case)])
    assert lipschitz.main(["--quick", "--only", "sort", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"][0]["tool"] == "sort" and "sdp_gap_max" in document["ratios"]


def test_an_interrupt_keeps_the_rows_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, jobs: list[Job], *_: object) -> Iterator[Row]:
        yield row(name, jobs[0].case, math.inf)
        raise KeyboardInterrupt

    monkeypatch.setattr(lipschitz, "run_tool", interrupted)
    file = tmp_path / "out.json"
    assert lipschitz.main(["--quick", "--only", "sdp", "--json", str(file)]) == 0
    assert "interrupted" in capsys.readouterr().err
    (kept,) = read(file)[0]
    assert kept.tool == "sdp" and kept.value == math.inf


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="must be a result file of schema 1"):
        read(file)


# --- the peers


def test_sampling_never_exceeds_the_constant() -> None:
    from benchmarks.peers.sampling import steepest_gradient
    from lipbook.lipschitz import bracket

    one = weights(rand(1, 30))
    exact = bracket(*one).upper
    for precision in ("single", "double"):
        sampled = steepest_gradient(one, 20_000, precision=precision)
        assert 0.5 * exact < sampled <= exact * (1.0 + 1e-5)
    many = weights(rand(3, 20, 2))
    full = steepest_gradient((many[0], np.full(20, 1e9), many[2]), 10)
    assert full == pytest.approx(np.linalg.norm(many[2] @ many[0], 2), rel=1e-5)
    assert steepest_gradient(one, seconds=0.0) > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("case", [rand(2, 8), rand(5, 12), rand(3, 10, 2)], ids=str)
def test_the_peers_forms_have_one_value(case: Case) -> None:
    for package in ("cvxpy", "cvxopt", "clarabel", "scs", "eclipse_nn"):
        pytest.importorskip(package)
    task = Task(case, weights(case), limit=60.0)
    names = [n for n in TOOLS if n.startswith(("lipsdp", "maxcut", "short"))]
    if case.k > 1:
        names = [name for name in names if not name.startswith("maxcut")]
    values = {name: TOOLS[name].run(task).value for name in names}
    middle = float(np.median(list(values.values())))
    for name, value in values.items():
        assert value == pytest.approx(middle, rel=3e-4 if "scs" in name else 1e-5), name
    # ECLipsE-Fast bounds it, and is the norm itself: its square would be elsewhere.
    fast, product = (TOOLS[name].run(task).value for name in ("eclipse-fast", "product"))
    assert middle * (1.0 - 1e-6) <= fast <= product * (1.0 + 1e-6)
    scaled = Task(case, (task.weights[0] * 10.0, *task.weights[1:]), limit=60.0)
    assert TOOLS["eclipse-fast"].run(scaled).value == pytest.approx(10.0 * fast)
