"""Images and videos of a record, as paths or bytes, and detection of media under unused keys."""

import base64
import binascii
import re
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from composer.errors import DataError
from composer.sample import Media

Kind = Literal["image", "video"]

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/]{32}")
"""First characters of JPEG, PNG, GIF and WebP in base64."""

MEDIA_FILE = re.compile(
    r"[^\n]+\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf]|jp2"
    r"|mp4|m4v|mov|mkv|webm|avi|flv|wmv|mpe?g|ts|3gp|ogv"
    r"|wav|mp3|flac|ogg|opus|m4a|aac)([?#][^\n]*)?",
    re.IGNORECASE,
)
"""The name of a media file."""

ALIAS = re.compile(
    r"(?:(?P<image>image|img|picture|pic|photo)|(?P<video>video|vid)|(?P<sound>audio|sound))s?"
    r"(?:path|file|filename|name|url|uri|src|list|data|bytes|str|base64|b64)?s?"
)
"""A key that clearly denotes media, in lower case, with letters and digits only."""

PROVENANCE = re.compile(r"meta.*|info|(data_?)?(source|set)")
"""A key that describes the origin of a record; files in it are not used."""


class MediaRoot(NamedTuple):
    """Location of a record's media.

    Attributes:
        folder: Folder that paths are relative to.
        record: Name of the record, for messages.
        fps: Frames per second of videos that are folders of images.
    """

    folder: Path
    record: str
    fps: float | None = None

    def media(
        self, kind: Kind, value: object, key: str, number: int, start: float | None = None, end: float | None = None
    ) -> Media:
        """Return the media item of a value.

        Args:
            kind: Type of the media item.
            value: A path, a `data:` URI, the bytes of a file, or {"bytes": ..., "path": ...}.
            key: Key of the value, for messages.
            number: Position of the media item in the record, from 1.
            start: Start of the segment in seconds.
            end: End of the segment in seconds.

        Raises:
            DataError: If the value has a different form.
        """
        fps = self.fps if kind == "video" else None
        if isinstance(value, Mapping):
            data = value.get("bytes")
            if data is not None and not isinstance(data, bytes):
                raise DataError(f'"{key}": got {type(data).__name__} in "bytes", expected bytes')
            value = value.get("path") or value.get("url") if data is None else data
        if isinstance(value, str) and (uri := DATA_URI.match(value)):
            value = _decode(value[uri.end() :], key)
        if isinstance(value, bytes):
            return Media(kind, f"{self.record}, {kind} {number}", start, end, data=value)
        return Media(kind, str(self.folder / path_of(value, key)), start, end, fps=fps)


def path_of(value: object, key: str) -> str:
    """Return a local path. Raises DataError for a URL or a value that is not a path."""
    if not isinstance(value, str) or not value:
        raise DataError(f'"{key}": got {reprlib.repr(value)}, expected a path or a list of paths')
    path = value.removeprefix("file://")
    if URL.match(path):
        raise DataError(f'"{key}": got the URL {value!r}, expected a local path: download it first')
    return path


def values_of(record: Mapping[str, object], key: str) -> list[object]:
    """Return the values at a key or its plural, each a value or a list. Raises DataError if both are present."""
    values = {name: record[name] for name in (key, f"{key}s") if record.get(name) not in (None, "", [])}
    if len(values) > 1:
        raise DataError(f'"{key}", "{key}s": got media under both keys, expected one of them')
    return [item for value in values.values() for item in (value if isinstance(value, list) else [value])]


def segment_of(record: Mapping[str, object], first: str, last: str) -> tuple[float | None, float | None]:
    """Return start and end of a video segment in seconds, each None if its key is missing. Raises DataError."""
    start, end = _second(record, first), _second(record, last)
    if start is not None and end is not None and start >= end:
        raise DataError(f'"{first}", "{last}": got {start:g} and {end:g}, expected start < end, in seconds')
    return start, end


def _second(record: Mapping[str, object], key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DataError(f'"{key}": got {value!r}, expected seconds from the start of the video')
    return float(value)


def refuse_unread(record: Mapping[str, object], read: Collection[str], media: Collection[Media], expected: str) -> None:
    """Check that no media under an unused key would be lost.

    If the keys in use contain media, other files are considered their origin (a URL, a thumbnail, a mask), unless the
    key clearly denotes a different kind of media.

    Args:
        record: The record, or a part of it.
        read: Keys in use.
        media: Media items at these keys.
        expected: The correct keys, for the message.

    Raises:
        DataError: If media would be lost.
    """
    kinds = {item.kind for item in media}
    for key, value in record.items():
        if key in read or PROVENANCE.fullmatch(key.lower()):
            continue
        alias = ALIAS.fullmatch(re.sub("[^a-z0-9]", "", key.lower()))
        kind, holds = alias and alias.lastgroup, _holds_media(value)
        if kind == "sound" and holds:
            raise DataError(f'"{key}": sound is not supported; remove the key to train without it')
        if kinds:
            lost = holds and kind in {"image", "video"} - kinds and not (isinstance(value, str) and URL.match(value))
        else:
            lost = holds or (kind in ("image", "video") and _holds_text(value))
        if lost:
            got = reprlib.repr(value)
            raise DataError(f'"{key}": got media ({got}) under an unused key, expected {expected}')


def _holds_media(value: object, depth: int = 3) -> bool:
    """Whether a value is or contains the name of a media file, or bytes."""
    if isinstance(value, str):
        if DATA_URI.match(value) or BASE64.match(value):
            return True
        return len(value) < 2048 and MEDIA_FILE.fullmatch(value) is not None
    if isinstance(value, Mapping | list):
        items = value.values() if isinstance(value, Mapping) else value
        return depth > 0 and any(_holds_media(item, depth - 1) for item in items)
    return isinstance(value, bytes) and bool(value)


def _holds_text(value: object) -> bool:
    """Whether a value is or contains text: the name of a folder of frames has no suffix."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and item for item in items)


def _decode(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f'"{key}": not base64: {error}') from None
