"""How large a medium is, without decoding more than one frame of it."""

from typing import NamedTuple

from composer.data.media.folder import list_images
from composer.data.media.image import open_image, orientation
from composer.data.media.opened import decoding
from composer.data.media.pixels import upright_size
from composer.data.media.timeline import Span, open_video, segment, span_of
from composer.data.media.video import UNREADABLE, Cursor, video_stream
from composer.errors import MediaError
from composer.sample import Media


class Header(NamedTuple):
    """height, width: in pixels, upright. frames: of the segment that is asked for, 1 for an image."""

    height: int
    width: int
    frames: int


def read_header(media: Media) -> Header:
    """What a medium's file says of it. Raises MediaError for a file that is missing or says nothing."""
    if media.kind == "image":
        return _of_image(media)
    return _of_folder(media) if media.fps is not None else _of_video(media)


def _of_image(media: Media) -> Header:
    with open_image(media) as image:
        if image.format == "TIFF":
            image.load()  # since 11.2 Pillow gives it the upright size at once, and corrects EXIF only here
        height, width = image.height, image.width
        lies = orientation(image) > 4
    return Header(width, height, 1) if lies else Header(height, width, 1)


def _of_folder(media: Media) -> Header:
    pictures, fps = list_images(media), media.fps or 0.0
    if fps <= 0:
        raise MediaError(f"{media.path}: got {fps:g} pictures a second, expected more than 0")
    first, last = segment(media, Span(0.0, len(pictures) / fps))
    return _of_image(pictures[0])._replace(frames=max(round((last - first) * fps), 1))


def _of_video(media: Media) -> Header:
    """The first frame of the segment is decoded: how it is turned stands with the frame."""
    with decoding(media.path, UNREADABLE), open_video(media) as container:
        stream = video_stream(media.path, container)
        span = span_of(media, container, stream)
        first, last = segment(media, span)
        frame = Cursor(media.path, container, stream, span).at(span.start + first)
        frames = max(round((last - first) * float(stream.average_rate or 0)), 1)
        return Header(*upright_size(frame, stream), frames)
