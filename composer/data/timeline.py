"""When a video's pictures start and end, from headers where they can be trusted, else from the packets."""

from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from composer.errors import MediaError

TRUSTED = {"mov", "avi"}
"""Formats whose header says how long each stream is; FFmpeg guesses it elsewhere, at worst from the bit rate."""

MATROSKA = {"matroska"}


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


def span_of(path: str, container: InputContainer, stream: VideoStream) -> Span:
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
    span, reached = _scan(path, stream.index)
    announced = (container.duration or 0) / 1e6
    if MATROSKA & formats and announced > reached + 0.5:  # no stream reaches the header's end: truncated
        return span._replace(end=announced)
    return span


def _clock(tag: str) -> float:
    """Matroska's "HH:MM:SS.nnnnnnnnn" in seconds, 0 for anything else."""
    try:
        hours, minutes, rest = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    except ValueError:
        return 0.0


def _scan(path: str, index: int) -> tuple[Span, float]:
    """The video's span by its packets, and where the last packet of any stream ends. Reads the whole file."""
    starts, ends, reached = [], [0.0], 0.0
    with av.open(path) as container:  # its own, since not every format can be rewound
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
        raise MediaError(f"{path}: the video stream holds no picture")
    return Span(min(starts), max(ends)), reached
