"""When a video's pictures start and end, from headers where they can be trusted, else from the packets."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from composer.data.opened import opened
from composer.errors import MediaError
from composer.sample import Media

TRUSTED = {"mov", "avi"}
"""Formats whose header says how long each stream is; FFmpeg guesses it elsewhere, at worst from the bit rate."""

MATROSKA = {"matroska"}

TICK = 1e-3
"""A frame due within this many seconds is on screen already: Matroska rounds times to milliseconds."""


@contextmanager
def opened_video(media: Media) -> Iterator[InputContainer]:
    """A video's streams. Titles and the like need not be UTF-8: nobody here reads them."""
    with opened(media) as file, av.open(file, "r", metadata_errors="replace") as container:
        yield container


class Span(NamedTuple):
    """Presentation times in seconds: when the first picture appears, and when the last one goes."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def has_index(container: InputContainer) -> bool:
    """Whether seeking leads to key frames: elsewhere (MPEG-TS) it leads to some packet about there."""
    return bool((TRUSTED | MATROSKA) & _formats(container))


def _formats(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def seconds(ticks: int | None, unit: Fraction | None) -> float:
    """Ticks of a time base in seconds, 0 where the file says nothing."""
    return float(ticks * unit) if ticks and unit else 0.0


def time_of(frame: VideoFrame) -> float:
    """A frame's presentation time in seconds."""
    return seconds(frame.pts, frame.time_base)


def span_of(media: Media, container: InputContainer, stream: VideoStream) -> Span:
    """When the video's pictures start and end. Raises MediaError for a video without any.

    The end is what the file *should* hold: a truncated file whose header knows better keeps the header's end.
    """
    formats = _formats(container)
    start = seconds(stream.start_time, stream.time_base)
    if stream.duration and TRUSTED & formats:
        return Span(start, start + seconds(stream.duration, stream.time_base))
    tag = _clock(stream.metadata.get("DURATION", ""))
    if tag > start and MATROSKA & formats:
        return Span(start, tag)
    span, reached = _scan(media, stream.index)
    announced = (container.duration or 0) / 1e6
    if MATROSKA & formats and announced > reached + 0.5:  # no stream reaches the header's end: truncated
        return span._replace(end=announced)
    return span


def segment(media: Media, span: Span) -> tuple[float, float]:
    """When the part of a video that is asked for starts and ends, in seconds from its first picture."""
    first, last = media.start or 0.0, span.length if media.end is None else min(media.end, span.length)
    if not 0 <= first < last:
        raise MediaError(
            f"{media.path}: no picture between {first:g} and {last if media.end is None else media.end:g} s, "
            f"the video is {span.length:.2f} s long"
        )
    return first, last


def mvbench_frames(media: Media, frames: int, rate: float, first: int, last: int) -> list[int]:
    """The numbers of the frames that MVBench's own code takes of frames `first` to `last`, `rate` a second.

    They lie near the middles of equal parts, but bounds and parts are rounded to frames as that code rounds them.
    """
    start = max(first, round((-1e5 if media.start is None else media.start) * rate))
    end = min(round((1e5 if media.end is None else media.end) * rate), last)
    if start > end:
        raise MediaError(
            f"{media.path}: no frame between number {start} and {end}, the video's last is {last} at {rate:g} a second"
        )
    part = (end - start) / frames
    return [int(start + part / 2 + round(part * i)) for i in range(frames)]


def picture_times(media: Media, index: int) -> list[float]:
    """When each picture of a video stream appears, in seconds, in order. Reads the whole file and decodes nothing."""
    with opened_video(media) as container:
        return sorted(
            seconds(packet.pts, packet.time_base)
            for packet in container.demux(container.streams[index])
            if packet.pts is not None and not packet.is_discard
        )


def _clock(tag: str) -> float:
    """Matroska's "HH:MM:SS.nnnnnnnnn" in seconds, 0 for anything else."""
    try:
        hours, minutes, rest = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    except ValueError:
        return 0.0


def _scan(media: Media, index: int) -> tuple[Span, float]:
    """The video's span by its packets, and where the last packet of any stream ends. Reads the whole file."""
    starts, ends, reached = [], [0.0], 0.0
    with opened_video(media) as container:  # its own, since not every format can be rewound
        rate = container.streams[index].average_rate
        step = float(1 / rate) if rate else 0.0
        for packet in container.demux():
            if packet.pts is None or packet.is_discard:
                continue
            start = seconds(packet.pts, packet.time_base)
            end = start + seconds(packet.duration, packet.time_base)
            reached = max(reached, end)
            if packet.stream.index == index:
                starts.append(start)
                ends.append(end if packet.duration else start + step)
    if not starts:
        raise MediaError(f"{media.path}: the video stream holds no picture")
    return Span(min(starts), max(ends)), reached
