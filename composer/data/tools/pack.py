"""Packing of sources into tar files; see `composer.shards` for the format. Does not import torch."""

import fcntl
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from composer.atomic import FULL, replacing, writing
from composer.data.open_sources import open_source
from composer.data.tools.faults import check_media_exists
from composer.data.tools.shard_writer import TAR, ShardWriter, encode_record
from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.data import SourceConfig
from composer.sample import Sample
from composer.shards import FORMAT, INDEX, READER, SPAN, Shard

OVERLAY = "packed.yaml"

PARTIAL = "partial.json"
"""Index of an incomplete packed source. Renamed to `INDEX` at the end."""

LOCK = ".lock"


@dataclass
class Progress:
    """Packed part of a source, as stored in its index.

    Attributes:
        of: Description of the source and the options. A different source cannot be packed into the same folder.
        records: Number of records read so far.
        shards: Name and number of samples of each tar, and `ends`: digests of its first and last sample, by record.
        left_out: Skipped records, each with its number, place and reason.
    """

    of: dict[str, Any]
    records: int = 0
    shards: list[Shard] = field(default_factory=list)
    left_out: list[dict[str, object]] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """Number of packed samples."""
        return sum(shard["samples"] for shard in self.shards)

    def write(self, path: Path) -> None:
        """Write the index atomically."""
        about = {"format": FORMAT, "samples": self.samples, **vars(self)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def pack(
    sources: Sequence[SourceConfig],
    output: Path,
    *,
    shard_size: int = 2**30,
    skip_bad: bool = False,
    on_start: Callable[[str, int], None] = lambda source, records: None,
    on_progress: Callable[[int], None] = lambda records: None,
    on_end: Callable[[str, Progress], None] = lambda source, progress: None,
) -> Path:
    """Pack sources into tar files, and write an overlay that reads them. Resumes an interrupted call.

    Args:
        sources: Sources of a recipe, with different names.
        output: Folder of the packed sources, one subfolder each.
        shard_size: Approximate size of a tar file in bytes.
        skip_bad: Whether to skip records that cannot be read, and note them in the index.
        on_start: Called with each source's name and number of records.
        on_progress: Called with the number of records packed since the last call.
        on_end: Called with each source's name and its packed content.

    Returns:
        Path of the overlay. It lists all packed sources in `output`, including those of earlier calls.

    Raises:
        DataError: If a record cannot be read, or the folder contains a different or changed source.
        DiskFullError: If the disk is full.
    """
    for source in sources:
        reader = open_source(source)
        on_start(source.name, len(reader))
        progress = pack_source(
            reader,
            output / source.name,
            {"reader": source.reader.model_dump(mode="json")},
            shard_size=shard_size,
            skip_bad=skip_bad,
            advance=on_progress,
        )
        on_end(source.name, progress)
    folders = [path.parent for path in sorted(output.glob(f"*/{INDEX}"))]
    readers = {folder.name: {"reader": {"name": READER, "path": str(folder.resolve())}} for folder in folders}
    with replacing(output / OVERLAY) as temporary:
        text = yaml.safe_dump({"data": {"sources": readers}}, sort_keys=False, allow_unicode=True)
        temporary.write_text(f"# Packed sources: composer run RECIPE --overlay {output / OVERLAY}\n{text}", "utf-8")
    return output / OVERLAY


def pack_source(
    reader: Reader,
    folder: Path,
    of: Mapping[str, object],
    *,
    shard_size: int,
    skip_bad: bool,
    advance: Callable[[int], None] = lambda records: None,
) -> Progress:
    """Pack a source's samples and the encoded bytes of their media, in order.

    A tar file is written atomically, and the index last. A call that was interrupted resumes after the last complete
    tar.

    Args:
        reader: Reader of the source.
        folder: Folder of the packed source.
        of: Description of the source, as JSON values.
        shard_size: Size in bytes at which a tar is closed.
        skip_bad: Whether to skip records that cannot be read, and note them in the index.
        advance: Called with the number of records packed since the last call; first with those of earlier calls.

    Returns:
        The packed source.

    Raises:
        DataError: If a record or its media cannot be read and `skip_bad` is false; if `folder` contains a different
            source or an earlier version of it; or if another process packs to it.
        DiskFullError: If the disk is full.
    """
    with nullcontext() if (folder / INDEX).exists() else _lock(folder):
        done = _read_progress(folder, {**of, "records": len(reader), "shard_size": shard_size})
        _check_unchanged(reader, folder, done)
        advance(done.records)
        if (folder / INDEX).exists():
            return done
        while done.records < len(reader):
            _pack_shard(reader, folder, done, skip_bad, advance)
            done.write(folder / PARTIAL)
        if not done.samples:
            raise DataError(f"{folder}: all {len(reader):,} records would be skipped: run `composer data check`")
        done.write(folder / INDEX)
        (folder / PARTIAL).unlink()
        return done


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Raise DataError if another process is in this block: both would write to the same temporary file."""
    path = folder / LOCK
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the process, also if it is killed
            if not os.fstat(file.fileno()).st_nlink:  # just deleted by its owner; a third process may create it again
                raise BlockingIOError
        except BlockingIOError:
            raise DataError(
                f"{folder}: another process packs to this folder: wait for it, or choose another --output"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _pack_shard(reader: Reader, folder: Path, done: Progress, skip_bad: bool, advance: Callable[[int], None]) -> None:
    """Pack the next tar and add it to `done`."""
    name = f"{len(done.shards):05d}"
    spans = []
    ends: list[tuple[int, Sample]] = []  # the first and the last
    with replacing(folder / f"{name}.tar") as temporary, tarfile.open(temporary, "w", format=TAR) as tar:
        shard = ShardWriter(tar, done.samples)
        while done.records < len(reader) and tar.offset < done.of["shard_size"]:
            sample = _read_sample(reader, done, skip_bad)
            if sample is not None:
                with _locate_errors(reader, done.records):
                    spans.append(shard.add(sample))
                ends = [*ends[:1], (done.records, sample)]
            done.records += 1
            advance(1)
    with replacing(folder / f"{name}.idx") as temporary:
        temporary.write_bytes(b"".join(SPAN.pack(*span) for span in spans))
    digests = {str(record): _digest(sample) for record, sample in ends}
    done.shards.append({"name": name, "samples": len(spans), "ends": digests})


def _read_progress(folder: Path, of: dict[str, Any]) -> Progress:
    """Read what is packed already. Raises DataError if it belongs to a different source."""
    for path in (folder / INDEX, folder / PARTIAL):
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        if index.get("format") != FORMAT or index.get("of") != of:
            raise DataError(
                f"{path}: contains {json.dumps(index.get('of'))}, expected {json.dumps(of)}: choose another --output, "
                "or delete this folder"
            )
        return Progress(of, index["records"], index["shards"], index["left_out"])
    return Progress(of)


def _check_unchanged(reader: Reader, folder: Path, done: Progress) -> None:
    """Raise DataError if the first or last sample of a packed tar has changed in the source."""
    for shard in done.shards:
        for record, digest in shard.get("ends", {}).items():  # older tars have none
            if _digest(reader[int(record)]) != digest:
                raise DataError(
                    f"{reader.location(int(record))}: the source has changed: it differs from "
                    f"{folder / shard['name']}.tar. Restore the source, choose another --output, or delete this folder "
                    "to pack the source again"
                )


def _digest(sample: Sample) -> str:
    """Hash of a sample's text, its media paths, and media stored in its record."""
    digest = hashlib.sha256(encode_record(sample, ({"path": media.path} for media in sample.media)))
    for media in sample.media:
        digest.update(media.data or b"")
    return digest.hexdigest()


def _read_sample(reader: Reader, done: Progress, skip_bad: bool) -> Sample | None:
    """Read the next sample; None if it is skipped.

    Checks its media and its record before any of it is written, because a tar cannot be rewound.
    """
    try:
        sample = reader[done.records]
        for media in sample.media:
            check_media_exists(media)
        encode_record(sample, ({} for _ in sample.media))
        return sample
    except DataError as error:
        place = reader.location(done.records)
        reason = str(error).removeprefix(f"{place}: ")
        if not skip_bad:
            raise DataError(
                f"{place}: {reason}. Complete tar files are kept: fix the record and run the same command again to "
                "resume, or skip records that cannot be read (--skip-bad)"
            ) from None
        done.left_out.append({"record": done.records, "place": place, "reason": reason})
        return None


@contextmanager
def _locate_errors(reader: Reader, record: int) -> Iterator[None]:
    """Convert errors about a record to DataError with file and line, except those of a full disk."""
    try:
        yield
    except (DataError, OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise DataError(f"{reader.location(record)}: {error}") from None
