"""Writing of one tar file of a packed source; see `composer.shards` for the format. Does not import torch."""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from composer.data.media.folder import list_images
from composer.data.media.opened import open_media
from composer.errors import DataError
from composer.sample import Media, Sample
from composer.shards import member, to_record

TAR = tarfile.GNU_FORMAT
"""Tar format that stores files over 8 GiB without extra members."""

SIGNATURES = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "mkv"),
)
"""Offset, bytes there and extension of media items that have no file name."""


def encode_record(sample: Sample, media: Iterable[Mapping[str, object]]) -> bytes:
    """Encode a sample's record as JSON. Values of `meta` that JSON does not support become text.

    Args:
        sample: The sample.
        media: Location of each of its media items, in order, as keys of the record.

    Returns:
        The record, in UTF-8.

    Raises:
        DataError: If the sample cannot be written as JSON.
    """
    try:
        meta = json.loads(json.dumps(dict(sample.meta), default=str))
        return json.dumps(to_record(replace(sample, meta=meta), media)).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be written as JSON: {error}") from None


class ShardWriter:
    """Writer of a tar file. The same samples give the same bytes. A file that samples share is stored once.

    Args:
        tar: The tar file, open for writing.
        first: Index of its first sample in the packed source.
    """

    def __init__(self, tar: tarfile.TarFile, first: int) -> None:
        self.tar, self.index = tar, first
        self.packed: dict[Media, dict[str, object]] = {}
        """Locations of media files in the tar, by their origin."""

    def add(self, sample: Sample) -> tuple[int, int]:
        """Write a sample's media and record.

        Args:
            sample: The sample.

        Returns:
            Offset and size of the record in the tar, in bytes.
        """
        media = [self._add_media(media, number) for number, media in enumerate(sample.media)]
        text = encode_record(sample, media)
        offset, size = self._add(member(self.index), io.BytesIO(text), len(text))
        self.index += 1
        return offset, size

    def _add_media(self, media: Media, number: int) -> dict[str, object]:
        origin = Media(media.kind, media.path, span=media.span, fps=media.fps, frame_spans=media.frame_spans)
        if media.data is None and origin in self.packed:
            return self.packed[origin]
        if media.fps is None:
            name, span = self._add_file(media, str(number))
            added: dict[str, object] = {"member": name, "span": span}
        else:
            frames = [self._add_file(frame, f"{number}.{n:05d}") for n, frame in enumerate(list_images(media))]
            added = {"members": [name for name, _ in frames], "pictures": [span for _, span in frames]}
        if media.data is None:
            self.packed[origin] = added
        return added

    def _add_file(self, media: Media, ending: str) -> tuple[str, tuple[int, int]]:
        with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            name = member(self.index, f"{ending}.{_extension(media, file)}")
            return name, self._add(name, file, size)

    def _add(self, name: str, file: BinaryIO, size: int) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size = size
        self.tar.addfile(info, file)
        padded = -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self.tar.offset - padded, size


def _extension(media: Media, file: BinaryIO) -> str:
    """Return the extension of a media item's member: that of its file, else one by its first bytes."""
    own = Path(media.path).suffix.lower().removeprefix(".")
    if media.data is None and media.span is None and own.isascii() and own.isalnum() and len(own) <= 8:
        return own
    head = file.read(16)
    file.seek(0)
    return next((name for at, start, name in SIGNATURES if head[at : at + len(start)] == start), "bin")
