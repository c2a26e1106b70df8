"""Run tools in processes of their own: one thread each, with limits of time and memory."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cases import Case
from benchmarks.networks import Networks
from benchmarks.results import Row
from benchmarks.tools import TOOLS

ROOT = Path(__file__).resolve().parents[1]
WORKER = (sys.executable, "-m", "benchmarks.worker")
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
# A process may take this long to import and warm up, s.
START = 75.0
# Limits count the processor's time. On a busy machine that is less than the clock's, but a process
# that waits for ever must not be waited for.
BUSY = 6.0
GRACE = 15.0
POLL = 1.0


@dataclass(frozen=True)
class Limits:
    """Hold how long and how large an answer may get.

    Attributes:
        answer: seconds of the processor after which a peer is stopped.
        search: seconds after which our own searches are to return what they have.
        budget: seconds within which a repetition may still be started.
        memory_gb: address space of a process, GB.
    """

    answer: float
    search: float
    budget: float
    memory_gb: float = 12.0

    def within(self, seconds: float) -> Limits:
        """Return the same with both kinds of answers limited to so many seconds."""
        return replace(self, answer=seconds, search=seconds, budget=min(self.budget, seconds))


@dataclass(frozen=True)
class Job:
    """Hold one case for a tool, and how long to sample where the tool goes by time, s."""

    case: Case
    seconds: float | None = None


def run_tool(
    name: str, jobs: Sequence[Job], limits: Limits, networks: Networks, known: Sequence[Row] = ()
) -> Iterator[Row]:
    """Yield a row per job, in order; a process that hangs or dies costs the job that it was at.

    A job no smaller in any size than one that ran out of time or memory is not started.

    Args:
        name: of the tool.
        jobs: what to answer.
        limits: of time and memory.
        networks: where the weights are.
        known: rows of this tool from an earlier run.
    """
    waiting = list(jobs)
    too_large = [row.case for row in known if _exhausted(row.status)]
    what = TOOLS[name].what
    while waiting:
        if any(_contains(waiting[0].case, case) for case in too_large):
            status = "skipped: a smaller case took too long"
            yield Row(name, waiting.pop(0).case, status, what)
            continue
        with _Worker(name, waiting, limits, networks) as worker:
            for measured in worker.rows():
                job = waiting.pop(0)
                yield Row(name, job.case, what=what, **measured)
                if _exhausted(measured["status"]):
                    too_large.append(job.case)
                    break


def _exhausted(status: str) -> bool:
    return status.startswith(("time limit", "out of memory", "crashed"))


def _contains(large: Case, small: Case) -> bool:
    return all(a >= b for a, b in zip(large.sizes, small.sizes, strict=True))


class _Worker:
    """A process that answers jobs, and the queue of what it says."""

    def __init__(self, name: str, jobs: Sequence[Job], limits: Limits, networks: Networks) -> None:
        self.name, self.jobs, self.limits, self.networks = name, jobs, limits, networks

    def __enter__(self) -> _Worker:
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "jobs.json"
        file.write_text(json.dumps(self._asked()), encoding="utf-8")
        self.process = subprocess.Popen(
            [*WORKER, self.name, str(file)],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we stop it
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.listener.join()
        self.folder.cleanup()

    def _asked(self) -> dict[str, Any]:
        limits = self.limits
        jobs = [
            {
                "case": job.case.to_dict(),
                "file": str(self.networks.file(job.case)),
                "limit": limits.search if TOOLS[self.name].ours else limits.answer,
                "budget": limits.budget,
                "seconds": job.seconds,
            }
            for job in self.jobs
        ]
        return {"memory_gb": limits.memory_gb, "jobs": jobs}

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.put(line)
        self.lines.put(None)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the measured half of each row; the last one says why the process ended early."""
        # Our own methods stop by themselves; the peers are stopped.
        ours = TOOLS[self.name].ours
        limit = self.limits.search if ours else self.limits.answer
        done, patience = 0, START
        while done < len(self.jobs):
            try:
                line = self._next_line(patience)
            except TimeoutError:
                yield {"status": "time limit", "seconds": limit, "cpu_seconds": limit}
                return
            if line is None:
                yield self._died()
                return
            said = json.loads(line)
            patience = limit + (GRACE if ours else 0.0)
            if "row" in said:
                done += 1
                yield {key: value for key, value in said.items() if key != "row"}

    def _next_line(self, patience: float) -> str | None:
        """Return what the process says next, None once it is gone.

        Raises:
            TimeoutError: it has worked for `patience` seconds without a word.
        """
        worked, waited = self._worked(), time.perf_counter()
        while True:
            try:
                return self.lines.get(timeout=min(POLL, patience))
            except queue.Empty:
                if self._worked() - worked > patience:
                    raise TimeoutError from None
                if time.perf_counter() - waited > BUSY * patience:
                    raise TimeoutError from None

    def _worked(self) -> float:
        """Return the processor's time that the process has used, s."""
        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:  # gone: the queue will say so
            return 0.0
        return float(times.user + times.system)

    def _died(self) -> dict[str, Any]:
        code = self.process.wait()
        if code < 0:  # a library that cannot allocate usually aborts; the system kills
            return {"status": f"crashed: {signal.Signals(-code).name}"}
        return {"status": f"failed: the process ended with code {code}"}
