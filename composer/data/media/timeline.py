"""Times of a video's frames, from its packets. Headers are not reliable."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from composer.data.media.avi import count_chunks
from composer.data.media.packets import formats, has_index, open_video, packets_of, seconds, time_ticks
from composer.data.media.truncated import is_truncated
from composer.errors import MediaError
from composer.sample import Media

TICK = 1e-3
"""Tolerance in seconds when comparing times. Matroska rounds them to milliseconds."""

HEAD = 32
"""Number of packets to search for the first frame. Codecs reorder up to 16."""

HOLD = 0.04
"""Duration of a frame in seconds, if the file gives neither durations nor a frame rate."""

FAR = 1e6
"""A time in seconds after the end of any video."""

TIMELESS = "frames carry no time; put the stream into mp4 or mkv"


class Span(NamedTuple):
    """Time span of a video, in seconds of presentation time.

    Attributes:
        start: Time of the first frame.
        end: Time at which the last frame ends.
        last: Time of the last frame.
    """

    start: float
    end: float
    last: float = 0.0

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return self.end - self.start


def span_of(media: Media, container: InputContainer, stream: VideoStream) -> Span:
    """Determine when a video's frames start and end.

    A truncated file keeps the end given in its header, so that a time in the missing part is an error.

    Args:
        media: A video file.
        container: Its open container.
        stream: Its video stream.

    Returns:
        The video's time span.

    Raises:
        MediaError: If the video has no frames or no times.
    """
    truncated = is_truncated(media)
    try:
        span = _scan(media, stream.index, truncated)
    except EOFError:
        truncated, span = True, _scan(media, stream.index, True)
    if span is None:
        raise MediaError(f"{media.path}: got a video stream without frames, expected at least one")
    if truncated:
        declared = span.start + seconds(stream.duration, stream.time_base)
        counted = stream.frames / float(stream.average_rate) if stream.average_rate else 0.0
        end = max(span.end, declared, span.start + max((container.duration or 0) / 1e6, counted))
        return Span(span.start, end, last=end)
    if "avi" in formats(container):  # empty chunks at the end repeat the last frame
        return span._replace(end=max(span.end, seconds(count_chunks(media, stream.index), stream.time_base)))
    tag = _clock(stream.metadata.get("DURATION", ""))  # an end time or a duration, more precise than Matroska's times
    return span._replace(
        end=max((end for end in (tag, span.start + tag) if span.last < end <= span.end + 2 * TICK), default=span.end)
    )


def segment(media: Media, span: Span) -> tuple[float, float]:
    """Determine the requested segment of a video.

    Args:
        media: A video, with optional `start` and `end`.
        span: Time span of the video.

    Returns:
        Start and end in seconds from the first frame. An end after the video's end is moved there.

    Raises:
        MediaError: If the segment contains no frame.
    """
    first, last = media.start or 0.0, span.length if media.end is None else min(media.end, span.length)
    if not 0 <= first < last:
        raise MediaError(
            f"{media.path}: no frame between {first:g} and {last if media.end is None else media.end:g} s, "
            f"the video is {span.length:.2f} s long"
        )
    return first, last


def mvbench_frames(media: Media, frames: int, rate: float, first: int, last: int) -> list[int]:
    """Compute the frame numbers that MVBench's own code samples.

    They are near the midpoints of equal parts, but bounds and parts are rounded to frames as in that code.

    Args:
        media: A video, with optional `start` and `end`.
        frames: Number of frames to sample.
        rate: Frames per second.
        first: Number of the video's first frame.
        last: Number of the video's last frame.

    Returns:
        Frame numbers, one per sampled frame.

    Raises:
        MediaError: If the segment contains no frame.
    """
    start = max(first, round((-1e5 if media.start is None else media.start) * rate))
    end = min(round((1e5 if media.end is None else media.end) * rate), last)
    if start > end:
        raise MediaError(
            f"{media.path}: no frames between {start} and {end}; "
            f"the last of the video is frame {last}, at {rate:g} frames per second"
        )
    part = (end - start) / frames
    return [int(start + part / 2 + round(part * i)) for i in range(frames)]


def _clock(tag: str) -> float:
    """Convert Matroska's "HH:MM:SS.nnnnnnnnn" to seconds; 0 for any other text."""
    try:
        hours, minutes, rest = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    except ValueError:
        return 0.0


def _scan(media: Media, index: int, truncated: bool) -> Span | None:
    """Determine a video's span from its packets: those at both ends if there is an index, else all.

    Returns None if there are no frames. Opens the file itself, because not every format can be rewound.
    """
    times, key, timeless = [], None, False
    with open_video(media) as container, suppress(*[EOFError, av.error.FFmpegError][: 2 * truncated]):
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        hold = default = float(1 / stream.average_rate) if stream.average_rate else HOLD
        for packet in (_packets_of_ends if has_index(container) else packets_of)(container, stream):
            ticks = time_ticks(container, packet)
            timeless = timeless or (ticks is None and packet.size > 0)
            if ticks is None:
                continue
            time = seconds(ticks, packet.time_base)
            key = time if key is None and packet.is_keyframe else key
            if not packet.is_discard:
                times.append(time)
                hold = seconds(packet.duration, packet.time_base) or default  # MP4 stores durations in decoding order
    if not times and timeless:
        raise MediaError(f"{media.path}: {TIMELESS}")
    if not times:
        return None
    # frames before the first key frame cannot be decoded
    start, last = min((time for time in times if key is None or time >= key), default=times[0]), max(times)
    return Span(start, last + hold, last)


def _packets_of_ends(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """Iterate over a stream's packets at the start of the file, and from the last key frame to the end.

    Raises EOFError if an index of all packets points past the end of the file.
    """
    yield from islice(packets_of(container, stream), HEAD)
    far, empty = round(FAR / float(stream.time_base or 1)), True
    with suppress(av.error.FFmpegError):  # otherwise all packets are read
        container.seek(far, stream=stream)
    for packet in packets_of(container, stream):
        empty = empty and not packet.size
        yield packet
    if empty and "mov" in formats(container):
        raise EOFError
    if empty:
        container.seek(-far, stream=stream)
        yield from packets_of(container, stream)
