"""From a medium to a clip."""

import numpy as np
import torch

from composer.batch import Clip
from composer.data.media.folder import read_folder
from composer.data.media.image import read_image
from composer.data.media.video import read_video
from composer.sample import Media
from composer.transform import FrameTransform


def load_clip(media: Media, transform: FrameTransform, frames: int) -> Clip:
    """Decode and transform one image (one frame at time 0) or video (`frames` frames).

    Which frames: see `read_video`, and `read_folder` for a folder of pictures. Raises MediaError with the file
    and the reason.
    """
    if media.kind == "image":
        pictures, times = read_image(media, transform)[None], np.zeros(1, np.float32)
    elif media.fps is not None:
        pictures, times = read_folder(media, transform, frames)
    else:
        pictures, times = read_video(media, transform, frames)
    pixels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))  # [F, H, W, 3] to [F, 3, H, W]
    return Clip(torch.from_numpy(pixels), torch.from_numpy(times))
