"""Resizing of decoded frames to an encoder's input, on the host in uint8. Does not import torch."""

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
"""Modes that keep the aspect ratio and give a whole number of patches."""

PAD_VALUE = 128
"""Mid-gray: close to zero after any encoder's normalization."""


@dataclass(frozen=True)
class FrameTransform:
    """Resize a frame to the input size of an encoder.

    A frame is first scaled to `scaled_size(height, width)`, best inside the decoder's own conversion, then `finish`
    crops or pads it to `size_of(height, width)`.

    Attributes:
        size: Pixels. "keep-aspect": the short side. "max-patches": the side of a square with the maximum number of
            patches, as in SigLIP2's NaFlex. Other modes: the side of the square. In the first two modes it must be a
            multiple of `patch_size`. In the others, the encoder ignores pixels to the right of and below the last
            complete patch, as transformers and open_clip do: 27 patches of 14 cover 378 of 384 pixels.
        patch_size: Pixels. "keep-aspect" rounds the long side to the nearest multiple, "max-patches" rounds both up.
        resize: Resizing mode.
        resample: Resampling filter, always antialiased.
        short_side: Short side in pixels before "center-crop" crops; None for `size`.
        like: Library whose pixels are reproduced. open_clip scales images with Pillow and rounds half a pixel of the
            "center-crop" offset to even; transformers scales them with torchvision and rounds it down.

    Raises:
        ConfigError: If the sizes do not give a whole number of patches, or a mode is unknown.
    """

    size: int
    patch_size: int
    resize: Resize = "keep-aspect"
    resample: Resample = "bicubic"
    short_side: int | None = None
    like: Library = "open_clip"

    def __post_init__(self) -> None:
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
        """Return the final height and width of a frame of `height` x `width` pixels."""
        return self.scaled_size(height, width) if self.resize in WHOLE_PATCHES else (self.size, self.size)

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a frame of `height` x `width` pixels before it is cropped or padded."""
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
        """Size at the largest scale within the maximum number of patches; same search precision as in transformers."""

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
        """Crop or pad a scaled frame, centered.

        Args:
            frame: [h, w, 3] uint8, with the height and width of `scaled_size`.

        Returns:
            [H, W, 3] uint8, with the height and width of `size_of`.
        """
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
        """Pixels that "center-crop" removes at the top or left."""
        half = (side - self.size) / 2
        return int(half) if self.like == "transformers" else round(half)
