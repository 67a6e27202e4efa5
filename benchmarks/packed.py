"""Packed sources against loose files: samples a second, in random order, bytes read and nothing decoded.

    python -m benchmarks.packed --folder /data/scratch

`cold` asks the system to forget the files' contents first (posix_fadvise; the names stay known). Writes to the folder.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from composer.data.opened import opened
from composer.data.pack import pack
from composer.data.sampler import permutation
from composer.reader import Reader
from composer_plugins.readers.llava import LlavaReader
from composer_plugins.readers.packed import PackedReader


def write_loose(folder: Path, files: int, size: int) -> LlavaReader:
    """So many records, each about a file of `size` bytes of its own, a thousand files a folder."""
    noise = np.random.default_rng(0).bytes(size)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A picture. " * 20}]
    with (folder / "data.jsonl").open("w") as records:
        for number in range(files):
            path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(noise)
            about = {"id": str(number), "image": str(path.relative_to(folder)), "conversations": turns}
            records.write(json.dumps(about) + "\n")
    return LlavaReader(folder / "data.jsonl")


def forget(folder: Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def speed(reader: Reader, samples: int) -> float:
    """Samples a second: each record is parsed, and the bytes of its media are read."""
    order = permutation(0, 0, len(reader))[:samples]
    start = time.perf_counter()
    for index in order:
        for media in reader[int(index)].media:
            with opened(media) as source:
                if isinstance(source, str):
                    Path(source).read_bytes()
                else:
                    source.read()
    return samples / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50_000, help="bytes of a file")
    parser.add_argument("--samples", type=int, default=5_000, help="samples that are read")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        loose, packed = Path(temporary, "loose"), Path(temporary, "packed")
        loose.mkdir()
        reader = write_loose(loose, options.files, options.size)
        start = time.perf_counter()
        pack(reader, packed, {}, shard_size=2**28, skip_bad=False)
        taken = time.perf_counter() - start
        print(
            f"packing: {options.files / taken:,.0f} samples/s, {options.files * options.size / taken / 1e6:,.0f} MB/s"
        )
        for name, one, folder in (("loose", reader, loose), ("packed", PackedReader(packed), packed)):
            forget(folder)
            print(f"{name}, cold: {speed(one, options.samples):,.0f} samples/s")
            print(f"{name}, warm: {speed(one, options.samples):,.0f} samples/s")


if __name__ == "__main__":
    main()
