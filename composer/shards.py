"""Packed sources: samples and their encoded media in plain tar files with an index. Does not import torch.

`composer data pack` writes and the reader `packed` reads one folder per source:

    index.json   {"format": 1, "samples": 2, "shards": [{"name": "00000", "samples": 2}], ...}
    00000.tar    000000000.0.jpg, 000000000.json, 000000001.json: media and record of each sample, named by its index
    00000.idx    offset and size in bytes of each record in the tar, two int64 (little-endian)

A record lists the tar members of each media item, with their offset and size in bytes.
"""

import json
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from composer.errors import DataError
from composer.sample import Media, Message, Sample

FORMAT = 1
INDEX = "index.json"
READER = "packed"
"""Name of the reader of these files, for overlays."""

SPAN = struct.Struct("<qq")
MEDIA_OPTIONS = ("start", "end", "fps", "rule")
"""Attributes of a media item that a record contains in addition to its kind and its bytes."""


class Shard(TypedDict):
    """Name and number of samples of a tar, and digests of its first and last sample, by record."""

    name: str
    samples: int
    ends: NotRequired[dict[str, str]]


class Index(TypedDict):
    """The index of a packed source, as far as a reader needs it."""

    format: int
    shards: list[Shard]


class Shards:
    """The samples of one packed source. The constructor reads only the index, and the pickle is small.

    Args:
        folder: Folder of the packed source.

    Raises:
        DataError: If the packed source is incomplete, or a shard is missing or truncated.
    """

    def __init__(self, folder: Path) -> None:
        index = _index(folder)
        self.paths = [folder / f"{shard['name']}.tar" for shard in index["shards"]]
        self.starts = list(accumulate((int(shard["samples"]) for shard in index["shards"]), initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Sample:
        """Read a sample; its media items refer to its tar file."""
        shard, number = self._find(index)
        path = self.paths[shard]
        span = _read(path.with_suffix(".idx"), number * SPAN.size, SPAN.size)
        text = _read(path, *SPAN.unpack(span))
        try:
            return to_sample(json.loads(text), str(path))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.location(index)}: not a record of a packed source ({error}): its index does not "
                "match its tar, or one of them is damaged; pack the source again"
            ) from None

    def location(self, index: int) -> str:
        """Return the tar file and the member of a sample's record."""
        return f"{self.paths[self._find(index)[0]]}: {member(range(len(self))[index])}"

    def _find(self, index: int) -> tuple[int, int]:
        """The shard of a sample, and the sample's index within it."""
        index = range(len(self))[index]
        shard = bisect_right(self.starts, index) - 1
        return shard, index - self.starts[shard]


def member(number: int, ending: str = "json") -> str:
    """Return the name of a tar member: webdataset groups members by the text before the first dot.

    Args:
        number: Index of the sample.
        ending: Text after the first dot.
    """
    return f"{number:09d}.{ending}"


def to_record(sample: Sample, media: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Convert a sample to JSON-compatible values.

    Args:
        sample: The sample.
        media: Location of each media item in the tar (`span` or `pictures`), in the order of `sample.media`.
    """
    locations = iter(media)
    messages = [
        {
            "role": m.role,
            "content": [p if isinstance(p, str) else {**_describe(p), **next(locations)} for p in m.content],
        }
        | ({} if m.loss else {"loss": False})
        for m in sample.messages
    ]
    return {"id": sample.id, "source": sample.source, "messages": messages, "meta": dict(sample.meta)}


def to_sample(record: Mapping[str, Any], path: str) -> Sample:
    """Convert a record to a sample.

    Args:
        record: Result of `to_record`.
        path: Tar file that contains the media.
    """
    messages = tuple(
        Message(
            m["role"], tuple(p if isinstance(p, str) else _media(p, path) for p in m["content"]), m.get("loss", True)
        )
        for m in record["messages"]
    )
    return Sample(record["id"], record["source"], tuple(messages), record["meta"])


def _describe(media: Media) -> dict[str, object]:
    options = {name: getattr(media, name) for name in MEDIA_OPTIONS}
    return {"kind": media.kind} | {name: value for name, value in options.items() if value is not None}


def _media(record: Mapping[str, Any], path: str) -> Media:
    options = {name: record[name] for name in MEDIA_OPTIONS if name in record}
    if "pictures" in record:
        return Media(record["kind"], path, frame_spans=tuple((o, s) for o, s in record["pictures"]), **options)
    offset, size = record["span"]
    return Media(record["kind"], path, span=(offset, size), **options)


def _index(folder: Path) -> Index:
    path = folder / INDEX
    try:
        index: Index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected the index of a packed source. If packing was "
            "interrupted, run the same `composer data pack` again to resume: it writes the index last"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT or not index.get("shards"):
        got = index.get("format") if isinstance(index, dict) else None
        raise DataError(f"{path}: got format {got!r}, expected {FORMAT} for this version: pack the source again")
    return index


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; copy the complete folder of the packed source"
        ) from None
    if len(data) < size:
        raise DataError(f"{path}: ends before {offset + size:,} bytes: the file is truncated; copy it again")
    return data
