"""Videos with PyAV: frames at uniform presentation times, seeking past what is not needed.

Headers count no frames in Matroska and too many with edit lists, so a frame is found by when it is on screen, and not
by its number.
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
from composer.data.media.pixels import Scaler
from composer.data.media.timeline import (
    TICK,
    TIMELESS,
    Span,
    frame_times,
    has_index,
    in_decoding_order,
    mvbench_frames,
    open_video,
    packets_of,
    seconds,
    segment,
    span_of,
    time_of,
)
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

KEY_INTERVAL = 1.0
"""Seconds between key frames that are assumed until the file shows its own."""

UNREADABLE = "cannot be read as a video"


def read_video(media: Media, transform: FrameTransform, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The frames on screen at the middle of each of `frames` equal parts of the video, or of its segment.

    The segment's start and end are seconds from the video's first frame; an end beyond the video's own is moved there.
    A video with fewer frames than asked shows some of them several times. By `rule` mvbench the frames are those that
    MVBench's code counts. Frames are turned upright and scaled one at a time.

    Returns [F, H, W, 3] uint8, and [F] fp32 seconds from the segment's start: the times asked for. Raises MediaError
    for a file that is missing, no video, empty, or that cannot be decoded where a frame is needed.
    """
    path = media.path
    with decoding(path, UNREADABLE), open_video(media) as container:
        stream = video_stream(path, container)
        span = span_of(media, container, stream)
        times: NDArray[np.floating]
        if media.rule == "mvbench":
            first, times = media.start or 0.0, _counted(media, stream, span, frames)
        else:
            first, last = segment(media, span)
            times = (np.arange(frames) + 0.5) * ((last - first) / frames)
        cursor, scale = Cursor(path, container, stream, span), Scaler(path, stream, transform)
        with _opacity(media, container, stream, span) as opacity:
            pictures = [
                scale(cursor.at(time), None if opacity is None else opacity.at(time))
                for time in (span.start + first + times).tolist()
            ]
    return np.stack(pictures), np.maximum(times, 0.0).astype(np.float32)


def _counted(media: Media, stream: VideoStream, span: Span, frames: int) -> NDArray[np.float64]:
    """When the frames that MVBench's code counts appear, in seconds from the segment's start."""
    appear = frame_times(media, stream.index)
    if not appear or not stream.average_rate:
        raise MediaError(f"{media.path}: the file does not say how many frames it shows a second")
    numbers = mvbench_frames(media, frames, float(stream.average_rate), 0, len(appear) - 1)
    return np.array(appear)[numbers] - span.start - (media.start or 0.0)


