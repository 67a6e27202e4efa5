"""Folders of frames as videos, for example TVQA's."""

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
    """Read frames of a folder that shows `media.fps` frames per second, in natural order of their names.

    Frames are sampled as in `read_video`.

    Args:
        media: A folder of frames, with `fps`.
        transform: Size and cropping of the frames.
        frames: Number of frames to sample.

    Returns:
        Frames [F, H, W, 3] uint8, and their times [F] float32 in seconds from the segment's start.

    Raises:
        MediaError: If the folder is missing or empty, or if its frames differ in size.
    """
    assert media.fps is not None
    files = list_images(media)
    if media.fps <= 0:
        raise MediaError(f"{media.path}: got {media.fps:g} frames per second, expected more than 0")
    if media.rule == "mvbench":  # MVBench counts the frames of a folder from 1
        numbers = mvbench_frames(media, frames, media.fps, 1, len(files))
        chosen = np.array(numbers) - 1
        times = np.maximum(chosen / media.fps - (media.start or 0.0), 0.0)
    else:
        first, last = segment(media, Span(0.0, len(files) / media.fps))
        times = (np.arange(frames) + 0.5) * ((last - first) / frames)
        chosen = np.minimum(((first + times + TICK) * media.fps).astype(int), len(files) - 1)
    images = {int(n): read_image(files[n], transform) for n in chosen}
    sizes = sorted({image.shape[:2] for image in images.values()})
    if len(sizes) > 1:
        raise MediaError(f"{media.path}: got frames of several sizes, {sizes} after scaling; expected one size")
    return np.stack([images[int(n)] for n in chosen]), times.astype(np.float32)


def list_images(media: Media) -> list[Media]:
    """List the frames of a folder, on disk or inside an archive, in natural order of their names.

    Args:
        media: A folder of frames.

    Returns:
        One image per frame.

    Raises:
        MediaError: If the folder is missing, unreadable or contains no images.
    """
    path = media.path
    if media.frame_spans is not None:
        return [Media("image", path, span=span) for span in media.frame_spans]
    try:
        names = sorted(filter(_is_image, os.listdir(path)), key=natural_key)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such folder; paths are relative to media_root or to the data file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot read this folder of frames: {error.strerror}") from None
    if not names:
        raise MediaError(f"{path}: no images in this folder, expected files that end in {', '.join(EXTENSIONS)}")
    return [Media("image", os.path.join(path, name)) for name in names]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that orders file names by the numbers in them: frame2, frame10.

    Args:
        name: A file name.

    Returns:
        The name's text and numbers without the extension, then the name itself, which decides between equal keys.
    """
    parts = re.split(r"([0-9]+)", os.path.splitext(name)[0])
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _is_image(name: str) -> bool:
    """Return whether a file is one of the folder's frames. Hidden files are not, such as macOS's "._1.jpg"."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")
