"""Decoding of videos with PyAV at uniform presentation times. Seeks past frames that are not needed.

Matroska's headers give no frame count, and with edit lists the count is too high. Therefore frames are located by
presentation time, not by number.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from composer.data.media.limits import check_dimensions
from composer.data.media.opened import decoding
from composer.data.media.packets import (
    frame_times,
    has_index,
    in_decoding_order,
    open_video,
    packets_of,
    seconds,
    time_of,
)
from composer.data.media.pixels import Scaler
from composer.data.media.timeline import TICK, TIMELESS, Span, mvbench_frames, segment, span_of
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

KEY_INTERVAL = 1.0
"""Assumed seconds between key frames, until the file shows its actual interval."""

UNREADABLE = "cannot be read as a video"


def read_video(media: Media, transform: FrameTransform, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Sample frames of a video at the midpoints of equal parts of its duration.

    A video with fewer frames than requested repeats some. With the rule "mvbench", the frames are those of MVBench's
    own code. Frames are turned upright and scaled one at a time.

    Args:
        media: A video. Its `start` and `end` are seconds from the first frame; a later end is moved to the video's.
        transform: Size, cropping and resampling filter of the frames.
        frames: Number of frames to sample.

    Returns:
        Frames [F, H, W, 3] uint8, and the requested times [F] float32 in seconds from the segment's start.

    Raises:
        MediaError: If the file is missing, empty, not a video, or cannot be decoded at a requested time.
    """
    path = media.path
    with decoding(path, UNREADABLE), open_video(media) as container:
        stream = video_stream(path, container)
        span = span_of(media, container, stream)
        times: NDArray[np.floating]
        if media.rule == "mvbench":
            first, times = media.start or 0.0, _mvbench_times(media, stream, span, frames)
        else:
            first, last = segment(media, span)
            times = (np.arange(frames) + 0.5) * ((last - first) / frames)
        cursor, scale = Cursor(path, container, stream, span), Scaler(path, stream, transform)
        with _opacity(media, container, stream, span) as opacity:
            images = [
                scale(cursor.at(time), None if opacity is None else opacity.at(time))
                for time in (span.start + first + times).tolist()
            ]
    return np.stack(images), np.maximum(times, 0.0).astype(np.float32)


def _mvbench_times(media: Media, stream: VideoStream, span: Span, frames: int) -> NDArray[np.float64]:
    """Return the times of the frames that MVBench's code samples, in seconds from the segment's start."""
    timestamps = frame_times(media, stream.index)
    if not timestamps or not stream.average_rate:
        raise MediaError(f"{media.path}: got no frame rate or no frame times, which MVBench's rule requires")
    numbers = mvbench_frames(media, frames, float(stream.average_rate), 0, len(timestamps) - 1)
    return np.array(timestamps)[numbers] - span.start - (media.start or 0.0)


