"""What a media file may ask of the machine that decodes it."""

from composer.errors import MediaError

MAX_PIXELS = 2**26
"""Pixels of one picture before scaling (8192 x 8192): decoding it takes some 300 MB."""

MAX_ASPECT = 32
"""Long side over short side: beyond it, "keep-aspect" would turn a strip into thousands of patches."""


def check_dimensions(path: str, height: int, width: int) -> None:
    """Raises MediaError for a picture that is empty, too large, or too thin."""
    if height < 1 or width < 1:
        raise MediaError(f"{path}: the picture has no pixels ({width} x {height})")
    if height * width > MAX_PIXELS:
        raise MediaError(
            f"{path}: {width} x {height} is {height * width / 1e6:.0f} million pixels, "
            f"expected at most {MAX_PIXELS / 1e6:.0f} million: scale the file down"
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"{path}: {width} x {height} is too thin, expected sides of at most 1:{MAX_ASPECT}: crop the file"
        )
