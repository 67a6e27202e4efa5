"""The index of AVI files, which lists chunks that FFmpeg drops."""

import io

from composer.data.media.opened import open_media
from composer.sample import Media

ENTRY = 16
"""Bytes of a line of the index: the chunk's name, which starts with its stream's number, flags, offset and size."""


def count_chunks(media: Media, stream: int) -> int:
    """How many chunks an AVI file's index lists for a stream, those without bytes included; 0 without an index.

    A chunk stands for one frame; one without bytes holds the frame before.
    """
    name = b"%02d" % stream
    with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"idx1":
                index = file.read(size)
                return sum(index[place : place + 2] == name for place in range(0, len(index), ENTRY))
            file.seek(size + size % 2, io.SEEK_CUR)
    return 0
