"""Where a medium's bytes lie: in a file, in its record, or in a stretch of an archive."""

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
"""An address on the web, also behind a folder that was put before it."""

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
"""The two spellings of a letter with an accent: one character, as most systems write it, or two, as macOS does."""

WRONG_CALL = re.compile("unexpected keyword argument|positional argument|has incorrect type")
"""What Python says of a call with the wrong arguments."""


@contextmanager
def open_media(media: Media) -> Iterator[str | BinaryIO]:
    """What Pillow and PyAV open, a path where there is one. Raises MediaError for a file that is missing or short."""
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
        there = os.fstat(archive.fileno()).st_size
        if not 0 <= offset <= offset + size <= there:
            raise MediaError(
                f"{media.path}: got an archive of {there:,} bytes, expected a file at {offset:,} to {offset + size:,}: "
                "the archive is truncated, or its index is of another one"
            )
        with io.BufferedReader(ByteRange(archive, offset, size)) as file:
            yield file


def _missing(path: str) -> str:
    """Why a file may be missing, and what to do."""
    if URL.search(path):
        return "an address on the web, expected a file: download it first, and name the file in the record"
    folder, name = os.path.split(path)
    for form, other in product(FORMS, FORMS):
        if os.path.exists(os.path.join(unicodedata.normalize(form, folder), unicodedata.normalize(other, name))):
            return (
                "no such file, but one whose name looks the same and is spelled with other Unicode characters "
                f"({other}): rename the file, or spell its name so in the record"
            )
    return "no such file; paths are relative to media_root or to the data file"


@contextmanager
def decoding(path: str, problem: str) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into MediaError("path: problem: reason").

    Damaged files make decoders raise anything. An exception raised by a line of composer itself, or because
    of a call with the wrong arguments, is a defect of ours and passes through unchanged.
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
    """Whether an exception comes from a line of composer, from NumPy, or from our call with the wrong arguments."""
    frames = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # A compiled function that is called with the wrong arguments has a frame of its own.
    called_wrongly = isinstance(error, TypeError) and WRONG_CALL.search(str(error))
    innermost = frames[-2:] if called_wrongly else frames[-1:]
    return any(name.partition(".")[0] in (__name__.partition(".")[0], "numpy") for name in innermost)


def reason_of(error: Exception) -> str:
    """What a decoder says is wrong. Damaged files make decoders raise anything, whose name may say most."""
    if reason := getattr(error, "strerror", None):
        return str(reason)
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


class ByteRange(io.RawIOBase):
    """Bytes `offset` to `offset + size` of a file, as a file of their own."""

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
            raise ValueError(f"a position of {position}, before the start")
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
