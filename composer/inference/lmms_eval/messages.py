"""Converts lmms-eval's chat messages to samples. Does not import lmms-eval."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageOps

from composer.errors import DataError
from composer.sample import Media, Message, Sample

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def sample_of(messages: Sequence[Mapping[str, Any]], document: str, source: str) -> Sample:
    """Convert a document's messages to a sample.

    Args:
        messages: Chat messages. A part of a message is a text, an image (a file's path or a Pillow image) or a video:
            a file's path with `start_time` and `end_time` in seconds, or a mapping of `path` or `url`, `video_start`
            and `video_end`.
        document: The sample's id.
        source: The sample's source.

    Raises:
        DataError: A part is anything else; names source and document.
    """
    where = f"{source}: document {document}"
    return Sample(document, source, tuple(_message(message, where) for message in messages))


def _message(message: Mapping[str, Any], where: str) -> Message:
    role = message["role"]
    if role not in ("system", "user", "assistant"):
        raise DataError(f"{where}: got a message of {role!r}, expected one of system, user or assistant")
    return Message(role, tuple(_part(part, where) for part in message["content"]))


def _part(part: Mapping[str, Any], where: str) -> str | Media:
    if part["type"] == "text":
        return str(part["text"])
    if part["type"] == "image":
        return _image(part["url"], where)
    if part["type"] == "video":
        return _video(part, where)
    raise DataError(f"{where}: got {part['type']}, expected text, image or video")


def _image(image: object, where: str) -> Media:
    if isinstance(image, Image.Image):
        return Media("image", f"an image of {where}", data=_encode(image))
    if isinstance(image, str):
        return Media("image", image)
    raise DataError(f"{where}: got an image as {type(image).__name__}, expected a file's path or a Pillow image")


def _video(part: Mapping[str, Any], where: str) -> Media:
    path, start, end = part["url"], part.get("start_time"), part.get("end_time")
    if isinstance(path, Mapping):
        video = path
        path, start, end = video.get("path") or video.get("url"), video.get("video_start"), video.get("video_end")
    if not isinstance(path, str):
        raise DataError(f"{where}: got a video as {type(path).__name__}, expected a file's path")
    return Media("video", path, start, end)


def _encode(image: Image.Image) -> bytes:
    """Encode an image without loss, upright. PNG has no CMYK and no floating point."""
    file = io.BytesIO()
    upright = ImageOps.exif_transpose(image)
    if image.mode in PNG_MODES:
        upright.save(file, "PNG", compress_level=1)
    else:
        upright.save(file, "TIFF")
    return file.getvalue()
