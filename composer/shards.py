"""Packed sources: samples and the bytes of their media in plain tar files, and where each of them lies. No torch here.

What `composer data pack` writes and the reader `packed` reads, a folder for each source:

    index.json   {"format": 1, "samples": 2, "shards": [{"name": "00000", "samples": 2}], ...}
    00000.tar    000000000.0.jpg, 000000000.json, 000000001.json: a sample's media, then its record, named by its number
    00000.idx    where each record lies in the tar: offset and size in bytes, two int64 (little-endian)

A record says of each medium which members of its own tar hold it, and where: (offset, size).
"""

import json
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from composer.errors import DataError
from composer.sample import Media, Message, Sample

FORMAT = 1
INDEX = "index.json"
READER = "packed"
"""The reader whose files these are, as an overlay names it."""

PLACE = struct.Struct("<qq")
MEDIA_OPTIONS = ("start", "end", "fps", "rule")
"""What a record keeps of a medium beside its kind and its bytes."""


class Shards:
    """The samples of one packed source, by number. Opening reads the index alone; it pickles small.

    Raises DataError for a folder that holds no whole packed source, and for shards that are missing or cut off.
    """

    def __init__(self, folder: Path) -> None:
        index = _index(folder)
        self.paths = [folder / f"{shard['name']}.tar" for shard in index["shards"]]
        self.starts = list(accumulate((int(shard["samples"]) for shard in index["shards"]), initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Sample:
        """A sample whose media lie in its shard."""
        shard, number = self._find(index)
        path = self.paths[shard]
        place = _read(path.with_suffix(".idx"), number * PLACE.size, PLACE.size)
        text = _read(path, *PLACE.unpack(place))
        try:
            return to_sample(json.loads(text), str(path))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.location(index)}: not a record of a packed source ({error}): its index does not "
                "match its tar, or one of them is damaged; pack the source again"
            ) from None

    def location(self, index: int) -> str:
        """The tar, and the member that holds a sample's record."""
        return f"{self.paths[self._find(index)[0]]}: {member(range(len(self))[index])}"

    def _find(self, index: int) -> tuple[int, int]:
        """The shard of a sample, and its number there."""
        index = range(len(self))[index]
        shard = bisect_right(self.starts, index) - 1
        return shard, index - self.starts[shard]


def member(number: int, ending: str = "json") -> str:
    """The name of a member of sample `number`: webdataset tells samples apart by what comes before the first point."""
    return f"{number:09d}.{ending}"


def to_record(sample: Sample, media: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A sample as plain values. media: where each of its media lies, in their order, as keys of a record."""
    places = iter(media)
    messages = [
        {"role": m.role, "content": [p if isinstance(p, str) else {**_described(p), **next(places)} for p in m.content]}
        | ({} if m.loss else {"loss": False})
        for m in sample.messages
    ]
    return {"id": sample.id, "source": sample.source, "messages": messages, "meta": dict(sample.meta)}


def to_sample(record: Mapping[str, Any], path: str) -> Sample:
    """The sample of a record, whose media lie in the tar `path`."""
    messages = tuple(
        Message(
            m["role"], tuple(p if isinstance(p, str) else _media(p, path) for p in m["content"]), m.get("loss", True)
        )
        for m in record["messages"]
    )
    return Sample(record["id"], record["source"], tuple(messages), record["meta"])


def _described(media: Media) -> dict[str, Any]:
    options = {name: getattr(media, name) for name in MEDIA_OPTIONS}
    return {"kind": media.kind} | {name: value for name, value in options.items() if value is not None}


def _media(record: Mapping[str, Any], path: str) -> Media:
    options = {name: record[name] for name in MEDIA_OPTIONS if name in record}
    if "pictures" in record:
        return Media(record["kind"], path, frame_spans=tuple((o, s) for o, s in record["pictures"]), **options)
    offset, size = record["span"]
    return Media(record["kind"], path, span=(offset, size), **options)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected the index of a packed source: it is written last, so "
            "go on with `composer data pack` where packing was interrupted"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT or not index.get("shards"):
        got = index.get("format") if isinstance(index, dict) else None
        raise DataError(f"{path}: got format {got!r}, expected {FORMAT}, that of this composer: pack the source again")
    return index


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; copy the whole folder of the packed source"
        ) from None
    if len(data) < size:
        raise DataError(f"{path}: ends before {offset + size:,} bytes: the file is cut off; copy it again")
    return data
