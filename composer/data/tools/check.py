"""Checking of every record of every source, in several processes. Does not import torch."""

import json
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from composer.atomic import replacing
from composer.data.open_sources import check_size, open_source
from composer.data.tools.faults import file_fault, find_faults
from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.data import SourceConfig

RANGE = 256
"""Number of records that a process checks at a time."""

AHEAD = 4
"""Number of ranges queued per process: enough to keep it busy, few enough for millions of records."""


class OpenSource(NamedTuple):
    """Source to check.

    Attributes:
        name: Name in the recipe.
        reader: Its reader.
        needs_answers: Whether every record must have an answer to train on.
    """

    name: str
    reader: Reader
    needs_answers: bool


@dataclass(frozen=True)
class Problem:
    """Fault of a record or of an entire source.

    Attributes:
        source: Name of the source.
        record: Index of the record, from 0; None if the source itself is at fault.
        place: "file:line" of the record, or the source's key in the recipe.
        reason: What is wrong.
    """

    source: str
    record: int | None
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass
class CheckResult:
    """Outcome of a check. Sources are identified by their index, because several may have the same name.

    Attributes:
        records: Number of records of each source that could be opened.
        problems: Number of problems of each source.
    """

    records: dict[int, int] = field(default_factory=dict)
    problems: Counter[int] = field(default_factory=Counter)


class RangeResult(NamedTuple):
    """Outcome for a range of records.

    Attributes:
        source: Index of the source.
        records: Number of records that were checked.
        problems: Their problems, in order.
    """

    source: int
    records: int
    problems: list[Problem]


class _Range(NamedTuple):
    source: int
    start: int
    stop: int


def check(
    sources: Sequence[tuple[SourceConfig, bool]],
    *,
    decode: bool = False,
    num_workers: int = 0,
    report: Path | None = None,
    on_problem: Callable[[int, Problem], None] = lambda source, problem: None,
    on_start: Callable[[int], None] = lambda records: None,
    on_progress: Callable[[int], None] = lambda records: None,
) -> CheckResult:
    """Check every record of sources: its text, its answers and its media.

    Args:
        sources: Sources of a recipe, each with whether its records must have answers to train on.
        decode: Whether to decode images and the first frame of videos. Otherwise media must exist and not be empty.
        num_workers: Number of processes; 0 for the current one.
        report: File for all problems, as JSON Lines with the attributes of `Problem`.
        on_problem: Called with each problem and the index of its source, in order.
        on_start: Called once with the total number of records.
        on_progress: Called with the number of records checked since the last call.

    Returns:
        Counts of records and problems.

    Raises:
        DataError: If a worker process is killed.
    """
    result = CheckResult()
    with _open_report(report) as file:

        def note(source: int, problem: Problem) -> None:
            result.problems[source] += 1
            if file is not None:
                file.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")
            on_problem(source, problem)

        opened = _open(sources, note)
        result.records = {index: len(source.reader) for index, source in opened.items()}
        on_start(sum(result.records.values()))
        indices = list(opened)
        for part in check_records(list(opened.values()), decode=decode, num_workers=num_workers):
            on_progress(part.records)
            for problem in part.problems:
                note(indices[part.source], problem)
    return result


@contextmanager
def _open_report(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def _open(sources: Sequence[tuple[SourceConfig, bool]], note: Callable[[int, Problem], None]) -> dict[int, OpenSource]:
    """Open sources, by index. Notes those that cannot be opened or whose size is wrong."""
    opened = {}
    for index, (source, needs_answers) in enumerate(sources):
        try:
            reader = open_source(source)
            opened[index] = OpenSource(source.name, reader, needs_answers)
            check_size(source, len(reader))
        except DataError as error:
            note(index, Problem(source.name, None, f"data.sources.{source.name}", str(error)))
    return opened


def check_records(sources: Sequence[OpenSource], *, decode: bool, num_workers: int) -> Iterator[RangeResult]:
    """Check the records of open sources.

    Args:
        sources: The sources.
        decode: Whether to decode images and the first frame of videos.
        num_workers: Number of processes; 0 for the current one.

    Yields:
        Results of ranges of records, in order.

    Raises:
        DataError: If a worker process is killed.
    """
    ranges = (
        _Range(number, start, min(start + RANGE, len(source.reader)))
        for number, source in enumerate(sources)
        for start in range(0, len(source.reader), RANGE)
    )
    if not num_workers:
        _begin(sources, decode)
        for one in ranges:
            yield RangeResult(one.source, one.stop - one.start, _check(one))
        return
    pool = ProcessPoolExecutor(num_workers, initializer=_begin, initargs=(sources, decode, True))
    waiting: deque[tuple[_Range, Future[list[Problem]]]] = deque()
    try:
        for one in ranges:
            waiting.append((one, pool.submit(_check, one)))
            if len(waiting) > AHEAD * num_workers:
                yield _result(sources, *waiting.popleft())
        while waiting:
            yield _result(sources, *waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(sources: Sequence[OpenSource], one: _Range, future: Future[list[Problem]]) -> RangeResult:
    try:
        return RangeResult(one.source, one.stop - one.start, future.result())
    except BrokenProcessPool:
        reader = sources[one.source].reader
        raise DataError(
            f"a worker process was killed while it checked records near {reader.location(one.start)}: it ran out of "
            "memory (use fewer --num-workers), or a decoder crashed (--num-workers 0 shows where)"
        ) from None


_sources: Sequence[OpenSource] = ()
_decode = False
"""Arguments of a worker process, set once: readers are too large to be sent with each range."""


def _begin(sources: Sequence[OpenSource], decode: bool, child: bool = False) -> None:
    global _sources, _decode
    _sources, _decode = sources, decode
    file_fault.cache_clear()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C


def _check(one: _Range) -> list[Problem]:
    name, reader, needs_answers = _sources[one.source]
    problems = []
    for index in range(one.start, one.stop):
        try:
            faults = list(find_faults(reader[index], needs_answers=needs_answers, decode=_decode))
        except DataError as error:
            faults = [str(error)]
        if faults:
            place = reader.location(index)
            problems += [Problem(name, index, place, fault.removeprefix(f"{place}: ")) for fault in faults]
    return problems
