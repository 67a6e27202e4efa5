"""Detection of truncated video files, for example after a broken download."""

import io
from typing import BinaryIO

from composer.data.media.opened import open_media
from composer.sample import Media

SLACK = 8
"""Tolerance in bytes. Some writers include a header in its own size."""

BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot")
"""Types of the first box of an MP4 or QuickTime file."""

SEGMENT = bytes.fromhex("18538067")
"""ID of Matroska's segment, the element that contains all others except the header."""


def is_truncated(media: Media) -> bool:
    """Return whether an AVI, Matroska or MP4 file is shorter than the sizes of its top-level parts.

    Args:
        media: A video.

    Returns:
        True if the file is truncated; False if it is complete or in another format.
    """
    with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
        return _end_of_parts(file) > file.seek(0, io.SEEK_END) + SLACK


def _end_of_parts(file: BinaryIO) -> int:
    """Return the offset at which the last top-level part ends by its own header; 0 if unknown."""
    magic = file.read(12)
    file.seek(0)
    if magic[:4] == b"RIFF":
        return _end_of_chunks(file)
    if magic[:4] == b"\x1aE\xdf\xa3":
        return _end_of_segment(file)
    return _end_of_boxes(file) if magic[4:8] in BOXES else 0


def _end_of_chunks(file: BinaryIO) -> int:
    """End of an AVI file: one or more "RIFF" chunks, each with the number of bytes after its size field."""
    end = 0
    while (head := file.read(8))[:4] == b"RIFF" and len(head) == 8:
        end = file.tell() + int.from_bytes(head[4:], "little")
        file.seek(end + end % 2)
    return end


def _end_of_boxes(file: BinaryIO) -> int:
    """End of an MP4 file: boxes with their sizes; 1 means that a 64-bit size follows, 0 the rest of the file."""
    end = 0
    while len(head := file.read(16)) >= 8:
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8 or not head[4:8].isascii():  # the rest of the file, or bytes after its end
            break
        end += size
        file.seek(end)
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """End of a Matroska file: a header, then a segment. A size of all ones means a stream of unknown length."""
    for _ in range(2):
        name = file.read(4)
        first = file.read(1)
        if not first or not first[0]:
            return 0
        length = 9 - first[0].bit_length()
        size = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
        if name == SEGMENT:
            return 0 if size == (1 << 7 * length) - 1 else file.tell() + size
        file.seek(size, io.SEEK_CUR)
    return 0
