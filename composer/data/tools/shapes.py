"""Synthetic clips of moving colored shapes, stills of them, and questions that require looking at them.

A clip shows one, two or three equal shapes side by side. All move the same way, and meanwhile the background flashes
twice, in two colors. Everything is determined by (seed, split, index). Held-out clips show combinations of color,
shape, count and direction that no training clip or still shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "stills", "heldout"]

COLORS = {"red": (235, 20, 20), "green": (10, 150, 30), "blue": (20, 40, 235), "yellow": (250, 230, 20)}
SHAPES = ("square", "ring", "cross")
COUNTS = ("one", "two", "three")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
FLASHES = {"white": (220, 220, 220), "purple": (180, 70, 200), "teal": (40, 175, 175)}
PLACES = {"left": ("right", "left"), "right": ("left", "right"), "up": ("bottom", "top"), "down": ("top", "bottom")}
"""Position of the shapes in the first and in the last frame, by direction."""
GROUND = "gray"

QUESTIONS = {
    "color": "What color are the shapes?",
    "shape": "What shape is it?",
    "count": "How many shapes?",
    "direction": "Which way do they move?",
    "order": "Which flash comes first?",
}
CAPTION = "Describe the image."

FRAMES = 8
SIDE = 64  # pixels; H.264 halves the resolution of colors, so a 32-pixel encoder loses nothing
_ROWS, _COLUMNS = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
_STREAMS: dict[Split, int] = {"train": 0, "heldout": 1, "stills": 2}


@dataclass(frozen=True)
class Scene:
    """Content of a clip."""

    color: str
    shape: str
    count: str
    direction: str
    flashes: tuple[str, str]

    first_flash: int
    second_flash: int  # each lasts two frames

    def background(self, frame: int) -> str:
        """Return the name of a frame's background color."""
        for begin, flash in zip((self.first_flash, self.second_flash), self.flashes, strict=True):
            if begin <= frame < begin + 2:
                return flash
        return GROUND

    def answer(self, question_type: str) -> str:
        """Return the answer to a question of this type."""
        answers = {"color": self.color, "shape": self.shape, "count": self.count, "direction": self.direction}
        return self.flashes[0] if question_type == "order" else answers[question_type]

    def caption(self, frame: int) -> str:
        """Describe the first or the last frame: count, color, shape, position and background."""
        place = PLACES[self.direction][frame > 0]
        return f"{self.count} {self.color} {self.shape} {place} {self.background(frame)}"


class Turn(NamedTuple):
    """One question about a clip."""

    type: str
    question: str
    answer: str


def generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """Create the random generator of one clip."""
    return np.random.default_rng((seed, _STREAMS[split], index))


def combinations(split: Split) -> list[tuple[str, str, str, str]]:
    """List the combinations of color, shape, count and direction in a split: one in four is held out.

    The sum of all four indices decides, so three attributes reveal little about the fourth, and two almost nothing. A
    model that learned which combinations never occur in training would answer worse than chance.
    """
    colors, directions = list(COLORS), list(DIRECTIONS)
    places = product(range(len(colors)), range(len(SHAPES)), range(len(COUNTS)), range(len(directions)))
    return [
        (colors[c], SHAPES[s], COUNTS[n], directions[d])
        for c, s, n, d in places
        if (split == "heldout") == ((c + s + n + d) % 4 == 0)
    ]


def draw_scene(rng: np.random.Generator, split: Split) -> Scene:
    """Draw a scene of a split. All its combinations and all flashes are equally likely."""
    choices = combinations(split)
    color, shape, count, direction = choices[rng.integers(len(choices))]
    first, second = rng.permutation(len(FLASHES))[:2]
    names = list(FLASHES)
    first_flash = int(rng.integers(0, 4))
    second_flash = int(rng.integers(first_flash + 2, FRAMES - 1))
    return Scene(color, shape, count, direction, (names[first], names[second]), first_flash, second_flash)


def render(scene: Scene, rng: np.random.Generator, shown: Sequence[int] = range(FRAMES)) -> NDArray[np.uint8]:
    """Render frames of a clip, [F, SIDE, SIDE, 3] uint8 RGB. Positions, sizes and shades vary with `rng`."""
    count = COUNTS.index(scene.count) + 1
    ahead = np.array(DIRECTIONS[scene.direction], float)
    lanes = (rng.permutation(3)[:count] + 0.5) / 3 + rng.uniform(-0.015, 0.015, count)
    middles = 0.5 + rng.uniform(-0.06, 0.06, count)
    travels = 0.34 + rng.uniform(-0.04, 0.04, count)  # to either side of the middle
    radius = rng.uniform(0.135, 0.16)
    color = np.clip(np.array(COLORS[scene.color]) + rng.integers(-15, 16, 3), 0, 255)
    ground = rng.integers(115, 140) + rng.integers(-6, 7, 3)

    frames = np.empty((len(shown), SIDE, SIDE, 3), np.uint8)
    for place, frame in enumerate(shown):
        pixels = np.broadcast_to(FLASHES.get(scene.background(frame), ground), (SIDE, SIDE, 3)).astype(float)
        progress = 2 * frame / (FRAMES - 1) - 1
        for lane, middle, travel in zip(lanes, middles, travels, strict=True):
            along = middle + progress * travel * ahead.sum()
            x, y = (along, lane) if ahead[0] else (lane, along)
            outside = _distance(scene.shape, abs(_COLUMNS - x), abs(_ROWS - y), radius)
            cover = np.clip(0.5 - SIDE * outside, 0, 1)[..., None]  # edges one pixel wide
            pixels += cover * (color - pixels)
        frames[place] = pixels
    return frames


def _distance(shape: str, dx: NDArray[np.float64], dy: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return the distance of points from a shape (negative inside), given their offsets from its center."""
    if shape == "square":
        return np.maximum(dx, dy) - 0.88 * radius
    if shape == "ring":
        return abs(np.hypot(dx, dy) - 0.82 * radius) - 0.25 * radius
    return np.maximum(np.minimum(dx, dy) - 0.3 * radius, np.maximum(dx, dy) - 1.05 * radius)


def conversation(scene: Scene, rng: np.random.Generator) -> list[Turn]:
    """Create all questions about a clip with their answers, in random order."""
    types = [list(QUESTIONS)[i] for i in rng.permutation(len(QUESTIONS))]
    return [Turn(kind, QUESTIONS[kind], scene.answer(kind)) for kind in types]
