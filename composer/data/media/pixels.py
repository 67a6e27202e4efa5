"""Conversion of decoded frames to upright, opaque RGB of one size."""

from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from composer.data.media.image import BACKGROUND
from composer.data.media.limits import check_dimensions
from composer.data.media.pyav import convert
from composer.errors import MediaError
from composer.transform import FrameTransform

MATRICES = {0, 1, 2, 3, 4, 5, 6, 7, 9, 10}
"""Color matrices that FFmpeg can convert, as numbered in ITU-T H.273."""

NAMES = {8: "YCgCo", 11: "YDzDx", 12: "chromaticity-derived", 13: "chromaticity-derived", 14: "ICtCp", 15: "IPT-C2"}
"""Names of color matrices that FFmpeg cannot convert."""


class Scaler:
    """Converter of one video's frames to upright RGB of one size. Reuses the last result for a repeated frame.

    Args:
        path: Path of the video, for error messages.
        stream: The video stream.
        transform: Size and cropping of the frames.
    """

    def __init__(self, path: str, stream: VideoStream, transform: FrameTransform) -> None:
        self.path, self.stream, self.transform = path, stream, transform
        self.reformatter, self.native = VideoReformatter(), VideoReformatter()
        self.size: tuple[int, int] | None = None
        self.last: tuple[VideoFrame, NDArray[np.uint8]] | None = None

    def __call__(self, frame: VideoFrame, alpha: VideoFrame | None = None) -> NDArray[np.uint8]:
        """Scale a frame (antialiased) while converting it to RGB, then turn it upright and crop or pad it.

        Args:
            frame: A decoded frame.
            alpha: A frame whose brightness is the opacity of `frame`, for formats that store it separately.

        Returns:
            Pixels [H, W, 3] uint8.

        Raises:
            MediaError: If the frame's size or color matrix is not supported.
        """
        if self.last is not None and self.last[0] is frame:
            return self.last[1]
        _check_matrix(self.path, frame)
        turn = Turn(frame)
        if self.size is None:  # the size may change within a video, but not within a clip
            upright = upright_size(frame, self.stream)
            check_dimensions(self.path, *upright)
            self.size = self.transform.scaled_size(*upright)
        height, width = self.size[::-1] if turn.swap else self.size
        opaque = self._flatten(frame, alpha)
        scaled = convert(self.reformatter, opaque, height, width, resample=self.transform.resample)
        pixels = self.transform.finish(turn(scaled.to_ndarray().view(np.uint8)))
        self.last = frame, pixels
        return pixels

    def _flatten(self, frame: VideoFrame, alpha: VideoFrame | None) -> VideoFrame:
        """Blend a frame with `BACKGROUND`, and join interlaced fields, which would be scaled separately."""
        if alpha is None and not has_alpha(frame) and not frame.interlaced_frame:
            return frame
        size = frame.height, frame.width
        pixels = convert(self.native, frame, *size, "rgba").to_ndarray().astype(np.uint16)
        opacity = pixels[..., 3:]
        if alpha is not None:
            opacity = convert(VideoReformatter(), alpha, *size, "gray").to_ndarray().astype(np.uint16)[..., None]
        mixed = (pixels[..., :3] * opacity + np.array(BACKGROUND, np.uint16) * (255 - opacity) + 127) // 255
        return VideoFrame.from_ndarray(mixed.astype(np.uint8), format="rgb24")


class Turn:
    """Rotation and mirroring that turn a frame upright, from its display matrix.

    Args:
        frame: A decoded frame.

    Attributes:
        swap: Whether rows and columns are exchanged, which happens first.
        left: Whether columns are reversed.
        up: Whether rows are reversed.
    """

    def __init__(self, frame: VideoFrame) -> None:
        data = frame.side_data.get("DISPLAYMATRIX")
        a, b, _, c, d = np.frombuffer(cast(bytes, data), np.int32)[:5].tolist() if data else (1, 0, 0, 0, 1)
        self.swap = abs(b) > abs(a)
        self.left, self.up = (c < 0, b < 0) if self.swap else (a < 0, d < 0)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn pixels [H, W, 3] upright."""
        if self.swap:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.up else 1, :: -1 if self.left else 1]


def upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Compute a frame's size as displayed: upright and with square pixels, which affect only the width.

    Args:
        frame: A decoded frame.
        stream: Its video stream, which gives the aspect ratio of the pixels.

    Returns:
        Height and width in pixels.
    """
    ratio = stream.sample_aspect_ratio
    width = max(round(frame.width * float(ratio)), 1) if ratio else frame.width
    return (width, frame.height) if Turn(frame).swap else (frame.height, width)


def has_alpha(frame: VideoFrame) -> bool:
    """Return whether a frame may be transparent. A palette may contain transparent colors."""
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def _check_matrix(path: str, frame: VideoFrame) -> None:
    matrix = int(frame.colorspace)
    if matrix not in MATRICES:
        raise MediaError(
            f"{path}: the color matrix {NAMES.get(matrix, matrix)} is not supported, "
            "expected BT.601, BT.709 or BT.2020: encode the video again with one of them"
        )
