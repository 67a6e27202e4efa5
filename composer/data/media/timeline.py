"""When a video's pictures start and end, by its packets: headers may mean something else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from composer.data.media.avi import count_chunks
from composer.data.media.opened import open_media
from composer.data.media.pyav import OPEN
from composer.data.media.truncated import is_truncated
from composer.errors import MediaError
from composer.sample import Media

INDEXED = {"mov", "avi", "matroska"}
"""Formats in which seeking leads to key frames: elsewhere (MPEG-TS) it leads to some packet about there."""

UNORDERED = {"avi", "asf"}
"""Formats that know no presentation times: FFmpeg makes some up, and not always the right ones."""

JOINED = {"mpegts", "mpeg"}
"""Formats whose files may be joined byte by byte, so that times start again or jump."""

TICK = 1e-3
"""A frame due within this many seconds is on screen already: Matroska rounds times to milliseconds."""

HEAD = 32
"""Packets at the start among which the first picture is: codecs reorder up to 16."""

HOLD = 0.04
"""Seconds that a picture stays if the file gives neither its length nor a rate."""

FAR = 1e6
"""Seconds, beyond the end of any video."""

LONGEST_GAP, LONGEST_STEP_BACK = 10.0, 0.1
"""Seconds by which times may jump, as in ffmpeg's command line; beyond that they continue the times before."""

TIMELESS = "frames carry no time; put the stream into mp4 or mkv"


@contextmanager
def open_video(media: Media) -> Iterator[InputContainer]:
    """A video's streams."""
    with open_media(media) as file, av.open(file, "r", **OPEN) as container:
        yield container


class Span(NamedTuple):
    """Presentation times in seconds: when the first picture appears, when the last one goes, and when that appears."""

    start: float
    end: float
    last: float = 0.0

    @property
    def length(self) -> float:
        return self.end - self.start


def has_index(container: InputContainer) -> bool:
    """Whether seeking leads to key frames."""
    return bool(INDEXED & _formats(container))


def in_decoding_order(container: InputContainer) -> bool:
    """Whether packets carry times in the order of decoding, though pictures may be shown in another."""
    return bool(UNORDERED & _formats(container))


def time_ticks(container: InputContainer, packet: "Packet[VideoStream]") -> int | None:
    """When a packet's picture, or in decoding order some picture, appears; None if the file does not say."""
    return packet.dts if packet.pts is None or in_decoding_order(container) else packet.pts


