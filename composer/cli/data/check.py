"""`composer data check`: find missing or unreadable data of a recipe, by file and line."""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from composer.cli.data.recipe import Named, add_recipe, distinct, read_stages
from composer.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from composer.data.tools.check import CheckResult, Problem

SUMMARY = "read every record, and check that every image and video exists"
DESCRIPTION = (
    "Open every source of a recipe, read every record, and check that every image and video exists. Reports all "
    "problems by file and line; the exit status is 1 if there are any."
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--decode", action="store_true", help="decode each image, and the first frame of each video")
    parser.add_argument(
        "--num-workers", type=int, default=os.cpu_count(), metavar="N", help="processes (default: %(default)s)"
    )
    parser.add_argument("--show", type=int, default=5, metavar="N", help="problems to show per source (default: 5)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all problems to FILE, as JSON Lines")


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
    shown: Counter[int] = Counter()

    def show(source: int, problem: "Problem") -> None:
        shown[source] += 1
        if shown[source] <= args.show:
            console.print(f"{problem.source}: {problem}", markup=False)
        elif shown[source] == args.show + 1:
            console.print(f"{problem.source}: more problems are not shown; --report FILE writes all", markup=False)

    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        result = check(
            [(one.source, one.learned) for one in named],
            decode=args.decode,
            num_workers=args.num_workers,
            report=args.report,
            on_problem=show,
            on_start=lambda records: bar.update(task, total=records),
            on_progress=lambda records: bar.advance(task, records),
        )
    if args.report is not None:
        sys.stderr.write(f"composer: all problems are in {args.report}.\n")
    _summarize(console, named, result)
    return 1 if result.problems else 0


def _summarize(console: "Console", named: list[Named], result: "CheckResult") -> None:
    from rich.table import Table

    from composer.figures.tables import print_table

    table = Table("source", box=None, padding=(0, 2), header_style="bold")
    for column in ("records", "expected", "problems"):
        table.add_column(column, justify="right")
    for index, one in enumerate(named):
        expected = one.source.samples
        size = f"{result.records[index]:,}" if index in result.records else "unreadable"
        table.add_row(one.source.name, size, "" if expected is None else f"{expected:,}", f"{result.problems[index]:,}")
    print_table(table, console)
    total, records = result.problems.total(), sum(result.records.values())
    console.print(f"{total:,} problems in {records:,} records" if total else "No problems found.")
