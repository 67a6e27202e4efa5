"""Whether a video file ends before its container does: cut off by a broken download, for one."""

import io
from typing import BinaryIO

from composer.data.media.opened import open_media
from composer.sample import Media

SLACK = 8
"""Bytes: some writers count a header into its own size."""

BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot")
"""What an MP4 or QuickTime file may start with."""

SEGMENT = bytes.fromhex("18538067")
"""Matroska's element that holds all others but the first."""


def is_truncated(media: Media) -> bool:
    """Whether an AVI, Matroska or MP4 file is shorter than its outermost parts say. False for any other format."""
    with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
        return _end_of_parts(file) > file.seek(0, io.SEEK_END) + SLACK


def _end_of_parts(file: BinaryIO) -> int:
    """Where the last of a file's outermost parts ends by its own header; 0 if that is not known."""
    magic = file.read(12)
    file.seek(0)
    if magic[:4] == b"RIFF":
        return _end_of_chunks(file)
    if magic[:4] == b"\x1aE\xdf\xa3":
        return _end_of_segment(file)
    return _end_of_boxes(file) if magic[4:8] in BOXES else 0


def _end_of_chunks(file: BinaryIO) -> int:
    """AVI: chunks "RIFF", one or more, each of which says how many bytes follow its size."""
    end = 0
    while (head := file.read(8))[:4] == b"RIFF" and len(head) == 8:
        end = file.tell() + int.from_bytes(head[4:], "little")
        file.seek(end + end % 2)
    return end


def _end_of_boxes(file: BinaryIO) -> int:
    """MP4: boxes, each of which says its size; 1 stands for a size of 8 bytes, 0 for the rest of the file."""
    end = 0
    while len(head := file.read(16)) >= 8:
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8 or not head[4:8].isascii():  # the rest of the file, or nothing that belongs to it
            break
        end += size
        file.seek(end)
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """Matroska: a header, then a segment. A size of all ones is that of a stream whose end was not known."""
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
