"""Still images with Pillow, upright, in RGB and 8 bits."""

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
"""Raster formats. Pillow knows more, among them PostScript, which is a program that Ghostscript would run."""

BACKGROUND = (255, 255, 255)
"""Transparent pixels lie on white: most transparent pictures are drawings and logos made for white pages."""

ORIENTATION = 0x0112
"""EXIF's tag for how a picture lies."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright that lies so; one that is 1 stands."""


def read_image(media: Media, transform: FrameTransform) -> NDArray[np.uint8]:
    """Decode, turn upright by EXIF, bring to RGB, scale (antialiased), crop or pad.

    Returns [H, W, 3] uint8, with (H, W) = `transform.size_of` of the upright picture. Raises MediaError for a file
    that is missing, no image, truncated, too large, or too thin.
    """
    with open_image(media) as image:
        check_dimensions(media.path, image.height, image.width)
        image.load()  # before EXIF, which PNG may keep behind the pixels, and says if the file is cut off
        turn = TURNS.get(orientation(image))
        upright = _rgb(image if turn is None else image.transpose(turn))
    height, width = transform.scaled_size(upright.height, upright.width)
    return transform.finish(_scale(upright, height, width, transform))


def _scale(image: Image.Image, height: int, width: int, transform: FrameTransform) -> NDArray[np.uint8]:
    """[height, width, 3]. torchvision rounds other than Pillow: both differ by 2 levels at most."""
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
    """If not, transformers warns and uses bicubic; Pillow's filter is the exact one."""
    return Version(version("torchvision")) >= Version("0.27")


def check_image(media: Media) -> None:
    """Find damage of a JPEG that `read_image` does not see. Takes several times as long as decoding.

    Raises MediaError for a JPEG whose compressed data is damaged.
    """
    with decoding(media.path, "cannot decode this image"), open_media(media) as file:
        content = Path(file).read_bytes() if isinstance(file, str) else file.read()
        damage = find_damage(content) if content.startswith(START) else None
    if damage is not None:
        raise MediaError(f"{media.path}: this JPEG is damaged: {damage}; replace the file")


@contextmanager
def open_image(media: Media) -> Iterator[Image.Image]:
    """An image that is not decoded yet. Raises MediaError for whatever fails in the block, as `decoding` does."""
    path = media.path
    with decoding(path, "cannot decode this image"), warnings.catch_warnings(), open_media(media) as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_dimensions` decides
        try:
            with Image.open(file, formats=_formats()) as image:
                yield image
        except Image.DecompressionBombError:
            raise MediaError(f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} million pixels, got far more") from None
        except UnidentifiedImageError:
            raise MediaError(f"{path}: {_describe(file)}") from None


def _formats() -> list[str]:
    """Those of `FORMATS` that Pillow is built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _describe(file: str | BinaryIO) -> str:
    """What a file is that is not an image."""
    if isinstance(file, str):
        with open(file, "rb") as opened_file:
            start = opened_file.read(signatures.LENGTH)
    else:
        file.seek(0)
        start = file.read(signatures.LENGTH)
    kind = signatures.name_kind(start)
    return f"not an image but {kind}" if kind else f"not an image that Pillow can read: expected {', '.join(FORMATS)}"


def orientation(image: Image.Image) -> int:
    """How a picture lies, 1 to 8 as EXIF counts; 1 where EXIF is damaged or says something else.

    `ImageOps.exif_transpose` would write all of EXIF anew, and fail for any other tag that is odd.
    """
    try:
        found = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB. Alpha lies on `BACKGROUND`; 16 and 32 bits are scaled to 8, not clipped."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # "I" is how older Pillows open 16-bit PNG
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
        return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")
    return image.convert("RGB")
