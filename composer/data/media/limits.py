"""Limits on the size of images and frames."""

from composer.errors import MediaError

MAX_PIXELS = 2**26
"""Pixels of one image before scaling (8192 x 8192). Decoding it takes about 300 MB."""

MAX_ASPECT = 32
"""Long side over short side. A longer strip would become thousands of patches with "keep-aspect"."""


def check_dimensions(path: str, height: int, width: int) -> None:
    """Check the size of an image or frame before it is decoded.

    Args:
        path: Path of the file, for error messages.
        height: Pixels.
        width: Pixels.

    Raises:
        MediaError: If the image has no pixels, too many of them, or too long a side.
    """
    if height < 1 or width < 1:
        raise MediaError(f"{path}: got an image of {width} x {height} pixels, expected at least 1 x 1")
    if height * width > MAX_PIXELS:
        raise MediaError(
            f"{path}: {width} x {height} is {height * width / 1e6:.0f} million pixels, "
            f"expected at most {MAX_PIXELS / 1e6:.0f} million: scale the file down"
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"{path}: {width} x {height} is too thin, expected an aspect ratio of at most {MAX_ASPECT}:1: crop the file"
        )
