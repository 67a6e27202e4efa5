"""Decoding of a media item into a clip."""

import numpy as np
import torch

from composer.batch import Clip
from composer.data.media.folder import read_folder
from composer.data.media.image import read_image
from composer.data.media.video import read_video
from composer.sample import Media
from composer.transform import FrameTransform


def load_clip(media: Media, transform: FrameTransform, frames: int) -> Clip:
    """Decode and transform an image, a video or a folder of frames.

    Args:
        media: The media item. An image gives one frame at time 0.
        transform: Size and cropping of the frames.
        frames: Number of frames to sample from a video; see `read_video` and `read_folder` for which ones.

    Returns:
        Pixels [F, 3, H, W] uint8, and times [F] float32 in seconds.

    Raises:
        MediaError: If the media cannot be decoded. Names the file and the reason.
    """
    if media.kind == "image":
        images, times = read_image(media, transform)[None], np.zeros(1, np.float32)
    elif media.fps is not None:
        images, times = read_folder(media, transform, frames)
    else:
        images, times = read_video(media, transform, frames)
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # [F, H, W, 3] to [F, 3, H, W]
    return Clip(torch.from_numpy(pixels), torch.from_numpy(times))
