"""How a decoded frame becomes an encoder's input, on the host and in uint8. No torch here."""

from dataclasses import dataclass
from typing import Literal

Resize = Literal["keep-aspect", "squash", "center-crop", "pad"]


@dataclass(frozen=True)
class FrameTransform:
    """Resize one frame so that its sides are multiples of the patch.

    size: the short side in pixels ("keep-aspect"), or the side of the square (the other modes).
    patch_size: pixels; "keep-aspect" rounds the long side to the nearest multiple of it.
    """

    size: int
    patch_size: int
    resize: Resize = "keep-aspect"
