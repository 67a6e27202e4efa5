"""Access to the bytes of a media item: a file, bytes in its record, or a byte range of an archive."""

import io
import os
import re
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import BinaryIO, Literal

from composer.errors import MediaError
from composer.sample import Media

URL = re.compile(r"(^|/)(https?|ftp|s3|gs):/")
"""A web address, also if a folder was prepended to it."""

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
"""Unicode forms of an accented letter: one character, as most systems write it, or two, as macOS does."""

WRONG_CALL = re.compile("unexpected keyword argument|positional argument|has incorrect type")
"""Python's messages about a call with the wrong arguments."""


@contextmanager
def open_media(media: Media) -> Iterator[str | BinaryIO]:
    """Open a media item for Pillow or PyAV.

    Args:
        media: An image or a video; or a folder, which gives its path.

    Yields:
        The path if the media item is a file of its own, else a binary file.

    Raises:
        MediaError: If the file is missing or an archive is too short.
    """
    if media.data is not None:
        yield io.BytesIO(media.data)
        return
    if not (os.path.exists(media.path) if media.span is None else os.path.isfile(media.path)):
        raise MediaError(f"{media.path}: {_missing(media.path)}")
    if media.span is None:
        yield media.path
        return
    offset, size = media.span
    with open(media.path, "rb") as archive:
        length = os.fstat(archive.fileno()).st_size
        if not 0 <= offset <= offset + size <= length:
            raise MediaError(
                f"{media.path}: got an archive of {length:,} bytes, expected a file at bytes {offset:,} to "
                f"{offset + size:,}: the archive is truncated, or its index belongs to a different archive"
            )
        with io.BufferedReader(ByteRange(archive, offset, size)) as file:
            yield file


def _missing(path: str) -> str:
    """Explain why a file may be missing, and what to do."""
    if URL.search(path):
        return "got a web address, expected a file: download it, and put the file's path in the record"
    folder, name = os.path.split(path)
    for form, other in product(FORMS, FORMS):
        if os.path.exists(os.path.join(unicodedata.normalize(form, folder), unicodedata.normalize(other, name))):
            return (
                "no such file, but one whose name looks the same and is written with different Unicode characters "
                f"({other}): rename the file, or write its name that way in the record"
            )
    return "no such file; paths are relative to media_root or to the data file"


@contextmanager
def decoding(path: str, problem: str) -> Iterator[None]:
    """Convert any exception of a decoder in the block to MediaError("path: problem: reason").

    Decoders raise all kinds of exceptions for damaged files. An exception raised by composer's own code, or by a call
    with the wrong arguments, is a bug in composer and passes through unchanged.

    Args:
        path: Path of the media item.
        problem: What failed, such as "cannot decode this image".

    Raises:
        MediaError: If a decoder fails in the block.
    """
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and _raised_here(error):
            raise
        raise MediaError(f"{path}: {problem}: {reason_of(error)}") from error


def _raised_here(error: Exception) -> bool:
    """Return whether an exception was raised by composer, by NumPy, or by a call with the wrong arguments."""
    frames = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # A compiled function called with the wrong arguments adds a frame to the traceback.
    called_wrongly = isinstance(error, TypeError) and WRONG_CALL.search(str(error))
    innermost = frames[-2:] if called_wrongly else frames[-1:]
    return any(name.partition(".")[0] in (__name__.partition(".")[0], "numpy") for name in innermost)


def reason_of(error: Exception) -> str:
    """Describe a decoder's exception in one line.

    Args:
        error: Any exception; decoders raise all kinds for damaged files.

    Returns:
        The system's message for an OSError, else the exception's type and message.
    """
    if reason := getattr(error, "strerror", None):
        return str(reason)
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


class ByteRange(io.RawIOBase):
    """Read-only file over the bytes `offset` to `offset + size` of another file.

    Args:
        file: The underlying file, open for reading.
        offset: First byte.
        size: Number of bytes.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self.file, self.offset, self.size = file, offset, size
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        if position < 0:
            raise ValueError(f"got position {position}, expected 0 or more")
        self.position = position
        return position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(min(len(buffer), self.size - self.position), 0)
        self.file.seek(self.offset + self.position)
        data = self.file.read(count)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
