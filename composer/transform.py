"""How a decoded frame becomes an encoder's input, on the host and in uint8. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

Resize = Literal["keep-aspect", "squash", "center-crop", "pad"]

PAD_VALUE = 128
"""Mid-grey: near zero after any encoder's normalisation."""


@dataclass(frozen=True)
class FrameTransform:
    """Resize one frame so that its sides are multiples of the patch.

    size: the short side in pixels ("keep-aspect"), or the side of the square (the other modes); a multiple of
    `patch_size`.
    patch_size: pixels; "keep-aspect" rounds the long side to the nearest multiple of it.

    A frame is first scaled to `scaled(height, width)`, best inside the decoder's own conversion, then `finish` crops
    or pads it to `size_of(height, width)`.
    """

    size: int
    patch_size: int
    resize: Resize = "keep-aspect"

    def __post_init__(self) -> None:
        """Raises ConfigError for sizes that hold no whole number of patches."""
        problems = []
        if self.patch_size < 1:
            problems.append(f"patch_size: got {self.patch_size}, expected a positive number of pixels")
        elif self.size < 1 or self.size % self.patch_size:
            near = max(round(self.size / self.patch_size), 1) * self.patch_size
            problems.append(
                f"image_size: got {self.size}, expected a positive multiple of the patch size {self.patch_size}; "
                f"the nearest is {near}"
            )
        if self.resize not in get_args(Resize):
            problems.append(f"resize: got {self.resize!r}, expected one of {', '.join(get_args(Resize))}")
        if problems:
            raise ConfigError(problems)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a frame of `height` x `width` pixels. Pure."""
        return self.scaled(height, width) if self.resize == "keep-aspect" else (self.size, self.size)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to scale a frame to before it is cropped or padded. Pure."""
        if self.resize == "squash":
            return self.size, self.size
        short, long = sorted((height, width))
        if self.resize == "pad":
            side, other = self.size, max(round(short * self.size / long), 1)
            return (side, other) if height >= width else (other, side)
        unit = self.patch_size if self.resize == "keep-aspect" else 1
        side, other = self.size, int(long * self.size / short / unit + 0.5) * unit
        return (side, other) if height <= width else (other, side)

    def finish(self, frame: NDArray[uint8]) -> NDArray[uint8]:
        """Crop or pad the middle of a scaled frame: [h, w, 3] uint8 to [H, W, 3] uint8."""
        import numpy as np

        height, width = frame.shape[:2]
        if self.resize == "center-crop":
            top, left = (height - self.size) // 2, (width - self.size) // 2
            return frame[top : top + self.size, left : left + self.size]
        if self.resize == "pad":
            top, left = (self.size - height) // 2, (self.size - width) // 2
            padded = np.full((self.size, self.size, 3), PAD_VALUE, np.uint8)
            padded[top : top + height, left : left + width] = frame
            return padded
        return frame
