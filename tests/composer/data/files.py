"""Small real media files whose frames say which they are."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 8


def numbered(number: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """A picture of `BITS` vertical stripes, black or white: the number in binary, its lowest bit at the left."""
    columns = np.arange(width) * BITS // width
    row = np.where(number >> columns & 1, 235, 20).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def number_of(picture: NDArray[np.uint8]) -> int:
    """Which numbered picture an [H, W, 3] picture is."""
    height, width = picture.shape[:2]
    centers = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((picture[height // 2, centers].mean(axis=-1) > 128) << np.arange(BITS)).sum())


def write_video(
    path: Path,
    frames: int | Sequence[NDArray[np.uint8]],
    *,
    rate: int = 10,
    key_every: int = 250,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    rotation: int = 0,
    audio_seconds: float = 0.0,
    muxer: dict[str, str] | None = None,
    title: str = "",
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Encode numbered pictures, or those given. ticks: each frame's time in 1/rate s, else one after the other."""
    pictures = [numbered(i) for i in range(frames)] if isinstance(frames, int) else list(frames)
    with av.open(str(path), "w", options=muxer or {}) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pixel_format, key_every
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "2", "sc_threshold": "0"}
        if options:
            stream.options = options
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio_seconds else None
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = ticks[index] if ticks else index
            frame.time_base = 1 / stream.average_rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for start in range(0, int(audio_seconds * 8000), 1024):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                samples.rate, samples.pts = 8000, start
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


CASES = Path(__file__).parents[2] / "cases" / "video"
"""Files that no library here writes, whose frames are numbered by blocks."""


def block_number(picture: NDArray[np.uint8]) -> int:
    """Which frame of a file in `CASES` an [H, W, 3] picture is: 12 blocks in 3 rows, the lowest bit first."""
    height, width = picture.shape[:2]
    rows, columns = np.divmod(np.arange(12), 4)
    centers = picture[((rows + 0.5) * height / 3).astype(int), ((columns + 0.5) * width / 4).astype(int)]
    return int(((centers.mean(axis=-1) > 125) << np.arange(12)).sum())


def shown_at(path: Path, times: Sequence[float]) -> list[int]:
    """The number of the frame on screen at each time, by decoding everything. Times count from the first frame."""
    with av.open(str(path)) as container:
        frames = [
            (float(f.pts * f.time_base), number_of(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)
        ]
    origin = min(time for time, _ in frames)
    return [max((f for f in frames if f[0] - origin <= t + 1e-3), default=frames[0])[1] for t in times]