def _formats(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def seconds(ticks: int | None, unit: Fraction | None) -> float:
    """Ticks of a time base in seconds, 0 where the file says nothing."""
    return float(ticks * unit) if ticks and unit else 0.0


def time_of(frame: VideoFrame) -> float:
    """A frame's presentation time in seconds."""
    return seconds(frame.pts, frame.time_base)


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """The packets of a stream, last the empty one that makes a decoder give what it holds.

    Packets without bytes, which hold the picture before, are skipped. Times of joined files continue.
    """
    joined = Joined(float(stream.time_base or 0)) if JOINED & _formats(container) else None
    for packet in container.demux(stream):
        if packet.size or (packet.dts is None and packet.pts is None):
            if joined is not None:
                joined.shift(packet)
            yield packet


class Joined:
    """Continues the times of packets if they start again or jump, as ffmpeg's command line does."""

    def __init__(self, unit: float) -> None:
        self.gap, self.step_back = round(LONGEST_GAP / unit), round(LONGEST_STEP_BACK / unit)
        self.offset, self.delay = 0, 0
        self.before: int | None = None
        self.due = 0

    def shift(self, packet: "Packet[VideoStream]") -> None:
        """Correct a packet's times; packets come in decoding order."""
        if packet.dts is None:
            return
        delay = self.delay if packet.pts is None else packet.pts - packet.dts
        if 0 <= delay <= self.gap:  # else FFmpeg made the presentation time from a packet beyond the jump
            self.delay = delay
        time = packet.dts + self.offset
        if self.before is not None and (time - self.due > self.gap or self.before - time > self.step_back):
            self.offset += self.due - time
        packet.dts = self.before = packet.dts + self.offset
        packet.pts = None if packet.pts is None else self.before + self.delay
        self.due = self.before + (packet.duration or 0)


def span_of(media: Media, container: InputContainer, stream: VideoStream) -> Span:
    """When the video's pictures start and end. Raises MediaError for a video without any.

    A truncated file keeps the end that its header announces, so that a time in the missing part is an error.
    """
    truncated = is_truncated(media)
    try:
        span = _scan(media, stream.index, truncated)
    except EOFError:
        truncated, span = True, _scan(media, stream.index, True)
    if span is None:
        raise MediaError(f"{media.path}: the video stream holds no picture")
    if truncated:
        announced = span.start + seconds(stream.duration, stream.time_base)
        counted = stream.frames / float(stream.average_rate) if stream.average_rate else 0.0
        end = max(span.end, announced, span.start + max((container.duration or 0) / 1e6, counted))
        return Span(span.start, end, last=end)
    if "avi" in _formats(container):  # chunks without bytes at the end hold the last picture
        return span._replace(end=max(span.end, seconds(count_chunks(media, stream.index), stream.time_base)))
    tag = _clock(stream.metadata.get("DURATION", ""))  # an end or a length, finer than Matroska's times
    return span._replace(
        end=max((end for end in (tag, span.start + tag) if span.last < end <= span.end + 2 * TICK), default=span.end)
    )


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


def frame_times(media: Media, index: int) -> list[float]:
    """When each picture of a video stream appears, in seconds, in order. Reads the whole file and decodes nothing."""
    with open_video(media) as container:
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        return sorted(
            seconds(ticks, packet.time_base)
            for packet in packets_of(container, stream)
            if (ticks := time_ticks(container, packet)) is not None and not packet.is_discard
        )


def _clock(tag: str) -> float:
    """Matroska's "HH:MM:SS.nnnnnnnnn" in seconds, 0 for anything else."""
    try:
        hours, minutes, rest = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    except ValueError:
        return 0.0


def _scan(media: Media, index: int, truncated: bool) -> Span | None:
    """The video's span by its packets: by those at both ends if there is an index, else by all; None if there are none.

    Opens the file itself, since not every format can be rewound.
    """
    times, key, timeless = [], None, False
    with open_video(media) as container, suppress(*[EOFError, av.error.FFmpegError][: 2 * truncated]):
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        hold = usual = float(1 / stream.average_rate) if stream.average_rate else HOLD
        for packet in (_packets_of_ends if has_index(container) else packets_of)(container, stream):
            ticks = time_ticks(container, packet)
            timeless = timeless or (ticks is None and packet.size > 0)
            if ticks is None:
                continue
            time = seconds(ticks, packet.time_base)
            key = time if key is None and packet.is_keyframe else key
            if not packet.is_discard:
                times.append(time)
                hold = seconds(packet.duration, packet.time_base) or usual  # MP4's lengths are in decoding order
    if not times and timeless:
        raise MediaError(f"{media.path}: {TIMELESS}")
    if not times:
        return None
    # what should appear before the first key frame cannot be decoded
    start, last = min((time for time in times if key is None or time >= key), default=times[0]), max(times)
    return Span(start, last + hold, last)


def _packets_of_ends(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """The packets of a stream at the start of the file, and those from the last key frame on.

    Raises EOFError if an index that knows all packets leads beyond the end of the file.
    """
    yield from islice(packets_of(container, stream), HEAD)
    far, empty = round(FAR / float(stream.time_base or 1)), True
    with suppress(av.error.FFmpegError):  # else everything is read
        container.seek(far, stream=stream)
    for packet in packets_of(container, stream):
        empty = empty and not packet.size
        yield packet
    if empty and "mov" in _formats(container):
        raise EOFError
    if empty:
        container.seek(-far, stream=stream)
        yield from packets_of(container, stream)
