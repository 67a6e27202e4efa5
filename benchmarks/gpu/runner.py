"""Runs parts in order of importance, each in its own process with a time limit. Does not import torch."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import LATE
from benchmarks.gpu.record import read_figures
from benchmarks.gpu.report import report
from composer.atomic import replacing
from composer.errors import ConfigError

RESULTS = "results.json"
ROOT = Path(__file__).parents[2]
INTERRUPTED = "interrupted"
TUNING = 2
"""Configurations to try per Triton kernel, see `benchmarks.gpu.tuning`."""


@dataclass(frozen=True)
class Part:
    """A part of the benchmarks.

    Attributes:
        name: Name on the command line.
        title: Description.
        module: Module with `run(context)`.
        seconds: Time limit.
        least: Minimum time in seconds; the part is not started with less.
    """

    name: str
    title: str
    module: str
    seconds: float
    least: float


@dataclass(frozen=True)
class Outcome:
    """Outcome of a part. state: finished, incomplete (figures skipped for lack of time), failed, skipped, ..."""

    name: str
    title: str
    state: str
    seconds: float
    note: str = ""


class Run:
    """Parts and results of one output folder. `execute` runs missing parts."""

    def __init__(
        self,
        parts: Sequence[Part],
        output: Path,
        *,
        device: str = "cuda",
        tiny: bool = False,
        tuning: int = TUNING,
    ) -> None:
        """tuning: see `benchmarks.gpu.tuning`. Raises ConfigError if the folder has figures of another setup."""
        self.parts, self.output, self.device, self.tiny, self.tuning = parts, output.absolute(), device, tiny, tuning
        self.setup = {"device": device, "tiny": tiny, "tuning": tuning}
        path = output / RESULTS
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if before and before["setup"] != self.setup:
            raise ConfigError(
                f"--output {output}: got figures of {before['setup']}, expected {self.setup}: choose another folder"
            )
        self.outcomes = {entry["name"]: Outcome(**entry) for entry in before.get("parts", ())}
        self.started = before.get("started", time.strftime("%Y-%m-%d %H:%M"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def execute(self, minutes: float, only: Sequence[str] = (), at_once: int = 1) -> list[Outcome]:
        """Run the missing parts and write the results after each of them.

        Args:
            minutes: Total time limit.
            only: Names of parts to run; () for all.
            at_once: Number of concurrent processes; on a GPU, more than one would distort the times.

        Returns:
            The outcomes.
        """
        ends = time.monotonic() + 60 * minutes
        parts = [part for part in self.parts if not only or part.name in only]
        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(self._run, part, ends) for part in parts]
            try:
                return [future.result() for future in futures]
            except BaseException:  # SIGTERM or Ctrl-C in the main thread
                self._stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._processes):
                    _kill(process)
                raise

    def _run(self, part: Part, ends: float) -> Outcome:
        before = self.outcomes.get(part.name)
        left = max(0.0, ends - time.monotonic())
        if before is not None and before.state == "finished":
            print(f"{part.name}: finished before", flush=True)
            return before
        if left < part.least:
            note = f"needs at least {part.least:.0f} s, {left:.0f} s were left"
            attempted = before is not None and before.state not in ("skipped", INTERRUPTED)
            return self._keep(
                replace(before, note=note) if attempted else Outcome(part.name, part.title, "skipped", 0, note)
            )
        limit = left if self.tiny else min(part.seconds, left)  # limits are for a GPU, not for a CPU
        print(f"{part.name}: {part.title} (at most {limit:.0f} s)", flush=True)
        self._keep(Outcome(part.name, part.title, INTERRUPTED, 0, "the command ended while this part ran"))
        return self._keep(self._attempt(part, limit))

    def _attempt(self, part: Part, limit: float) -> Outcome:
        start = time.monotonic()
        with self._process(part, limit) as process:
            try:
                status: int | None = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                status = None
        duration = time.monotonic() - start
        if self._stopped:
            return self.outcomes[part.name]
        state, note = _state(status, limit, f"logs/{part.name}.log")
        return Outcome(part.name, part.title, state, round(duration, 1), note)

    @contextmanager
    def _process(self, part: Part, limit: float) -> Iterator[subprocess.Popen[bytes]]:
        """Start the part in its own process group, which is killed at the end of the block."""
        tuning = ["--tuning", str(self.tuning)] if self.tuning != TUNING else []
        flags = [*(["--tiny"] if self.tiny else []), *(["--device", self.device] if self.device != "cuda" else [])]
        flags += tuning
        command = " ".join(["python -m benchmarks.gpu --only", part.name, *flags])
        words = [sys.executable, "-u", "-W", "ignore", "-m", "benchmarks.gpu.part", part.module, "--name", part.name]
        words += ["--output", str(self.output), "--seconds", str(limit), "--device", self.device, "--command", command]
        log = self.output / "logs" / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {command}\n".encode())
            file.flush()
            process = subprocess.Popen(
                [*words, "--tuning", str(self.tuning), *(["--tiny"] if self.tiny else [])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        try:
            yield process
        finally:
            _kill(process)
            self._processes.remove(process)

    def _keep(self, outcome: Outcome) -> Outcome:
        """Write results and report with this outcome, atomically, and return it."""
        with self._lock:
            self.outcomes[outcome.name] = outcome
            self._write()
        if outcome.state != INTERRUPTED:
            note = f": {outcome.note}" if outcome.note else ""
            print(f"{outcome.name}: {outcome.state} after {outcome.seconds:.0f} s{note}", flush=True)
        return outcome

    def _write(self) -> None:
        known = [self.outcomes[part.name] for part in self.parts if part.name in self.outcomes]
        results = {
            "setup": self.setup,
            "started": self.started,
            "parts": [asdict(entry) for entry in known],
            "figures": [f for e in known for f in read_figures(self.output / "figures" / f"{e.name}.jsonl")],
        }
        for name, text in ((RESULTS, json.dumps(results, indent=1) + "\n"), ("report.md", report(results))):
            with replacing(self.output / name) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a part's process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _state(status: int | None, limit: float, log: str) -> tuple[str, str]:
    if status is None:
        return "killed at its limit", f"{limit:.0f} s; its figures so far are kept; see {log}"
    if status == 0:
        return "finished", ""
    if status == LATE:
        return "incomplete", "some figures did not fit in the time; run again with the same --output"
    reason = f"signal {-status}" if status < 0 else f"exit status {status}"
    return "failed", f"{reason}; its figures so far are kept; see {log}"
