"""Every record of every source read, and every medium in it looked for, by several processes. No torch here."""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from composer.data.answers import drop_unanswered_turns, is_trained_on
from composer.data.media.folder import list_images, read_folder
from composer.data.media.image import check_image, read_image
from composer.data.media.opened import open_media
from composer.data.media.video import read_video
from composer.errors import DataError, MediaError
from composer.prompt import WORLD, pieces, split_question
from composer.reader import Reader
from composer.sample import Media, Sample
from composer.transform import FrameTransform

RANGE = 256
"""Records that a process checks at a time."""

AHEAD = 4
"""Ranges that wait for each process: enough that none is idle, and few enough for millions of records."""

THUMBNAIL = FrameTransform(size=32, patch_size=1, resize="squash")
"""What decoding is asked for: the decoder reads all of a picture, and nothing large is kept."""

GLIMPSE = 1e-3
"""Seconds of a video that are asked for: those of its first frame."""


class CheckedSource(NamedTuple):
    """An opened source to be checked. needs_answers: whether its answers are needed."""

    name: str
    reader: Reader
    needs_answers: bool


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record. record: its number, from 0, None where it is the source; place: "file:line"."""

    source: str
    record: int | None
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class RangeResult(NamedTuple):
    """What a range of records was found to be. source: its place among those checked, for names may be the same."""

    source: int
    records: int
    problems: list[Problem]


class _Range(NamedTuple):
    source: int
    start: int
    stop: int


def check(sources: Sequence[CheckedSource], *, decode: bool, num_workers: int) -> Iterator[RangeResult]:
    """How many more records of which source are read, and what is wrong with them, in their order.

    By default a medium must be there, hold something, and lie inside its archive; with `decode` an image must be
    decodable as a whole, and of a video the first frame. num_workers: processes, 0 for this one. Raises DataError
    where a process is killed.
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


def _result(sources: Sequence[CheckedSource], one: _Range, future: Future[list[Problem]]) -> RangeResult:
    try:
        return RangeResult(one.source, one.stop - one.start, future.result())
    except BrokenProcessPool:
        reader = sources[one.source].reader
        raise DataError(
            f"a process was killed that checked records from {reader.location(one.start)} on, or near them: it ran "
            "out of memory (use fewer --num-workers), or a decoder crashed (--num-workers 0 shows where)"
        ) from None


_sources: Sequence[CheckedSource] = ()
_decode = False
"""What a process checks, set once: readers are too large to be sent with each range."""


def _begin(sources: Sequence[CheckedSource], decode: bool, child: bool = False) -> None:
    global _sources, _decode
    _sources, _decode = sources, decode
    _fault_of_file.cache_clear()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits


def _check(one: _Range) -> list[Problem]:
    name, reader, needs_answers = _sources[one.source]
    found = []
    for index in range(one.start, one.stop):
        try:
            faults = list(_faults(reader[index], needs_answers))
        except DataError as error:
            faults = [str(error)]
        if faults:
            place = reader.location(index)
            found += [Problem(name, index, place, fault.removeprefix(f"{place}: ")) for fault in faults]
    return found


def _faults(sample: Sample, needs_answers: bool) -> Iterator[str]:
    """What is wrong with a record that can be read."""
    said = any(part.strip() for m in sample.messages for part in m.content if isinstance(part, str))
    if not said and not sample.media:
        yield "neither text nor media in it"
    elif needs_answers and not any(map(is_trained_on, sample.messages)):
        yield "no answer to learn from"
    else:
        yield from _fault_of_turns(sample, needs_answers)
    for media in sample.media:
        fault = _fault_of_file(media) if media.data is None else _fault(media)
        if fault is not None:
            yield fault


def _fault_of_turns(sample: Sample, needs_answers: bool) -> Iterator[str]:
    """What would stop the conversation from becoming a prompt: its turns fit every template alike, or none."""
    try:
        prompt = drop_unanswered_turns(sample) if needs_answers else split_question(sample)[0]
        pieces(prompt, "media-first", WORLD, answer=not needs_answers)
    except DataError as error:
        yield str(error)


@lru_cache(maxsize=2**14)
def _fault_of_file(media: Media) -> str | None:
    """The same, remembered: several records in a row are often about one file."""
    return _fault(media)


def _fault(media: Media) -> str | None:
    try:
        check_media_exists(media)
        if _decode:
            _read(media)
    except MediaError as error:
        return str(error)
    except OSError as error:
        return f"{media.path}: cannot be read: {error.strerror}"
    return None


def check_media_exists(media: Media) -> None:
    """Raises MediaError where a medium is missing, holds nothing, or lies outside its archive."""
    if media.fps is not None:
        media = list_images(media)[-1]  # what is cut off is cut off at the end
    with open_media(media):
        pass
    if media.data is None and media.span is None and os.path.isdir(media.path):
        raise MediaError(f"{media.path}: got a folder, expected a file; videos as folders need the reader's `fps`")
    size = len(media.data) if media.data is not None else media.span[1] if media.span else os.path.getsize(media.path)
    if not size:
        raise MediaError(f"{media.path}: the file is empty")


def _read(media: Media) -> None:
    if media.kind == "image":
        read_image(media, THUMBNAIL)
        check_image(media)
        return
    first = replace(media, end=(media.start or 0.0) + GLIMPSE, rule="middle")
    (read_video if media.fps is None else read_folder)(first, THUMBNAIL, 1)
