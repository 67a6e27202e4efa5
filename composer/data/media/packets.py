"""Packets of a video stream and their times."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from composer.data.media.opened import open_media
from composer.data.media.pyav import OPEN
from composer.sample import Media

INDEXED = {"mov", "avi", "matroska"}
"""Formats in which seeking finds key frames. In others, such as MPEG-TS, it finds any packet nearby."""

UNORDERED = {"avi", "asf"}
"""Formats without presentation times. FFmpeg guesses them, sometimes wrongly."""

JOINED = {"mpegts", "mpeg"}
"""Formats whose files may be concatenated byte by byte, so that times restart or jump."""

LONGEST_GAP, LONGEST_STEP_BACK = 10.0, 0.1
"""Largest jumps of time in seconds, as in the ffmpeg command. After a larger jump, times continue from the previous."""


@contextmanager
def open_video(media: Media) -> Iterator[InputContainer]:
    """Open a video's container.

    Args:
        media: A video file.

    Yields:
        PyAV's container, open for the duration of the block.

    Raises:
        MediaError: If the file is missing.
    """
    with open_media(media) as file, av.open(file, "r", **OPEN) as container:
        yield container


def has_index(container: InputContainer) -> bool:
    """Return whether seeking in this format finds key frames."""
    return bool(INDEXED & formats(container))


def in_decoding_order(container: InputContainer) -> bool:
    """Return whether packets only have times in decoding order, which may differ from display order."""
    return bool(UNORDERED & formats(container))


def time_ticks(container: InputContainer, packet: "Packet[VideoStream]") -> int | None:
    """Return the time of a packet's frame.

    Args:
        container: The video's container.
        packet: A packet of the video stream.

    Returns:
        The presentation time in ticks of the packet's time base; the decoding time if the format only has these;
        None if the packet has no time.
    """
    return packet.dts if packet.pts is None or in_decoding_order(container) else packet.pts


def formats(container: InputContainer) -> set[str]:
    """Return FFmpeg's names of a container's format."""
    return set(container.format.name.split(","))


def seconds(ticks: int | None, unit: Fraction | None) -> float:
    """Convert ticks of a time base to seconds; 0 if either is unknown."""
    return float(ticks * unit) if ticks and unit else 0.0


def time_of(frame: VideoFrame) -> float:
    """Return a frame's presentation time in seconds."""
    return seconds(frame.pts, frame.time_base)


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """Iterate over the packets of a stream, including the final empty one that flushes a decoder.

    Other packets without bytes, which repeat the previous frame, are skipped. Times of concatenated files continue.

    Args:
        container: The video's container.
        stream: The video stream.

    Yields:
        Packets in decoding order.
    """
    joined = Joined(float(stream.time_base or 0)) if JOINED & formats(container) else None
    for packet in container.demux(stream):
        if packet.size or (packet.dts is None and packet.pts is None):
            if joined is not None:
                joined.shift(packet)
            yield packet


class Joined:
    """Correction of packet times that restart or jump, as in the ffmpeg command.

    Args:
        unit: Seconds per tick of the stream.
    """

    def __init__(self, unit: float) -> None:
        self.gap, self.step_back = round(LONGEST_GAP / unit), round(LONGEST_STEP_BACK / unit)
        self.offset, self.delay = 0, 0
        self.previous: int | None = None
        self.due = 0

    def shift(self, packet: "Packet[VideoStream]") -> None:
        """Correct a packet's times in place. Packets must come in decoding order."""
        if packet.dts is None:
            return
        delay = self.delay if packet.pts is None else packet.pts - packet.dts
        if 0 <= delay <= self.gap:  # else FFmpeg derived the presentation time from a packet after the jump
            self.delay = delay
        time = packet.dts + self.offset
        if self.previous is not None and (time - self.due > self.gap or self.previous - time > self.step_back):
            self.offset += self.due - time
        packet.dts = self.previous = packet.dts + self.offset
        packet.pts = None if packet.pts is None else self.previous + self.delay
        self.due = self.previous + (packet.duration or 0)


def frame_times(media: Media, index: int) -> list[float]:
    """List the presentation times of a video stream's frames. Reads the entire file without decoding it.

    Args:
        media: A video file.
        index: Index of the stream in the file.

    Returns:
        Times in seconds, in increasing order.
    """
    with open_video(media) as container:
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        return sorted(
            seconds(ticks, packet.time_base)
            for packet in packets_of(container, stream)
            if (ticks := time_ticks(container, packet)) is not None and not packet.is_discard
        )
