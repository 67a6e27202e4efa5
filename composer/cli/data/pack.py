"""`composer data pack`: a recipe's data as tar files, and the overlay that reads them in the place of the originals."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import yaml

from composer.atomic import check_writable, replacing
from composer.cli.data.recipe import add_recipe, distinct, read_stages
from composer.errors import ConfigError
from composer.recipe.data import SourceConfig
from composer.shards import INDEX, READER

SUMMARY = "write the sources as tar files for a cluster"
DESCRIPTION = (
    "Write each source of a recipe, records and the encoded bytes of their images and videos, as uncompressed tar "
    "files with an index, and DIR/packed.yaml, an overlay with which every command reads them in the place of the "
    "originals. An interrupted command goes on where it was."
)

OVERLAY = "packed.yaml"
UNITS = {"": 1, "B": 1, **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)}}


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the packed sources")
    parser.add_argument("--shard-size", default="1GiB", metavar="SIZE", help="of a tar at most, about (default: 1GiB)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out records that cannot be read, and note them in the index"
    )


def run(args: argparse.Namespace) -> int:
    shard_size = _size(args.shard_size)
    sources = [one.source for one in distinct(read_stages(args))]
    _check(sources)
    check_writable(args.output / OVERLAY)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.data.open_sources import open_source
    from composer.data.tools.pack import pack

    left_out = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        for source in sources:
            reader, folder = open_source(source), args.output / source.name
            task = bar.add_task(source.name, total=len(reader))
            packed = pack(
                reader,
                folder,
                {"reader": source.reader.model_dump(mode="json")},
                shard_size=shard_size,
                skip_bad=args.skip_bad,
                advance=lambda count, task=task: bar.advance(task, count),  # type: ignore[misc]
            )
            left_out += len(packed.left_out)
            said = f"{packed.samples:,} samples in {len(packed.shards):,} tar files"
            if packed.left_out:
                said += f", {len(packed.left_out):,} records left out: {folder / INDEX} says which, and why"
            sys.stdout.write(f"{folder}: {said}\n")
    overlay = _write_overlay(args.output, args.recipe)
    sys.stdout.write(f"composer run {args.recipe} --overlay {overlay}\n")
    return 0


def _check(sources: list[SourceConfig]) -> None:
    """Raises ConfigError for sources that an overlay cannot name, or that cannot have a folder of their own."""
    problems = [
        f"data.sources.{name}: stages read it in {count} ways: pack one stage at a time (--stage), each to its own DIR."
        for name, count in Counter(source.name for source in sources).items()
        if count > 1
    ]
    problems += [
        f"{source.name}: got a file's path, expected a source's name, by which an overlay can replace its reader: put "
        "it into data.sources under a name that a folder can have."
        for source in sources
        if not re.fullmatch(r"\w[\w.-]*", source.name) or source.name.endswith((".json", ".jsonl"))
    ]
    if problems:
        raise ConfigError(problems)


def _write_overlay(output: Path, recipe: Path) -> Path:
    """Name every packed source below `output`, also those that earlier commands packed."""
    folders = [path.parent for path in sorted(output.glob(f"*/{INDEX}"))]
    readers = {folder.name: {"reader": {"name": READER, "path": str(folder.resolve())}} for folder in folders}
    with replacing(output / OVERLAY) as temporary:
        text = f"# Packed sources in the place of the originals: composer run {recipe} --overlay {output / OVERLAY}\n"
        temporary.write_text(
            text + yaml.safe_dump({"data": {"sources": readers}}, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    return output / OVERLAY


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w*)", text)
    if match is None or match[2] not in UNITS or float(match[1]) <= 0:
        raise ConfigError(f"--shard-size: got {text!r}, expected a size such as 1GiB or 256MiB")
    return int(float(match[1]) * UNITS[match[2]])
