"""Still images with Pillow, upright, in RGB and 8 bits."""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from composer.data.limits import MAX_PIXELS, check_size
from composer.data.opened import opened
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

BACKGROUND = (255, 255, 255)
"""Transparent pixels lie on white: most transparent pictures are drawings and logos made for white pages."""


def read_image(media: Media, transform: FrameTransform) -> NDArray[np.uint8]:
    """Decode, turn upright by EXIF, bring to RGB, scale (bicubic, antialiased), crop or pad.

    Returns [H, W, 3] uint8, with (H, W) = `transform.size_of` of the upright picture. Raises MediaError for a file
    that is missing, no image, truncated, too large, or too thin.
    """
    path = media.path
    try:
        with warnings.catch_warnings(), opened(media) as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_size` decides
            with Image.open(file) as image:
                check_size(path, image.height, image.width)
                image.draft("RGB", _draft_size(image, transform))
                upright = _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise MediaError(f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} million pixels, got far more") from None
    except UnidentifiedImageError:
        raise MediaError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise for damaged files
        raise MediaError(f"{path}: cannot decode this image: {error}") from error
    height, width = transform.scaled(upright.height, upright.width)
    return transform.finish(np.asarray(upright.resize((width, height), Image.Resampling.BICUBIC)))


def _draft_size(image: Image.Image, transform: FrameTransform) -> tuple[int, int]:
    """The size below which JPEG's scaled decoding must not go: twice what is needed, for either orientation."""
    side = 2 * max(transform.scaled(image.height, image.width))
    return side, side


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
