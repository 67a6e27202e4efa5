"""Still images, decoded with Pillow to upright 8-bit RGB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from packaging.version import Version
from PIL import Image, UnidentifiedImageError

from composer.data.media import signatures
from composer.data.media.jpeg import START, find_damage
from composer.data.media.limits import MAX_PIXELS, check_dimensions
from composer.data.media.opened import decoding, open_media
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Raster formats. Pillow supports more, including PostScript, a program that it would run with Ghostscript."""

BACKGROUND = (255, 255, 255)
"""Color behind transparent pixels. White, because most transparent images are drawings and logos for white pages."""

ORIENTATION = 0x0112
"""EXIF tag of an image's orientation."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns an image upright, by EXIF orientation. Orientation 1 is upright already."""


def read_image(media: Media, transform: FrameTransform) -> NDArray[np.uint8]:
    """Decode an image, turn it upright by EXIF, convert it to RGB, scale it (antialiased) and crop or pad it.

    Args:
        media: An image.
        transform: Size, cropping and resampling filter.

    Returns:
        Pixels [H, W, 3] uint8, with (H, W) = `transform.size_of` of the upright image.

    Raises:
        MediaError: If the file is missing, not an image, truncated, too large or too thin.
    """
    with open_image(media) as image:
        check_dimensions(media.path, image.height, image.width)
        image.load()  # PNG may store EXIF after the pixels; also fails if the file is truncated
        turn = TURNS.get(orientation(image))
        upright = _rgb(image if turn is None else image.transpose(turn))
    height, width = transform.scaled_size(upright.height, upright.width)
    return transform.finish(_scale(upright, height, width, transform))


def _scale(image: Image.Image, height: int, width: int, transform: FrameTransform) -> NDArray[np.uint8]:
    """Scale to [height, width, 3]. torchvision rounds differently from Pillow: by at most 2 levels of 255."""
    if transform.like == "transformers" and (transform.resample != "lanczos" or _torchvision_has_lanczos()):
        import torch
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import resize

        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        scaled = resize(pixels, [height, width], InterpolationMode(transform.resample), antialias=True)
        return np.asarray(scaled.permute(1, 2, 0).numpy())
    return np.asarray(image.resize((width, height), Image.Resampling[transform.resample.upper()]))


@cache
def _torchvision_has_lanczos() -> bool:
    """Return whether torchvision has Lanczos. If not, transformers warns and uses bicubic; Pillow's filter is exact."""
    return Version(version("torchvision")) >= Version("0.27")


def check_image(media: Media) -> None:
    """Check a JPEG for damage that `read_image` does not detect. Takes several times as long as decoding.

    Args:
        media: An image. Formats other than JPEG are not checked.

    Raises:
        MediaError: If the compressed data of the JPEG is damaged.
    """
    with decoding(media.path, "cannot decode this image"), open_media(media) as file:
        content = Path(file).read_bytes() if isinstance(file, str) else file.read()
        damage = find_damage(content) if content.startswith(START) else None
    if damage is not None:
        raise MediaError(f"{media.path}: this JPEG is damaged: {damage}; replace the file")


@contextmanager
def open_image(media: Media) -> Iterator[Image.Image]:
    """Open an image without decoding it.

    Args:
        media: An image.

    Yields:
        The Pillow image, open for the duration of the block.

    Raises:
        MediaError: If the file cannot be opened, or a decoder fails in the block; see `decoding`.
    """
    path = media.path
    with decoding(path, "cannot decode this image"), warnings.catch_warnings(), open_media(media) as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_dimensions` decides
        try:
            with Image.open(file, formats=_formats()) as image:
                yield image
        except Image.DecompressionBombError:
            raise MediaError(
                f"{path}: got far too many pixels, expected at most {MAX_PIXELS / 1e6:.0f} million: scale the file down"
            ) from None
        except UnidentifiedImageError:
            raise MediaError(f"{path}: {_describe(file)}") from None


def _formats() -> list[str]:
    """Return the formats of `FORMATS` that this Pillow is built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _describe(file: str | BinaryIO) -> str:
    """Describe the content of a file that is not an image."""
    if isinstance(file, str):
        with open(file, "rb") as stream:
            start = stream.read(signatures.LENGTH)
    else:
        file.seek(0)
        start = file.read(signatures.LENGTH)
    kind = signatures.name_kind(start)
    return f"not an image but {kind}" if kind else f"not an image that Pillow can read: expected {', '.join(FORMATS)}"


def orientation(image: Image.Image) -> int:
    """Read an image's EXIF orientation.

    `ImageOps.exif_transpose` would write all of EXIF again, and fail if any other tag is malformed.

    Args:
        image: An open image.

    Returns:
        The orientation, 1 to 8; 1 (upright) if EXIF is missing, damaged or has another value.
    """
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. Alpha is blended with `BACKGROUND`; 16 and 32 bits are scaled to 8, not clipped."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # older Pillow versions open 16-bit PNG as "I"
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
        return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")
    return image.convert("RGB")
