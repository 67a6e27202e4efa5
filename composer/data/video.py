"""Videos with PyAV: frames at uniform presentation times, seeking past what is not needed.

Headers count no frames in Matroska and too many with edit lists, so nothing here reads `stream.frames`: a frame is
found by when it is on screen.
"""

from collections.abc import Iterator
from contextlib import suppress

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from composer.data.limits import check_size
from composer.data.opened import decoding
from composer.data.timeline import (
    TICK,
    Span,
    has_index,
    mvbench_frames,
    opened_video,
    picture_times,
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

ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
"""FFmpeg 8 would start a thread per core for every frame that is scaled, which doubles the cost of a small clip."""


def read_video(media: Media, transform: FrameTransform, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The frames on screen at the middle of each of `frames` equal parts of the video, or of its segment.

    The segment's start and end are seconds from the video's first frame; an end beyond the video's own is moved there.
    A video with fewer frames than asked shows some of them several times. By `rule` mvbench the frames are those that
    MVBench's code counts. Frames are turned upright and scaled one at a time.

    Returns [F, H, W, 3] uint8, and [F] fp32 seconds from the segment's start: the times asked for. Raises MediaError
    for a file that is missing, no video, empty, or that cannot be decoded where a frame is needed.
    """
    path = media.path
    with decoding(path, UNREADABLE), opened_video(media) as container:
        stream = video_stream(path, container)
        stream.codec_context.thread_count = 1
        span = span_of(media, container, stream)
        times: NDArray[np.floating]
        if media.rule == "mvbench":
            first, times = media.start or 0.0, _counted(media, stream, span, frames)
        else:
            first, last = segment(media, span)
            times = (np.arange(frames) + 0.5) * ((last - first) / frames)
        cursor = Cursor(path, container, stream, span)
        scale = Scaler(path, transform)
        pictures = [scale(cursor.at(span.start + first + float(time))) for time in times]
    return np.stack(pictures), np.maximum(times, 0.0).astype(np.float32)


def _counted(media: Media, stream: VideoStream, span: Span, frames: int) -> NDArray[np.float64]:
    """When the frames that MVBench's code counts appear, in seconds from the segment's start."""
    appear = picture_times(media, stream.index)
    if not appear or not stream.average_rate:
        raise MediaError(f"{media.path}: the file does not say how many frames it shows a second")
    numbers = mvbench_frames(media, frames, float(stream.average_rate), 0, len(appear) - 1)
    return np.array(appear)[numbers] - span.start - (media.start or 0.0)


def video_stream(path: str, container: InputContainer) -> VideoStream:
    """The stream that shows the video. Raises MediaError for none, an unknown codec, too large pictures."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # a cover is no video
            context = stream.codec_context
            if context is None:
                raise MediaError(f"{path}: FFmpeg does not know this video's codec: encode it anew, as H.264 for one")
            check_size(path, context.height, context.width)
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise MediaError(f"{path}: no video stream, only {', '.join(kinds) or 'nothing'}")


class Cursor:
    """A place in a video that moves forward, by decoding or by seeking, whichever should decode less."""

    def __init__(self, path: str, container: InputContainer, stream: VideoStream, span: Span) -> None:
        self.path, self.container, self.stream, self.span = path, container, stream, span
        self.seekable, self.key_interval = has_index(container), KEY_INTERVAL
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
        if frame is None or (self.ended and time > time_of(frame) + 2 * self._duration(frame)):
            raise MediaError(
                f"{self.path}: {self.failure}: no picture can be decoded at {time - self.span.start:.2f} s "
                f"of {self.span.length:.2f} s"
            )
        return frame

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
            for packet in self.container.demux(self.stream):
                for frame in packet.decode():
                    if frame.pts is None:
                        raise MediaError(f"{self.path}: frames carry no time; put the stream into mp4 or mkv")
                    keyed = keyed or frame.key_frame
                    if not frame.is_corrupt:
                        yield frame
                    elif keyed:  # before a key frame, after a seek, a damaged picture is normal
                        self.failure = f"corrupt at {time_of(frame) - self.span.start:.2f} s"
                        return
        except av.error.FFmpegError as error:
            self.failure = f"corrupt or truncated ({error.strerror})"
            with suppress(av.error.FFmpegError):
                yield from self.stream.codec_context.decode(None)  # what was held back for reordering

    def _duration(self, frame: VideoFrame) -> float:
        """Seconds that a frame stays on screen, as far as the file says."""
        if frame.duration:
            return seconds(frame.duration, frame.time_base)
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0


class Scaler:
    """Frames of one video to upright RGB pictures of one size. A frame that comes again is not converted again."""

    def __init__(self, path: str, transform: FrameTransform) -> None:
        self.path, self.transform = path, transform
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None
        self.last: tuple[VideoFrame, NDArray[np.uint8]] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """[H, W, 3] uint8. Scaled (bicubic, antialiased) within the conversion to RGB, then turned, cropped, padded."""
        if self.last is not None and self.last[0] is frame:
            return self.last[1]
        turns = round(frame.rotation / 90) % 4
        if self.size is None:  # a video may change its size on the way, a clip may not
            upright = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
            check_size(self.path, *upright)
            self.size = self.transform.scaled(*upright)
        height, width = self.size[::-1] if turns % 2 else self.size
        method = self.transform.resample.upper()
        scaled = self.reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=method, **ONE_THREAD
        )
        picture = self.transform.finish(np.rot90(scaled.to_ndarray(), turns))
        self.last = frame, picture
        return picture
