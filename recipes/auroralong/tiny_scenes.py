"""Scenes of tiny_data.py: images of colored shapes, and videos of one shape while the background flashes.

There are one to four flashes, each in a different color. Their number, the first and the last cannot be seen in any
single frame.
"""

import io
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from composer.data.tools.shapes import COLORS, COUNTS, SHAPES, Scene, draw_scene, render

FRAMES = 12
FLASHES = {"white": (235, 235, 235), "purple": (180, 70, 200), "teal": (40, 175, 175), "orange": (240, 150, 40)}
QUESTIONS = {
    "count": "How many flashes are there?",
    "first": "Which flash comes first?",
    "last": "Which flash comes last?",
    "color": "What color is the shape?",
    "shape": "What shape is it?",
}
OPTIONS = {
    "count": ("one", "two", "three", "four"),
    "first": tuple(FLASHES),
    "last": tuple(FLASHES),
    "color": tuple(COLORS),
    "shape": SHAPES,
}


class Still(NamedTuple):
    """An image, [SIDE, SIDE, 3] uint8, and its scene."""

    pixels: NDArray[np.uint8]
    scene: Scene

    @property
    def caption(self) -> str:
        return self.scene.caption(0)


class Clip(NamedTuple):
    """A video, [FRAMES, SIDE, SIDE, 3] uint8. flashes: their colors, in order of time."""

    pixels: NDArray[np.uint8]
    color: str
    shape: str
    flashes: tuple[str, ...]

    @property
    def caption(self) -> str:
        return f"A {self.color} {self.shape}, flashes: {self.answer('count')}: {', '.join(self.flashes)}."

    def answer(self, kind: str) -> str:
        """Return the correct option of `OPTIONS[kind]`."""
        if kind == "count":
            return OPTIONS["count"][len(self.flashes) - 1]
        return {"first": self.flashes[0], "last": self.flashes[-1], "color": self.color, "shape": self.shape}[kind]


def generator(name: str, index: int) -> np.random.Generator:
    """Create the random generator of one record."""
    return np.random.default_rng((zlib.crc32(name.encode()), index))


def still(rng: np.random.Generator) -> Still:
    """Draw and render an image."""
    scene = draw_scene(rng, "stills")
    return Still(render(scene, rng, [0])[0], scene)


def clip(rng: np.random.Generator) -> Clip:
    """Draw and render a video: one shape in the middle; the background flashes for one frame each time."""
    count = int(rng.integers(1, len(FLASHES) + 1))
    flashes = tuple(list(FLASHES)[i] for i in rng.permutation(len(FLASHES))[:count])
    # Never two in adjacent frames.
    at = np.sort(rng.choice(FRAMES - count, count, replace=False)) + np.arange(count)
    color, shape = list(COLORS)[rng.integers(len(COLORS))], SHAPES[rng.integers(len(SHAPES))]
    scene = Scene(color, shape, COUNTS[0], "up", ("", ""), FRAMES, FRAMES)
    plain = render(scene, rng, [3])[0]  # half way, the shape is in the middle
    ground = plain[0, 0].astype(int)
    pixels = np.repeat(plain[None], FRAMES, axis=0)
    for frame, flash in zip(at, flashes, strict=True):
        pixels[frame][(abs(plain.astype(int) - ground) < 4).all(-1)] = FLASHES[flash]
    return Clip(pixels, color, shape, flashes)


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
