"""`composer data pack`: write a recipe's data as tar files, and an overlay that reads them instead of the originals."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from composer.atomic import check_writable
from composer.cli.data.recipe import add_recipe, distinct, read_stages
from composer.errors import ConfigError
from composer.recipe.data import SourceConfig
from composer.shards import INDEX

if TYPE_CHECKING:
    from composer.data.tools import pack as packing

SUMMARY = "write the sources as tar files for a cluster"
DESCRIPTION = (
    "Write each source of a recipe, records and encoded images and videos, as uncompressed tar files with an index; "
    "and DIR/packed.yaml, an overlay with which every command reads them instead of the originals. Run the same "
    "command again to resume."
)

UNITS = {"": 1, "B": 1, **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)}}


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the packed sources")
    parser.add_argument(
        "--shard-size", default="1GiB", metavar="SIZE", help="approximate size of a tar (default: 1GiB)"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="skip records that cannot be read, and list them in the index"
    )


def run(args: argparse.Namespace) -> int:
    shard_size = _size(args.shard_size)
    sources = [one.source for one in distinct(read_stages(args))]
    _check(sources)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from composer.data.tools import pack as packing

    check_writable(args.output / packing.OVERLAY)
    tasks: list[TaskID] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        overlay = packing.pack(
            sources,
            args.output,
            shard_size=shard_size,
            skip_bad=args.skip_bad,
            on_start=lambda name, records: tasks.append(bar.add_task(name, total=records)),
            on_progress=lambda records: bar.advance(tasks[-1], records),
            on_end=lambda name, progress: _print(args.output / name, progress),
        )
    sys.stdout.write(f"composer run {args.recipe} --overlay {overlay}\n")
    return 0


def _print(folder: Path, progress: "packing.Progress") -> None:
    line = f"{folder}: {progress.samples:,} samples in {len(progress.shards):,} tar files"
    if progress.left_out:
        line += f", {len(progress.left_out):,} records skipped: see {folder / INDEX}"
    sys.stdout.write(f"{line}\n")


def _check(sources: list[SourceConfig]) -> None:
    """Raise ConfigError for sources that cannot be named in an overlay, or that share a name."""
    problems = [
        f"data.sources.{name}: stages read it in {count} ways: pack one stage at a time (--stage), each to its own DIR"
        for name, count in Counter(source.name for source in sources).items()
        if count > 1
    ]
    problems += [
        f"{source.name}: got a path, expected the name of a source, whose reader an overlay can replace: add it to "
        "data.sources with a name that is a valid folder name"
        for source in sources
        if not re.fullmatch(r"\w[\w.-]*", source.name) or source.name.endswith((".json", ".jsonl"))
    ]
    if problems:
        raise ConfigError(problems)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w*)", text)
    if match is None or match[2] not in UNITS or float(match[1]) <= 0:
        raise ConfigError(f"--shard-size: got {text!r}, expected a size such as 1GiB or 256MiB")
    return int(float(match[1]) * UNITS[match[2]])
