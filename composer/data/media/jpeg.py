"""Whether the compressed data of a JPEG is intact. If it is not, libjpeg only warns, and Pillow drops the warnings."""

import io
import re
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PROGRESSIVE = 0xC2
HUFFMAN = (0xC0, 0xC1, PROGRESSIVE)
"""Frames that are checked: baseline, extended and progressive. Arithmetic coding may leave out zeros at the end."""

FRAMES = sorted({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
START, SCAN, END = b"\xff\xd8", 0xDA, 0xD9
RESTARTS = range(0xD0, 0xD8)
NAMED = (*range(0xE0, 0xF0), 0xFE)
"""Application data and comments."""

MARKER = re.compile(rb"\xff+([^\x00\xff])")

FILLER = bytes(range(91, 123))
AHEAD = 8
"""Bytes that libjpeg wants to have before it reads a code. So up to as many that are missing or left over pass."""


class Stream(NamedTuple):
    """frame: the marker of the frame's kind, 0 if there is none. data: the image from its start to before its end,
    without application data and comments. runs: where compressed data ends in it, at each marker that follows some.
    scans: how many there are. ordered: whether the restart markers of each count up.
    """

    frame: int
    data: bytes
    runs: list[int]
    scans: int
    ordered: bool


def find_damage(file: bytes) -> str | None:
    """What is wrong with the compressed data of a JPEG that Pillow decodes; None if nothing is, or if it is arithmetic.

    Of an image in one scan, Pillow must read all compressed data, and no more, if the end marker is not there to stop
    it. Before any other marker libjpeg fills up missing data with zeros, so other bytes in that place must not change
    the pixels. FFmpeg's decoder finds codes that are not in the tables.
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
            return "compressed data is left over at its end"
    if len(stream.runs) > 1 and not np.array_equal(_pixels(_ended(stream.data)), _pixels(_ended(_filled(stream)))):
        return "its compressed data ends before the image does"
    return "its compressed data holds invalid codes" if _invalid(_ended(stream.data)) else None


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
            follows = MARKER.search(file, position)
            position = follows.start() if follows else len(file)
        if marker not in NAMED:
            parts.append(file[match.end() - 2 : position])
            size += len(parts[-1])
        if compressed:
            runs.append(size)
    return Stream(frame, b"".join(parts), runs, scans, ordered)


def _filled(stream: Stream) -> bytes:
    parts, start = [], 0
    for end in stream.runs:
        parts += [stream.data[start:end], FILLER]
        start = end
    return b"".join(parts)


def _ended(data: bytes) -> bytes:
    return data + bytes([0xFF, END])


def _pixels(file: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file), formats=["JPEG"]) as image:
        return np.asarray(image)


def _decodes(file: bytes) -> bool:
    """Whether Pillow decodes all of a file that has no end marker, where libjpeg waits for more."""
    try:
        _pixels(file)
    except OSError:
        return False
    return True


def _invalid(file: bytes) -> bool:
    """Whether FFmpeg's decoder refuses the data. It knows fewer layouts than libjpeg, and says so with other errors."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count, decoder.options = 1, {"err_detect": "explode"}
    try:
        decoder.decode(av.Packet(file))
    except av.error.InvalidDataError:
        return True
    except av.error.FFmpegError:
        return False
    return False