def video_stream(path: str, container: InputContainer) -> VideoStream:
    """Select the video stream: the default one, then the largest, as in the ffmpeg command.

    Args:
        path: Path of the video, for error messages.
        container: Its open container.

    Returns:
        The stream to decode.

    Raises:
        MediaError: If there is no video stream, its codec is unknown or its frames are too large.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:  # a cover image is not a video
        kinds = sorted({stream.type for stream in container.streams})
        raise MediaError(f"{path}: no video stream; the file contains {', '.join(kinds) or 'no streams'}")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaError(f"{path}: FFmpeg does not know this video's codec: encode it again, for example as H.264")
    stream = max(known, key=_rank)
    if container.format.name != "webp_pipe":  # the size is unknown until a frame is decoded
        check_dimensions(path, stream.codec_context.height, stream.codec_context.width)
    return stream


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    """Sort key that selects a stream. A stream with a single frame is a preview, as in animated AVIF."""
    pixels = stream.codec_context.width * stream.codec_context.height
    return stream.frames != 1, bool(stream.disposition & Disposition.default), pixels


@contextmanager
def _opacity(media: Media, container: InputContainer, stream: VideoStream, span: Span) -> Iterator["Cursor | None"]:
    """Open a cursor on the stream with the video's opacity, which AVIF stores separately; None if there is none."""
    candidates = [
        other
        for other in container.streams.video
        if other.index > stream.index and other.frames == stream.frames and other.duration == stream.duration
    ]
    if not candidates or container.metadata.get("major_brand") not in ("avif", "avis"):
        yield None
        return
    with open_video(media) as second:
        other = second.streams.video[container.streams.video.index(candidates[0])]
        yield Cursor(media.path, second, other, span)


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """Return a stream's decoder. Only libvpx decodes the opacity of VP8 and VP9, not FFmpeg's own decoders."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name, "")
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
        decoder = cast(VideoCodecContext, VideoCodecContext.create(name, "r"))
    decoder.thread_count = 1
    return decoder


class Cursor:
    """Position in a video that moves forward by decoding or seeking, whichever should decode fewer frames.

    Args:
        path: Path of the video, for error messages.
        container: Its open container.
        stream: The stream to decode.
        span: Time span of the video.
    """

    def __init__(self, path: str, container: InputContainer, stream: VideoStream, span: Span) -> None:
        self.path, self.container, self.stream, self.span = path, container, stream, span
        self.decoder, self.unordered = _decoder(stream), in_decoding_order(container)
        reordered = self.unordered and stream.codec_context.has_b_frames  # the time of a key frame is unknown
        self.seekable, self.key_interval = has_index(container) and not reordered, KEY_INTERVAL
        self.failure = "truncated"
        self._restart()

    def at(self, time: float) -> VideoFrame:
        """Return the frame displayed at a time: the last one that starts at or before it.

        Args:
            time: Presentation time in seconds. Must not decrease from call to call.

        Returns:
            The decoded frame.

        Raises:
            MediaError: If no frame can be decoded at this time.
        """
        time += TICK
        if self.seekable and time - self._decoded > self.key_interval:
            self._seek(time)
        while not self.ended and (self.ahead is None or time_of(self.ahead) <= time):
            self._advance()
        frame = self.current or self.ahead
        if frame is None or (self.ended and self._is_missing(frame, time)):
            raise MediaError(
                f"{self.path}: {self.failure}: no frame can be decoded at {time - self.span.start:.2f} s "
                f"of {self.span.length:.2f} s"
            )
        return frame

    def _is_missing(self, frame: VideoFrame, time: float) -> bool:
        """Return whether frames up to `time` are missing after `frame`, the last one that could be decoded."""
        return min(time, self.span.last) > time_of(frame) + 2 * self._duration(frame)

    @property
    def _decoded(self) -> float:
        """Time up to which frames are decoded."""
        frame = self.ahead or self.current
        return self.span.start if frame is None else time_of(frame)

    def _restart(self) -> None:
        self.current: VideoFrame | None = None
        self.ahead: VideoFrame | None = None
        self.ended = False
        self.last_key: float | None = None
        self.times: deque[int] = deque()
        self._frames = self._decode()

    def _advance(self) -> None:
        frame = next(self._frames, None)
        self.current, self.ahead = self.ahead or self.current, frame
        if frame is None:
            self.ended = True
        elif frame.key_frame:
            if self.last_key is not None:
                self.key_interval = time_of(frame) - self.last_key
            self.last_key = time_of(frame)

    def _seek(self, time: float) -> None:
        """Seek to the last key frame at or before `time`, and discard the decoded frames."""
        before, unit = self._decoded, seconds(1, self.stream.time_base)
        for earlier in (
            0.0,
            1.0,
            10.0,
            time - self.span.start,
        ):  # some indices store decoding times: too late
            target = max(time - earlier, self.span.start)
            self.container.seek(round(target / unit), stream=self.stream)
            self.decoder.flush_buffers()
            self._restart()
            self._advance()
            if self.ahead is None or time_of(self.ahead) <= time:
                break
        if self._decoded <= before:  # no progress: key frames are at least this far apart
            self.key_interval = time - self._decoded

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode frames in presentation order, up to the end or to the first damaged one."""
        keyed = False
        try:
            for packet in packets_of(self.container, self.stream):
                if self.unordered and packet.dts is not None:
                    self.times.append(packet.dts)
                for frame in self.decoder.decode(packet):
                    self._stamp(frame)
                    keyed = keyed or frame.key_frame
                    if not frame.is_corrupt:
                        yield frame
                    elif keyed:  # damaged frames before the first key frame are normal after a seek
                        self.failure = f"corrupt at {time_of(frame) - self.span.start:.2f} s"
                        return
        except av.error.FFmpegError as error:
            self.failure = f"corrupt or truncated ({error.strerror})"
            if self.container.format.name == "webp_pipe":
                self.failure = "FFmpeg cannot read animated WebP; convert it to GIF or mp4"
            with suppress(av.error.FFmpegError):
                for frame in self.decoder.decode(None):  # frames that wait for reordering
                    self._stamp(frame)
                    yield frame

    def _stamp(self, frame: VideoFrame) -> None:
        """Set a frame's time. If packets do not tell which time it has, it gets the earliest unused one."""
        frame.time_base = self.stream.time_base  # missing after the decoder is flushed
        if self.unordered and self.times:
            frame.pts = self.times.popleft()
        if frame.pts is None:
            frame.pts = frame.dts
        if frame.pts is None:
            raise MediaError(f"{self.path}: {TIMELESS}")

    def _duration(self, frame: VideoFrame) -> float:
        """Return a frame's duration in seconds; 0 if the file does not give it."""
        if frame.duration:
            return seconds(frame.duration, frame.time_base)
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0
