"""One process for one tool: warm up, then answer task after task, a JSON line each.

Started by `benchmarks.running` as `python -m benchmarks.worker TOOL JOBS.json`, with one thread.
Lines on stdout: {"call": i}, an answer of job i has come and the time of the next begins; or
{"row": i, …}, job i is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, rand
from benchmarks.tools import (
    TOOLS,
    Answer,
    NotApplicableError,
    NotThereError,
    Task,
    Tool,
    Weights,
)

# Time at least so many answers; cheap ones go on for some seconds, up to the larger number, so that
# a burst of other work on the machine does not make the median.
REPETITIONS = 5
MOST_REPETITIONS = 500
CHEAP_SECONDS = 3.0


@dataclass(frozen=True)
class Cost:
    """Hold the time of one answer, s: on the clock, and of the processor for this process."""

    seconds: float
    cpu_seconds: float


def timed(
    answer: Callable[[], Answer], budget: float, tell: Callable[[], None] = lambda: None
) -> tuple[Answer, list[Cost]]:
    """Return the last answer and what the warm ones cost.

    The first answer warms up; it counts only where time allows no other.

    Args:
        answer: does the work.
        budget: seconds within which a repetition may still be started.
        tell: called after each answer.
    """
    given, first = _once(answer)
    tell()
    costs: list[Cost] = []
    warm = 0.0
    while first.seconds * 2.0 + warm <= budget and len(costs) < MOST_REPETITIONS:
        if len(costs) >= REPETITIONS and warm >= CHEAP_SECONDS:
            break
        given, cost = _once(answer)
        costs.append(cost)
        warm += cost.seconds
        tell()
    return given, costs or [first]


def _once(answer: Callable[[], Answer]) -> tuple[Answer, Cost]:
    wall, cpu = time.perf_counter(), time.process_time()
    given = answer()
    return given, Cost(time.perf_counter() - wall, time.process_time() - cpu)


def peak_counter() -> Callable[[], float | None]:
    """Start watching this process's memory; the result returns by how many MB its peak has grown.

    None where the system does not tell (Linux does).
    """
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the peak back
        before = _megabytes(status.read_text(encoding="utf-8"), "VmRSS")
    except OSError:
        return lambda: None
    return lambda: max(_megabytes(status.read_text(encoding="utf-8"), "VmHWM") - before, 0.0)


def _megabytes(status: str, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.M)
    assert found, field
    return int(found[1]) * 1024 / 1e6


def measured(tool: Tool, task: Task, budget: float, tell: Callable[[], None]) -> dict[str, Any]:
    """Return the measured half of a row, whatever happens."""
    peak = peak_counter()
    try:
        answer, costs = timed(lambda: tool.run(task), budget, tell)
    except NotThereError as reason:
        return {"status": f"missing: {reason}"}
    except NotApplicableError as reason:
        return {"status": f"does not apply: {reason}"}
    except MemoryError:
        return {"status": "out of memory"}
    except Exception as error:  # a peer's failure is a result
        return {"status": f"failed: {type(error).__name__}: {error}"[:200]}
    row = asdict(answer)
    share = row.pop("networks")
    for field in fields(Cost):
        row[field.name] = statistics.median(getattr(cost, field.name) for cost in costs) / share
    return {**row, "repetitions": len(costs), "peak_mb": peak()}


def warm_up(tool: Tool) -> None:
    """Let the tool import and compile what it needs, on a network of its own."""
    generator = np.random.default_rng(0)
    for d in (2, 1):
        hidden, bias, output = (generator.normal(size=shape) for shape in ((6, d), 6, (1, 6)))
        with contextlib.suppress(Exception):
            tool.run(Task(rand(d, 6), (hidden, bias, output), limit=5.0, seconds=0.01))


def stored(path: Path) -> Weights:
    """Read W, b, A of a case."""
    with np.load(path) as file:
        return file["arr_0"], file["arr_1"], file["arr_2"]


def limit_memory(gigabytes: float) -> None:
    """Let allocations beyond this fail, where the system can do that (Linux)."""
    size = int(gigabytes * 1e9)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    """Answer the jobs that the second argument names."""
    name, file = sys.argv[1:]
    asked = json.loads(Path(file).read_text(encoding="utf-8"))
    limit_memory(asked["memory_gb"])
    warnings.simplefilter("ignore")
    # Solvers print; the lines of the protocol go to where stdout was.
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def send(**line: Any) -> None:
        protocol.write(json.dumps(line) + "\n")

    tool = TOOLS[name]
    warm_up(tool)
    send(ready=True)
    for index, job in enumerate(asked["jobs"]):
        case = Case(**job["case"])
        task = Task(case, stored(Path(job["file"])), job["limit"], job["seconds"])
        row = measured(tool, task, job["budget"], partial(send, call=index))
        send(row=index, **row)


if __name__ == "__main__":
    main()
