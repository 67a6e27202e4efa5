"""Size and length of media items. Decodes at most one frame."""

from typing import NamedTuple

from composer.data.media.folder import list_images
from composer.data.media.image import open_image, orientation
from composer.data.media.opened import decoding
from composer.data.media.packets import open_video
from composer.data.media.pixels import upright_size
from composer.data.media.timeline import Span, segment, span_of
from composer.data.media.video import UNREADABLE, Cursor, video_stream
from composer.errors import MediaError
from composer.sample import Media


class Header(NamedTuple):
    """Size and length of a media item.

    Attributes:
        height: Pixels, after rotation to upright.
        width: Pixels, after rotation to upright.
        frames: Number of frames in the segment; 1 for an image.
    """

    height: int
    width: int
    frames: int


def read_header(media: Media) -> Header:
    """Read the size and length of a media item from its file.

    Args:
        media: The media item; its `start` and `end` bound the frames that are counted.

    Returns:
        The size and the number of frames.

    Raises:
        MediaError: If the file is missing or does not give its size.
    """
    if media.kind == "image":
        return _image_header(media)
    return _folder_header(media) if media.fps is not None else _video_header(media)


def _image_header(media: Media) -> Header:
    with open_image(media) as image:
        if image.format == "TIFF":
            image.load()  # Pillow 11.2 and later give the upright size before loading, and fix EXIF only here
        height, width = image.height, image.width
        swapped = orientation(image) > 4
    return Header(width, height, 1) if swapped else Header(height, width, 1)


def _folder_header(media: Media) -> Header:
    images, fps = list_images(media), media.fps or 0.0
    if fps <= 0:
        raise MediaError(f"{media.path}: got {fps:g} frames per second, expected more than 0")
    first, last = segment(media, Span(0.0, len(images) / fps))
    return _image_header(images[0])._replace(frames=max(round((last - first) * fps), 1))


def _video_header(media: Media) -> Header:
    """Read a video's header. Decodes the segment's first frame, because the rotation is stored with the frame."""
    with decoding(media.path, UNREADABLE), open_video(media) as container:
        stream = video_stream(media.path, container)
        span = span_of(media, container, stream)
        first, last = segment(media, span)
        frame = Cursor(media.path, container, stream, span).at(span.start + first)
        frames = max(round((last - first) * float(stream.average_rate or 0)), 1)
        return Header(*upright_size(frame, stream), frames)
