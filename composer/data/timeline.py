"""When a video's pictures start and end, from headers where they can be trusted, else from the packets."""

from typing import NamedTuple

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from composer.errors import MediaError

TRUSTED = ("mov", "avi")
"""Formats whose header says how long each stream is; FFmpeg guesses it elsewhere, at worst from the bit rate."""

MATROSKA = "matroska"


class Span(NamedTuple):
    """Presentation times in seconds: when the first picture appears, and when the last one goes."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def time_of(frame: VideoFrame) -> float:
    """A frame's presentation time in seconds."""
    return float(frame.pts * frame.time_base)


def span_of(path: str, container: InputContainer, stream: VideoStream) -> Span:
    """When the video's pictures start and end. Raises MediaError for a video without any.

    The end is what the file *should* hold: a truncated file whose header knows better keeps the header's end.
    """
    formats = container.format.name.split(",")
    start = float((stream.start_time or 0) * stream.time_base)
    if stream.duration and any(name in TRUSTED for name in formats):
        return Span(start, start + float(stream.duration * stream.time_base))
    tag = _seconds(stream.metadata.get("DURATION", ""))
    if tag > start and MATROSKA in formats:
        return Span(start, tag)
    span, reached = _scan(path, container, stream)
    announced = (container.duration or 0) / 1e6
    if MATROSKA in formats and announced > reached + 0.5:  # no stream reaches the header's end: truncated
        return span._replace(end=announced)
    return span


def _seconds(tag: str) -> float:
    """Matroska's "HH:MM:SS.nnnnnnnnn" in seconds, 0 for anything else."""
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _scan(path: str, container: InputContainer, stream: VideoStream) -> tuple[Span, float]:
    """The video's span by its packets, and where the last packet of any stream ends. Reads the whole file."""
    starts, ends, reached = [], [0.0], 0.0
    step = 1 / stream.average_rate if stream.average_rate else 0
    for packet in container.demux():
        if packet.pts is None or packet.is_discard or not packet.time_base:
            continue
        start = float(packet.pts * packet.time_base)
        end = start + float((packet.duration or 0) * packet.time_base)
        reached = max(reached, end)
        if packet.stream.index == stream.index:
            starts.append(start)
            ends.append(end if packet.duration else start + float(step))
    if not starts:
        raise MediaError(f"{path}: the video stream holds no picture")
    container.seek(0)
    return Span(min(starts), max(ends)), reached
