"""Images and videos that a record names or holds, and media under keys that no reader reads."""

import base64
import binascii
import re
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from composer.errors import DataError
from composer.sample import Media

Kind = Literal["image", "video"]

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/]{32}")
"""How JPEG, PNG, GIF and WebP begin in base64."""

MEDIA_FILE = re.compile(
    r"[^\n]+\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf]|jp2"
    r"|mp4|m4v|mov|mkv|webm|avi|flv|wmv|mpe?g|ts|3gp|ogv"
    r"|wav|mp3|flac|ogg|opus|m4a|aac)([?#][^\n]*)?",
    re.IGNORECASE,
)
"""A text that names a file of media."""

ALIAS = re.compile(
    r"(?:(?P<image>image|img|picture|pic|photo)|(?P<video>video|vid)|(?P<sound>audio|sound))s?"
    r"(?:path|file|filename|name|url|uri|src|list|data|bytes|str|base64|b64)?s?"
)
"""A key that plainly names media, in lower case and without other signs than letters and digits."""

PROVENANCE = re.compile(r"meta.*|info|(data_?)?(source|set)")
"""A key that says what a record was made of: files named there are not shown."""


class MediaRoot(NamedTuple):
    """What the media of a record have in common. folder: where paths start; record: its name; fps: of videos."""

    folder: Path
    record: str
    fps: float | None = None

    def media(
        self, kind: Kind, value: Any, key: str, number: int, start: float | None = None, end: float | None = None
    ) -> Media:
        """The media item that a value names or holds. key: what errors call the value; number: its place, from 1.

        Raises DataError unless the value is a path, a `data:` URI, the bytes of a file, or {"bytes": ..., "path": ...}.
        """
        fps = self.fps if kind == "video" else None
        if isinstance(value, Mapping):
            data = value.get("bytes")
            if data is not None and not isinstance(data, bytes):
                raise DataError(f'"{key}": expected bytes in "bytes", got {type(data).__name__}')
            value = value.get("path") or value.get("url") if data is None else data
        if isinstance(value, str) and (uri := DATA_URI.match(value)):
            value = _decoded(value[uri.end() :], key)
        if isinstance(value, bytes):
            name = "picture" if kind == "image" else "video"
            return Media(kind, f"{self.record}, {name} {number}", start, end, data=value)
        return Media(kind, str(self.folder / path_of(value, key)), start, end, fps=fps)


def path_of(value: Any, key: str) -> str:
    """A local path. Raises DataError for a URL, and for what is no path."""
    if not isinstance(value, str) or not value:
        raise DataError(f'"{key}": expected a path or a list of paths, got {reprlib.repr(value)}')
    path = value.removeprefix("file://")
    if URL.match(path):
        raise DataError(f'"{key}": got the URL {value!r}, expected a path: download it first')
    return path


def values_of(record: Mapping[str, Any], key: str) -> list[Any]:
    """The values at a key or its plural, which may each be one value or a list."""
    values = {name: record[name] for name in (key, f"{key}s") if record.get(name) not in (None, "", [])}
    if len(values) > 1:
        raise DataError(f'"{key}", "{key}s": got media under both keys, expected one of them')
    return [item for value in values.values() for item in (value if isinstance(value, list) else [value])]


def segment_of(record: Mapping[str, Any], first: str, last: str) -> tuple[float | None, float | None]:
    """Where a segment of a video starts and ends, in seconds, at two keys; None if a key is missing."""
    start, end = _second(record, first), _second(record, last)
    if start is not None and end is not None and start >= end:
        raise DataError(f'"{first}" is {start:g}, "{last}" is {end:g}: expected start < end, in seconds')
    return start, end


def _second(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DataError(f'"{key}": expected seconds from the start of the video, got {value!r}')
    return float(value)


def refuse_unread(record: Mapping[str, Any], read: Collection[str], media: Collection[Media], expected: str) -> None:
    """Raises DataError if media under a key that is not read would be lost.

    media: what the keys that are read hold. Next to them, further files are what the record was made of (a URL, a
    thumbnail, a mask), unless their key plainly names media of another kind. expected: the right keys, for the message.
    """
    kinds = {item.kind for item in media}
    for key, value in record.items():
        if key in read or PROVENANCE.fullmatch(key.lower()):
            continue
        alias = ALIAS.fullmatch(re.sub("[^a-z0-9]", "", key.lower()))
        kind, holds = alias and alias.lastgroup, _holds_media(value)
        if kind == "sound" and holds:
            raise DataError(f'"{key}": sound is not read yet; remove the key to train without it')
        if kinds:
            lost = holds and kind in {"image", "video"} - kinds and not (isinstance(value, str) and URL.match(value))
        else:
            lost = holds or (kind in ("image", "video") and _holds_text(value))
        if lost:
            got = reprlib.repr(value)
            raise DataError(f'"{key}": got media ({got}) under a key that is not read, expected {expected}')


def _holds_media(value: Any, depth: int = 3) -> bool:
    """Whether a value is, or has in it, the name of a file of media, or bytes."""
    if isinstance(value, str):
        if DATA_URI.match(value) or BASE64.match(value):
            return True
        return len(value) < 2048 and MEDIA_FILE.fullmatch(value) is not None
    if isinstance(value, Mapping | list):
        items = value.values() if isinstance(value, Mapping) else value
        return depth > 0 and any(_holds_media(item, depth - 1) for item in items)
    return isinstance(value, bytes) and bool(value)


def _holds_text(value: Any) -> bool:
    """Whether a value is a text, or has one in it: the name of a folder of frames has no ending."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and item for item in items)


def _decoded(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f'"{key}": not base64: {error}') from None
