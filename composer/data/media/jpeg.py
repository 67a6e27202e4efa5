"""Detection of damaged JPEG data. libjpeg only warns about it, and Pillow drops the warnings."""

import io
import re
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PROGRESSIVE = 0xC2
HUFFMAN = (0xC0, 0xC1, PROGRESSIVE)
"""Markers of the frames that are checked: baseline, extended, progressive. Arithmetic coding may drop final zeros."""

FRAMES = sorted({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
START, SCAN, END = b"\xff\xd8", 0xDA, 0xD9
RESTARTS = range(0xD0, 0xD8)
NAMED = (*range(0xE0, 0xF0), 0xFE)
"""Markers of application data and comments."""

MARKER = re.compile(rb"\xff+([^\x00\xff])")

FILLER = bytes(range(91, 123))
AHEAD = 8
"""Bytes that libjpeg reads ahead of a code. Up to this many missing or surplus bytes are not detected."""


class Stream(NamedTuple):
    """Parts of a JPEG file.

    Attributes:
        frame: Marker of the frame's kind; 0 if there is none.
        data: The file up to its end marker, without application data and comments.
        runs: Offsets in `data` at which a run of compressed data ends.
        scans: Number of scans.
        ordered: Whether the restart markers of each scan count up.
    """

    frame: int
    data: bytes
    runs: list[int]
    scans: int
    ordered: bool


def find_damage(file: bytes) -> str | None:
    """Find damage in the compressed data of a JPEG that Pillow decodes.

    Without the end marker, Pillow must read exactly all compressed data of an image in one scan. Before any other
    marker libjpeg fills in missing data with zeros, so different bytes there must not change the pixels. FFmpeg's
    decoder detects codes that are not in the tables.

    Args:
        file: Content of the file.

    Returns:
        What is wrong, or None if nothing is or if the JPEG is arithmetic-coded, which is not checked.
    """
    stream = _parse(file)
    if stream.frame not in HUFFMAN or not stream.runs:
        return None
    if not stream.ordered:
        return "restart markers are missing or out of order"
    if stream.scans == 1 and stream.frame != PROGRESSIVE:
        if not _decodes(stream.data + FILLER[:AHEAD]):
            return "its compressed data ends before the image does"
        if _decodes(stream.data[:-1]):
            return "its compressed data continues after the end of the image"
    plain, filled = (_add_end(data) for data in (stream.data, _add_filler(stream)))
    if len(stream.runs) > 1 and not np.array_equal(_pixels(plain), _pixels(filled)):
        return "its compressed data ends before the image does"
    return "its compressed data contains invalid codes" if _has_invalid_codes(plain) else None


def _parse(file: bytes) -> Stream:
    parts, runs, frame = [START], [], 0
    ordered, restarts, scans = True, 0, 0
    position, size = len(START), len(START)
    while (match := MARKER.search(file, position)) and (marker := match[1][0]) != END:
        position = match.end()
        if marker in RESTARTS:
            ordered &= marker == RESTARTS[restarts % 8]
            restarts += 1
        else:
            position += int.from_bytes(file[position : position + 2], "big")
        if marker in FRAMES:
            frame = marker
        if marker == SCAN:
            scans, restarts = scans + 1, 0
        compressed = marker == SCAN or marker in RESTARTS
        if compressed:
            following = MARKER.search(file, position)
            position = following.start() if following else len(file)
        if marker not in NAMED:
            parts.append(file[match.end() - 2 : position])
            size += len(parts[-1])
        if compressed:
            runs.append(size)
    return Stream(frame, b"".join(parts), runs, scans, ordered)


def _add_filler(stream: Stream) -> bytes:
    parts, start = [], 0
    for end in stream.runs:
        parts += [stream.data[start:end], FILLER]
        start = end
    return b"".join(parts)


def _add_end(data: bytes) -> bytes:
    return data + bytes([0xFF, END])


def _pixels(file: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file), formats=["JPEG"]) as image:
        return np.asarray(image)


def _decodes(file: bytes) -> bool:
    """Return whether Pillow decodes a file without an end marker, which it does only if no data is missing."""
    try:
        _pixels(file)
    except OSError:
        return False
    return True


def _has_invalid_codes(file: bytes) -> bool:
    """Return whether FFmpeg's decoder refuses the data. For layouts that it does not support it raises other errors."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count, decoder.options = 1, {"err_detect": "explode"}
    try:
        decoder.decode(av.Packet(file))
    except av.error.InvalidDataError:
        return True
    except av.error.FFmpegError:
        return False
    return False
