"""Differences between PyAV versions 15 to 19."""

from typing import Any

import av
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

VERSION = int(av.__version__.partition(".")[0])

OPEN: dict[str, Any] = {"metadata_errors": "replace"} if VERSION < 19 else {}
"""Options of `av.open` for titles and other metadata that are not UTF-8. PyAV 19 always replaces invalid bytes."""

ONE_THREAD: dict[str, int] = {"threads": 1} if VERSION >= 17 else {}
"""Options of scaling. FFmpeg 8 would start a thread per core for every frame, which doubles a small clip's cost."""

ITU709, ITU601, FULL_RANGE = 1, 5, 2


def convert(
    reformatter: VideoReformatter,
    frame: VideoFrame,
    height: int,
    width: int,
    pixels: str = "rgb24",
    resample: str = "bicubic",
) -> VideoFrame:
    """Scale a frame (antialiased) and convert its pixel format by its own color matrix and range.

    Args:
        reformatter: Scaler to use; it caches its setup between frames.
        frame: A decoded frame.
        height: Pixels of the result.
        width: Pixels of the result.
        pixels: FFmpeg's name of the result's pixel format.
        resample: Name of the filter: "bilinear", "bicubic" or "lanczos".

    Returns:
        The converted frame.
    """
    options = dict(ONE_THREAD)
    if VERSION < 17 and not frame.format.is_rgb:  # FFmpeg uses BT.601 unless source and target differ
        options["src_colorspace"] = matrix = int(frame.colorspace)
        options["dst_colorspace"] = ITU601 if matrix == ITU709 else ITU709
        options["src_color_range"], options["dst_color_range"] = int(frame.color_range), FULL_RANGE
    return reformatter.reformat(frame, width, height, pixels, interpolation=resample.upper(), **options)
