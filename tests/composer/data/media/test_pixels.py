"""Colors, opacity, orientation and shape of decoded frames."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from composer.data.media.headers import read_header
from composer.data.media.image import read_image
from composer.data.media.video import read_video
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import CASES, write_video

SHOWN = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 64, 200)]
"""Stripes of a video in `CASES`, each a ninth of the width."""


class Native:
    """A transform that keeps frames as they are."""

    resample = "bicubic"

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def finish(self, frame: np.ndarray) -> np.ndarray:
        return frame


@pytest.mark.parametrize("name", ["bt709_tv.mp4", "bt709_full.mp4", "bt601_tv.mp4", "bt2020_10bit.mp4"])
def test_the_color_matrix_and_range_of_a_frame_are_used(name: str) -> None:
    picture = read_video(Media("video", str(CASES / name)), FrameTransform(96, 1), 1)[0][0]
    width = picture.shape[1]
    for n, color in enumerate(SHOWN):
        middle = int((n + 0.5) * width / 9)
        assert picture[44:52, middle - 3 : middle + 3].mean((0, 1)) == pytest.approx(color, abs=4)


def test_a_color_matrix_that_cannot_be_converted() -> None:
    with pytest.raises(MediaError, match=r"ycgco\.mp4: the color matrix YCgCo is not supported, expected BT\.601"):
        read_video(Media("video", str(CASES / "ycgco.mp4")), FrameTransform(96, 1), 1)


@pytest.mark.parametrize("name", ["anim.png", "alpha.mov", "anim.avif", "alpha.webm"])
def test_transparent_pixels_lie_on_white(name: str) -> None:
    transform = FrameTransform(64, 1, "squash")
    picture = read_video(Media("video", str(CASES / name)), transform, 2)[0][0]
    assert picture[4, 4].tolist() == [255, 255, 255]
    assert picture.min() < 128  # something is opaque
    if name == "anim.png":
        image = read_image(Media("image", str(CASES / name)), transform)
        assert np.abs(picture.astype(int) - image).mean() < 2


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(m, 0, 0, n) for m in (1, -1) for n in (1, -1)] + [(0, m, n, 0) for m in (1, -1) for n in (1, -1)],
)
def test_turned_and_mirrored_videos(tmp_path: Path, a: int, b: int, c: int, d: int) -> None:
    """A display matrix puts what is stored at (x, y) to (ax + cy, bx + dy)."""
    stored = np.full((48, 64, 3), 20, np.uint8)
    stored[:16, :16], stored[:16, 48:], stored[32:, :16] = 235, 150, 90
    path = write_video(tmp_path / "a.mp4", [stored] * 3)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    for n, value in enumerate((a, b, 0, c, d)):
        data[place + 4 * n : place + 4 * n + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    y, x = np.indices((48, 64))
    right, down = a * x + c * y, b * x + d * y
    expected = np.zeros((48, 64, 3) if a else (64, 48, 3), np.uint8)
    expected[down - down.min(), right - right.min()] = stored
    media = Media("video", str(path))
    picture = read_video(media, FrameTransform(48, 8), 1)[0][0]
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < 8
    assert read_header(media)[:2] == expected.shape[:2]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3, pixel_aspect=Fraction(3, 2))
    media = Media("video", str(path))
    assert read_video(media, FrameTransform(64, 8), 1)[0].shape == (1, 64, 96, 3)
    assert read_header(media)[:2] == (64, 96)


def test_fields_are_not_scaled_apart(tmp_path: Path) -> None:
    """Scaled with its fields apart, each line of a small picture would come from one of two moments."""
    frames = []
    for n in range(4):
        frame = np.full((256, 256, 3), 128, np.uint8)
        frame[64:192:2, 20 + 24 * n : 100 + 24 * n] = 235
        frame[65:192:2, 32 + 24 * n : 112 + 24 * n] = 235  # half a frame later
        frames.append(frame)
    options = {"preset": "ultrafast", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    media = Media("video", str(write_video(tmp_path / "a.mp4", frames, options=options)))
    native = read_video(media, Native(), 4)[0]  # type: ignore[arg-type]
    small = read_video(media, FrameTransform(64, 16, "squash"), 4)[0]
    expected = np.stack([np.asarray(Image.fromarray(f).resize((64, 64), Image.Resampling.BICUBIC)) for f in native])
    assert np.abs(small.astype(int) - expected).max() < 12
