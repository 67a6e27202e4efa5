"""Index of AVI files, which lists the chunks that FFmpeg drops."""

import io

from composer.data.media.opened import open_media
from composer.sample import Media

ENTRY = 16
"""Bytes per index entry: chunk name (starts with the stream number), flags, offset and size."""


def count_chunks(media: Media, stream: int) -> int:
    """Count the chunks that an AVI file's index lists for a stream.

    Each chunk represents one frame; an empty chunk repeats the previous frame.

    Args:
        media: An AVI file.
        stream: Index of the stream in the file.

    Returns:
        The number of chunks, empty ones included; 0 if the file has no index.
    """
    name = b"%02d" % stream
    with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"idx1":
                index = file.read(size)
                return sum(index[start : start + 2] == name for start in range(0, len(index), ENTRY))
            file.seek(size + size % 2, io.SEEK_CUR)
    return 0
