"""A folder of pictures as a video: TVQA's frames, for one."""

import os
import re

import numpy as np
from numpy.typing import NDArray

from composer.data.media.image import read_image
from composer.data.media.timeline import TICK, Span, mvbench_frames, segment
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def read_folder(media: Media, transform: FrameTransform, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """`frames` pictures of the folder, `media.fps` per second, in the order of their names (2 before 10).

    Which ones, and what is returned: as `read_video` does. Raises MediaError for a folder that is missing or empty,
    and for pictures of several sizes.
    """
    assert media.fps is not None
    found = list_images(media)
    if media.fps <= 0:
        raise MediaError(f"{media.path}: got {media.fps:g} pictures a second, expected more than 0")
    if media.rule == "mvbench":  # whose pictures count from 1
        numbers = mvbench_frames(media, frames, media.fps, 1, len(found))
        chosen = np.array(numbers) - 1
        times = np.maximum(chosen / media.fps - (media.start or 0.0), 0.0)
    else:
        first, last = segment(media, Span(0.0, len(found) / media.fps))
        times = (np.arange(frames) + 0.5) * ((last - first) / frames)
        chosen = np.minimum(((first + times + TICK) * media.fps).astype(int), len(found) - 1)
    pictures = {int(n): read_image(found[n], transform) for n in chosen}
    sizes = sorted({picture.shape[:2] for picture in pictures.values()})
    if len(sizes) > 1:
        raise MediaError(f"{media.path}: got pictures of several sizes, once scaled {sizes}; expected one size")
    return np.stack([pictures[int(n)] for n in chosen]), times.astype(np.float32)


def list_images(media: Media) -> list[Media]:
    """The pictures of a folder, or of one inside an archive, in order. Raises MediaError where there are none."""
    path = media.path
    if media.frame_spans is not None:
        return [Media("image", path, span=span) for span in media.frame_spans]
    try:
        names = sorted(filter(_is_image, os.listdir(path)), key=natural_key)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such folder; paths are relative to media_root or to the data file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot read this folder of pictures: {error.strerror}") from None
    if not names:
        raise MediaError(f"{path}: no pictures in it, expected files that end in {', '.join(EXTENSIONS)}")
    return [Media("image", os.path.join(path, name)) for name in names]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A key that sorts file names by the numbers in them: frame2, frame10. Equal ones are in the order of the text."""
    parts = re.split(r"([0-9]+)", os.path.splitext(name)[0])
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _is_image(name: str) -> bool:
    """Whether a file belongs to the folder's pictures; hidden files do not, as macOS's "._1.jpg"."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")
