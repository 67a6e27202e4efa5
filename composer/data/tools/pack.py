"""Pack a source into tar files that a cluster reads well: see `composer.shards` for their form. No torch here."""

import fcntl
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from composer.atomic import FULL, replacing, writing
from composer.data.media.folder import list_images
from composer.data.media.opened import open_media
from composer.data.tools.faults import check_media_exists
from composer.errors import DataError
from composer.reader import Reader
from composer.sample import Media, Sample
from composer.shards import FORMAT, INDEX, SPAN, member, to_record

PARTIAL = "partial.json"
"""The index of what is packed so far; it gets its last name when all of it is."""

LOCK = ".lock"

TAR = tarfile.GNU_FORMAT
"""The one that holds files beyond 8 GiB without members beside them."""

SIGNS = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "mkv"),
)
"""Where a file that has no name of its own begins how, and what its name then ends in."""


@dataclass
class Progress:
    """How much of a source is packed. records: read so far; of: what is packed, so that nothing else goes on here.

    shards: of each its name, samples, and `ends`: the records of the first and last of them, with their digests.
    """

    of: dict[str, Any]
    records: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(shard["samples"] for shard in self.shards)

    def write(self, path: Path) -> None:
        about = {"format": FORMAT, "samples": self.samples, **vars(self)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def pack(
    reader: Reader,
    folder: Path,
    of: Mapping[str, Any],
    *,
    shard_size: int,
    skip_bad: bool,
    advance: Callable[[int], None] = lambda records: None,
) -> Progress:
    """Write a source's samples and the encoded bytes of their media to `folder`, in their order.

    of: what the source is, as plain values. shard_size: bytes at which a tar is closed. advance: called with the
    number of further records that are packed, those of an earlier call first.

    A tar appears when it is whole, and the index last; a call that was interrupted goes on after the last whole tar.
    A record or a medium that cannot be read is a DataError by file and line, or left out with `skip_bad` and noted in
    the index. Raises DataError where `folder` holds another source, or this one as it was before it was changed, or
    another process packs to it, and DiskFullError where there is no room.
    """
    with nullcontext() if (folder / INDEX).exists() else _alone(folder):
        return _pack(reader, folder, of, shard_size, skip_bad, advance)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises DataError where another process is in this block: two would write to one temporary name."""
    path = folder / LOCK
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with its process, also where that is killed
            if not os.fstat(file.fileno()).st_nlink:  # the other one has just removed it, and a third may make it anew
                raise BlockingIOError
        except BlockingIOError:
            raise DataError(f"{folder}: another process packs to it: wait for it, or give another --output") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _pack(
    reader: Reader,
    folder: Path,
    of: Mapping[str, Any],
    shard_size: int,
    skip_bad: bool,
    advance: Callable[[int], None],
) -> Progress:
    done = _progress(folder, {**of, "records": len(reader), "shard_size": shard_size})
    _check_unchanged(reader, folder, done)
    advance(done.records)
    if (folder / INDEX).exists():
        return done
    while done.records < len(reader):
        name = f"{len(done.shards):05d}"
        places = []
        ends: list[tuple[int, Sample]] = []  # the first and the last
        with replacing(folder / f"{name}.tar") as temporary, tarfile.open(temporary, "w", format=TAR) as tar:
            shard = _Shard(tar, done.samples)
            while done.records < len(reader) and tar.offset < shard_size:
                sample = _sample(reader, done, skip_bad)
                if sample is not None:
                    with _placed(reader, done.records):
                        places.append(shard.add(sample))
                    ends = [*ends[:1], (done.records, sample)]
                done.records += 1
                advance(1)
        with replacing(folder / f"{name}.idx") as temporary:
            temporary.write_bytes(b"".join(SPAN.pack(*place) for place in places))
        digests = {str(record): _digest(sample) for record, sample in ends}
        done.shards.append({"name": name, "samples": len(places), "ends": digests})
        done.write(folder / PARTIAL)
    if not done.samples:
        raise DataError(f"{folder}: all {len(reader):,} records would be left out: `composer data check` says why")
    done.write(folder / INDEX)
    (folder / PARTIAL).unlink()
    return done


def _progress(folder: Path, of: dict[str, Any]) -> Progress:
    """What is packed already. Raises DataError where it is something else."""
    for path in (folder / INDEX, folder / PARTIAL):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        if found.get("format") != FORMAT or found.get("of") != of:
            raise DataError(
                f"{path}: holds {json.dumps(found.get('of'))}, asked for {json.dumps(of)}: give another --output, or "
                "remove this folder"
            )
        return Progress(of, found["records"], found["shards"], found["left_out"])
    return Progress(of)


def _check_unchanged(reader: Reader, folder: Path, done: Progress) -> None:
    """Raises DataError where the first or last sample of a packed tar is another in the source by now."""
    for shard in done.shards:
        for record, digest in shard.get("ends", {}).items():  # tars of before have none
            if _digest(reader[int(record)]) != digest:
                raise DataError(
                    f"{reader.location(int(record))}: the source has changed: it is not what "
                    f"{folder / shard['name']}.tar holds of it. Put the old source back, give "
                    "another --output, or remove this folder to pack all of it again"
                )


def _digest(sample: Sample) -> str:
    """What tells a sample from another: what it says, the names of its media, and media that it carries itself."""
    digest = hashlib.sha256(_text(sample, ({"path": media.path} for media in sample.media)))
    for media in sample.media:
        digest.update(media.data or b"")
    return digest.hexdigest()


def _sample(reader: Reader, done: Progress, skip_bad: bool) -> Sample | None:
    """The next sample, its media looked for and its text made before any of it is written; None where it is left out.

    In the middle of a tar there is no way back.
    """
    try:
        sample = reader[done.records]
        for media in sample.media:
            check_media_exists(media)
        _text(sample, ({} for _ in sample.media))
        return sample
    except DataError as error:
        place = reader.location(done.records)
        reason = str(error).removeprefix(f"{place}: ")
        if not skip_bad:
            raise DataError(
                f"{place}: {reason}. Whole shards are kept: mend it and go on with the same command, or leave out what "
                "cannot be read (--skip-bad)"
            ) from None
        done.left_out.append({"record": done.records, "place": place, "reason": reason})
        return None


def _text(sample: Sample, media: Iterable[Mapping[str, Any]]) -> bytes:
    """A sample's record. What JSON has no form for in `meta`, such as a time of parquet, becomes its text."""
    try:
        meta = json.loads(json.dumps(dict(sample.meta), default=str))
        return json.dumps(to_record(replace(sample, meta=meta), media)).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be written as JSON: {error}") from None


@contextmanager
def _placed(reader: Reader, record: int) -> Iterator[None]:
    """Errors of what a record holds as DataError by file and line. A full disk is no fault of the record."""
    try:
        yield
    except (DataError, OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise DataError(f"{reader.location(record)}: {error}") from None


class _Shard:
    """A tar that grows. The same samples give the same bytes."""

    def __init__(self, tar: tarfile.TarFile, first: int) -> None:
        self.tar, self.number = tar, first
        self.packed: dict[Media, dict[str, Any]] = {}
        """Media of files by where they come from: what several samples are about is in a tar once."""

    def add(self, sample: Sample) -> tuple[int, int]:
        """Write a sample; returns where its record lies."""
        media = [self._add_media(media, place) for place, media in enumerate(sample.media)]
        text = _text(sample, media)
        offset, size = self._add(member(self.number), io.BytesIO(text), len(text))
        self.number += 1
        return offset, size

    def _add_media(self, media: Media, place: int) -> dict[str, Any]:
        origin = Media(media.kind, media.path, span=media.span, fps=media.fps, frame_spans=media.frame_spans)
        if media.data is None and origin in self.packed:
            return self.packed[origin]
        if media.fps is None:
            name, span = self._add_file(media, str(place))
            added: dict[str, Any] = {"member": name, "span": span}
        else:
            pictures = [self._add_file(p, f"{place}.{n:05d}") for n, p in enumerate(list_images(media))]
            added = {"members": [name for name, _ in pictures], "pictures": [span for _, span in pictures]}
        if media.data is None:
            self.packed[origin] = added
        return added

    def _add_file(self, media: Media, ending: str) -> tuple[str, tuple[int, int]]:
        with open_media(media) as source, open(source, "rb") if isinstance(source, str) else source as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            name = member(self.number, f"{ending}.{_ending(media, file)}")
            return name, self._add(name, file, size)

    def _add(self, name: str, file: BinaryIO, size: int) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size = size
        self.tar.addfile(info, file)
        padded = -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self.tar.offset - padded, size


def _ending(media: Media, file: BinaryIO) -> str:
    """What a medium's member ends in: as its file does, or by its first bytes where it has no file of its own."""
    own = Path(media.path).suffix.lower().removeprefix(".")
    if media.data is None and media.span is None and own.isascii() and own.isalnum() and len(own) <= 8:
        return own
    head = file.read(16)
    file.seek(0)
    return next((ending for at, sign, ending in SIGNS if head[at : at + len(sign)] == sign), "bin")