def video_stream(path: str, container: InputContainer) -> VideoStream:
    """The stream that shows the video: of several the default one, then the largest, as ffmpeg's command line does.

    Raises MediaError for none, an unknown codec, too large pictures.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:  # a cover is no video
        kinds = sorted({stream.type for stream in container.streams})
        raise MediaError(f"{path}: no video stream, only {', '.join(kinds) or 'nothing'}")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaError(f"{path}: FFmpeg does not know this video's codec: encode it again, for example as H.264")
    stream = max(known, key=_rank)
    if container.format.name != "webp_pipe":  # the size is not known before a picture is decoded
        check_dimensions(path, stream.codec_context.height, stream.codec_context.width)
    return stream


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    """What decides between streams. One picture alone is a preview, as in animated AVIF."""
    pixels = stream.codec_context.width * stream.codec_context.height
    return stream.frames != 1, bool(stream.disposition & Disposition.default), pixels


@contextmanager
def _opacity(media: Media, container: InputContainer, stream: VideoStream, span: Span) -> Iterator["Cursor | None"]:
    """A cursor in the stream that holds the video's opacity: AVIF stores it apart, next to the colors."""
    apart = [
        other
        for other in container.streams.video
        if other.index > stream.index and other.frames == stream.frames and other.duration == stream.duration
    ]
    if not apart or container.metadata.get("major_brand") not in ("avif", "avis"):
        yield None
        return
    with open_video(media) as second:
        other = second.streams.video[container.streams.video.index(apart[0])]
        yield Cursor(media.path, second, other, span)


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """What decodes a stream. Of VP8 and VP9 in WebM only libvpx decodes the opacity, not FFmpeg's own decoders."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name, "")
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
        decoder = cast(VideoCodecContext, VideoCodecContext.create(name, "r"))
    decoder.thread_count = 1
    return decoder


class Cursor:
    """A place in a video that moves forward, by decoding or by seeking, whichever should decode less."""

    def __init__(self, path: str, container: InputContainer, stream: VideoStream, span: Span) -> None:
        self.path, self.container, self.stream, self.span = path, container, stream, span
        self.decoder, self.unordered = _decoder(stream), in_decoding_order(container)
        reordered = self.unordered and stream.codec_context.has_b_frames  # a key frame's own time is not known
        self.seekable, self.key_interval = has_index(container) and not reordered, KEY_INTERVAL
        self.failure = "truncated"
        self._restart()

    def at(self, time: float) -> VideoFrame:
        """The frame on screen at `time`: the last that starts by then (presentation time in seconds).

        Times must not decrease from call to call. Raises MediaError where nothing can be decoded.
        """
        time += TICK
        if self.seekable and time - self._decoded > self.key_interval:
            self._seek(time)
        while not self.ended and (self.ahead is None or time_of(self.ahead) <= time):
            self._advance()
        frame = self.current or self.ahead
        if frame is None or (self.ended and self._lost(frame, time)):
            raise MediaError(
                f"{self.path}: {self.failure}: no picture can be decoded at {time - self.span.start:.2f} s "
                f"of {self.span.length:.2f} s"
            )
        return frame

    def _lost(self, frame: VideoFrame, time: float) -> bool:
        """Whether pictures by `time` are missing after `frame`, the last one that could be decoded."""
        return min(time, self.span.last) > time_of(frame) + 2 * self._duration(frame)

    @property
    def _decoded(self) -> float:
        """The time up to which frames are decoded."""
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
        """Go to the last key frame by `time`; what was decoded is forgotten."""
        before, unit = self._decoded, seconds(1, self.stream.time_base)
        for earlier in (0.0, 1.0, 10.0, time - self.span.start):  # some indices hold decoding times: too late
            target = max(time - earlier, self.span.start)
            self.container.seek(round(target / unit), stream=self.stream)
            self.decoder.flush_buffers()
            self._restart()
            self._advance()
            if self.ahead is None or time_of(self.ahead) <= time:
                break
        if self._decoded <= before:  # nothing gained: key frames are at least so far apart
            self.key_interval = time - self._decoded

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames in presentation order, up to the end or to the first that is damaged."""
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
                    elif keyed:  # before a key frame, after a seek, a damaged picture is normal
                        self.failure = f"corrupt at {time_of(frame) - self.span.start:.2f} s"
                        return
        except av.error.FFmpegError as error:
            self.failure = f"corrupt or truncated ({error.strerror})"
            if self.container.format.name == "webp_pipe":
                self.failure = "FFmpeg reads no animated WebP; convert it to GIF or mp4"
            with suppress(av.error.FFmpegError):
                for frame in self.decoder.decode(None):  # what was held back for reordering
                    self._stamp(frame)
                    yield frame

    def _stamp(self, frame: VideoFrame) -> None:
        """Give a frame its time, if packets do not say which is whose: the earliest that no frame has yet."""
        frame.time_base = self.stream.time_base  # which a decoder that is emptied does not know
        if self.unordered and self.times:
            frame.pts = self.times.popleft()
        if frame.pts is None:
            frame.pts = frame.dts
        if frame.pts is None:
            raise MediaError(f"{self.path}: {TIMELESS}")

    def _duration(self, frame: VideoFrame) -> float:
        """Seconds that a frame stays on screen, as far as the file says."""
        if frame.duration:
            return seconds(frame.duration, frame.time_base)
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0
