"""Packed sources compared with loose files and parquet: samples per second in random order, without decoding.

    python -m benchmarks.packed --folder /data/scratch

`cold` drops the files' contents from the page cache first (posix_fadvise; metadata stays cached). Writes to the folder.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from composer.data.media.opened import open_media
from composer.data.sampler import permutation
from composer.data.tools.pack import pack_source
from composer.reader import Reader
from composer_plugins.readers.llava import LlavaReader
from composer_plugins.readers.packed import PackedReader


def write_loose(folder: Path, files: int, size: int) -> LlavaReader:
    """Write records with one file of `size` bytes each, a thousand files per folder."""
    noise = np.random.default_rng(0).bytes(size)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "An image. " * 20}]
    with (folder / "data.jsonl").open("w") as records:
        for number in range(files):
            path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(noise)
            record = {"id": str(number), "image": str(path.relative_to(folder)), "conversations": turns}
            records.write(json.dumps(record) + "\n")
    return LlavaReader(folder / "data.jsonl")


def write_parquet(folder: Path, files: int, size: int) -> LlavaReader:
    """Write the same records with embedded bytes, a thousand rows per row group, like data sets on the hub."""
    noise = np.random.default_rng(0).bytes(size)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "An image. " * 20}]
    writer = None
    for first in range(0, files, 1000):
        numbers = range(first, min(first + 1000, files))
        rows = [{"id": str(n), "image": {"bytes": noise, "path": f"{n}.jpg"}, "conversations": turns} for n in numbers]
        table = pyarrow.Table.from_pylist(rows)
        writer = writer or parquet.ParquetWriter(folder / "data.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return LlavaReader(folder / "data.parquet")


def drop_cache(folder: Path) -> None:
    """Drop the contents of a folder from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def speed(reader: Reader, samples: int) -> float:
    """Measure samples per second, parsing records and reading the bytes of their media."""
    order = permutation(0, 0, len(reader))[:samples]
    start = time.perf_counter()
    for index in order:
        for media in reader[int(index)].media:
            with open_media(media) as source:
                if isinstance(source, str):
                    Path(source).read_bytes()
                else:
                    source.read()
    return samples / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder (default: that of the system)")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50_000, help="bytes per file")
    parser.add_argument("--samples", type=int, default=5_000, help="number of samples to read")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folders = {name: Path(temporary, name) for name in ("loose", "parquet", "packed")}
        for name in ("loose", "parquet"):
            folders[name].mkdir()
        loose = write_loose(folders["loose"], options.files, options.size)
        start = time.perf_counter()
        pack_source(loose, folders["packed"], {}, shard_size=2**28, skip_bad=False)
        taken = time.perf_counter() - start
        print(
            f"packing: {options.files / taken:,.0f} samples/s, {options.files * options.size / taken / 1e6:,.0f} MB/s"
        )
        rows = write_parquet(folders["parquet"], options.files, options.size)
        readers: dict[str, tuple[Reader, int]] = {
            "loose": (loose, options.samples),
            "packed": (PackedReader(folders["packed"]), options.samples),
            "parquet": (rows, max(options.samples // 50, 1)),
        }
        for name, (reader, samples) in readers.items():
            drop_cache(folders[name])
            print(f"{name}, cold: {speed(reader, samples):,.0f} samples/s")
            print(f"{name}, warm: {speed(reader, samples):,.0f} samples/s")


if __name__ == "__main__":
    main()
