"""How a decoded frame becomes an encoder's input, on the host and in uint8. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

Resize = Literal["keep-aspect", "max-patches", "squash", "center-crop", "pad"]
Resample = Literal["bilinear", "bicubic", "lanczos"]
Library = Literal["open_clip", "transformers"]

WHOLE_PATCHES = ("keep-aspect", "max-patches")
"""Modes whose frames keep their shape, and end with a patch."""

PAD_VALUE = 128
"""Mid-grey: near zero after any encoder's normalisation."""


@dataclass(frozen=True)
class FrameTransform:
    """Resize one frame to what an encoder cuts into patches.

    size: the short side in pixels ("keep-aspect"), the side of a square with the most patches that a frame may have
    ("max-patches", as SigLIP2's NaFlex), or the side of the square (the other modes). An encoder does not see what is
    left of a square right and below of its whole patches, as in transformers and open_clip: 27 patches of 14 are 378 of
    384 pixels. The first two modes resize to whole patches, so they need a multiple of `patch_size`.
    patch_size: pixels; "keep-aspect" rounds the long side to the nearest multiple of it, "max-patches" both sides up.
    resample: the filter; always antialiased.
    short_side: the short side in pixels before "center-crop" crops; None is `size`.
    like: the library whose pixels are equal. open_clip scales images with Pillow and rounds half a pixel of the offset
    of "center-crop" to even; transformers scales them with torchvision, and rounds it down.

    A frame is first scaled to `scaled_size(height, width)`, best inside the decoder's own conversion, then `finish`
    crops or pads it to `size_of(height, width)`.
    """

    size: int
    patch_size: int
    resize: Resize = "keep-aspect"
    resample: Resample = "bicubic"
    short_side: int | None = None
    like: Library = "open_clip"

    def __post_init__(self) -> None:
        """Raises ConfigError for sizes that hold no whole number of patches, and for unknown modes."""
        problems = [
            f"{name}: got {value!r}, expected one of {', '.join(get_args(choices))}"
            for name, value, choices in (
                ("resize", self.resize, Resize),
                ("resample", self.resample, Resample),
                ("like", self.like, Library),
            )
            if value not in get_args(choices)
        ]
        if self.patch_size < 1:
            problems.append(f"patch_size: got {self.patch_size}, expected a positive number of pixels")
        elif self.size < 1 or (self.resize in WHOLE_PATCHES and self.size % self.patch_size):
            near = max(round(self.size / self.patch_size), 1) * self.patch_size
            problems.append(
                f"image_size: got {self.size}, expected a positive multiple of the patch size {self.patch_size}; "
                f"the nearest is {near}"
            )
        elif self.size < self.patch_size:
            problems.append(f"image_size: got {self.size}, expected at least one patch of {self.patch_size} pixels")
        if self.short_side is not None and self.short_side < self.size:
            problems.append(f"short_side: got {self.short_side}, expected at least the size of the crop, {self.size}")
        if problems:
            raise ConfigError(problems)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a frame of `height` x `width` pixels. Pure."""
        return self.scaled_size(height, width) if self.resize in WHOLE_PATCHES else (self.size, self.size)

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to scale a frame to before it is cropped or padded. Pure."""
        short, long = sorted((height, width))
        if self.resize == "squash":
            return self.size, self.size
        if self.resize == "max-patches":
            return self._most_patches(height, width)
        if self.resize == "pad":
            side, other = max(round(short / (long / self.size)), 1), self.size
        elif self.resize == "center-crop":
            side = self.short_side or self.size
            other = side * long // short
        else:
            side, other = self.size, int(long * self.size / short / self.patch_size + 0.5) * self.patch_size
        return (side, other) if height <= width else (other, side)

    def _most_patches(self, height: int, width: int) -> tuple[int, int]:
        """The largest scale with so many patches, searched to the same precision as in transformers."""

        def patches(scale: float) -> tuple[int, int]:
            rows, columns = (max(math.ceil(side * scale / self.patch_size), 1) for side in (height, width))
            return rows, columns

        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            middle = (low + high) / 2
            rows, columns = patches(middle)
            if rows * columns <= (self.size // self.patch_size) ** 2:
                low = middle
            else:
                high = middle
        rows, columns = patches(low)
        return rows * self.patch_size, columns * self.patch_size

    def finish(self, frame: NDArray[uint8]) -> NDArray[uint8]:
        """Crop or pad the middle of a scaled frame: [h, w, 3] uint8 to [H, W, 3] uint8."""
        import numpy as np

        height, width = frame.shape[:2]
        if self.resize == "center-crop":
            top, left = self._offset(height), self._offset(width)
            return frame[top : top + self.size, left : left + self.size]
        if self.resize == "pad":
            top, left = (self.size - height) // 2, (self.size - width) // 2
            padded = np.full((self.size, self.size, 3), PAD_VALUE, np.uint8)
            padded[top : top + height, left : left + width] = frame
            return padded
        return frame

    def _offset(self, side: int) -> int:
        """Pixels that "center-crop" cuts off before the middle."""
        half = (side - self.size) / 2
        return int(half) if self.like == "transformers" else round(half)
