"""What differs between the versions of PyAV, 15 to 19."""

from typing import Any

import av
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

VERSION = int(av.__version__.partition(".")[0])

OPEN: dict[str, Any] = {"metadata_errors": "replace"} if VERSION < 19 else {}
"""Options of `av.open`: titles and the like need not be UTF-8. PyAV 19 always replaces what cannot be decoded."""

ONE_THREAD: dict[str, Any] = {"threads": 1} if VERSION >= 17 else {}
"""FFmpeg 8 would start a thread per core for every frame that is scaled, which doubles the cost of a small clip."""

ITU709, ITU601, FULL_RANGE = 1, 5, 2


def convert(
    reformatter: VideoReformatter,
    frame: VideoFrame,
    height: int,
    width: int,
    pixels: str = "rgb24",
    resample: str = "bicubic",
) -> VideoFrame:
    """Scale a frame (antialiased) and convert it to RGB or RGBA by its own color matrix and range."""
    options = dict(ONE_THREAD)
    if VERSION < 17 and not frame.format.is_rgb:  # BT.601 is used unless a matrix is passed that is not the target's
        options["src_colorspace"] = matrix = int(frame.colorspace)
        options["dst_colorspace"] = ITU601 if matrix == ITU709 else ITU709
        options["src_color_range"], options["dst_color_range"] = int(frame.color_range), FULL_RANGE
    return reformatter.reformat(frame, width, height, pixels, interpolation=resample.upper(), **options)
