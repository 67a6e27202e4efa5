"""`composer data check`: what is missing or unreadable in a recipe's data, by file and line."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from composer.cli.data.recipe import Named, add_recipe, distinct, read_stages
from composer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console

    from composer.data.tools.check import CheckedSource, Problem

SUMMARY = "read every record, and look for every image and video"
DESCRIPTION = (
    "Open every source of a recipe, read every record, and look for every image and video. Everything that is wrong "
    "is said by file and line; the exit status is 1 where something is."
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--decode", action="store_true", help="decode each image, and the first frame of each video")
    parser.add_argument(
        "--num-workers", type=int, default=os.cpu_count(), metavar="N", help="processes (default: %(default)s)"
    )
    parser.add_argument("--show", type=int, default=5, metavar="N", help="problems shown a source (default: 5)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all problems there, as JSON Lines")


def run(args: argparse.Namespace) -> int:
    if problems := [
        f"--{name}: got {value}, expected 0 or more"
        for name, value in (("num-workers", args.num_workers), ("show", args.show))
        if value < 0
    ]:
        raise ConfigError(problems)
    named = distinct(read_stages(args))
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.data.tools.check import check

    console = Console(soft_wrap=True, highlight=False)
    wrong: Counter[int] = Counter()
    """Problems of each of `named`, by its place there: stages may read one name in several ways."""

    def note(place: int, problem: "Problem", report: TextIO | None) -> None:
        wrong[place] += 1
        if report is not None:
            report.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")
        if wrong[place] <= args.show:
            console.print(f"{problem.source}: {problem}", markup=False)
        elif wrong[place] == args.show + 1:
            console.print(f"{problem.source}: and more; --report FILE keeps all", markup=False)

    with _written(args.report) as report:
        sources, closed = _open(named)
        for place, problem in closed:
            note(place, problem, report)
        columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=sum(len(source.reader) for source in sources.values()))
            places = list(sources)
            for found in check(list(sources.values()), decode=args.decode, num_workers=args.num_workers):
                bar.advance(task, found.records)
                for problem in found.problems:
                    note(places[found.source], problem, report)
    _summarize(console, named, {place: len(source.reader) for place, source in sources.items()}, wrong)
    return 1 if wrong else 0


def _open(named: list[Named]) -> tuple[dict[int, "CheckedSource"], list[tuple[int, "Problem"]]]:
    """The sources that can be opened, and what is wrong with sources as a whole, each by its place in `named`."""
    from composer.data.open_sources import check_size, open_source
    from composer.data.tools.check import CheckedSource, Problem

    sources, problems = {}, []
    for place, one in enumerate(named):
        try:
            reader = open_source(one.source)
            sources[place] = CheckedSource(one.source.name, reader, one.learned)
            check_size(one.source, len(reader))
        except DataError as error:
            problems.append((place, Problem(one.source.name, None, f"data.sources.{one.source.name}", str(error))))
    return sources, problems


@contextmanager
def _written(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    from composer.atomic import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file
    sys.stderr.write(f"composer: all problems are in {path}.\n")


def _summarize(console: "Console", named: list[Named], sizes: dict[int, int], wrong: Counter[int]) -> None:
    from rich.table import Table

    table = Table("source", box=None, padding=(0, 2), header_style="bold")
    for column in ("records", "expected", "problems"):
        table.add_column(column, justify="right")
    for place, one in enumerate(named):
        expected = one.source.samples
        size = f"{sizes[place]:,}" if place in sizes else "unreadable"
        table.add_row(one.source.name, size, "" if expected is None else f"{expected:,}", f"{wrong[place]:,}")
    console.print(table)
    total = wrong.total()
    console.print(f"{total:,} problems in {sum(sizes.values()):,} records" if total else "Nothing is wrong.")
