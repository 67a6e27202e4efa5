"""`composer data synthesize`: write a synthetic data set."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from composer.atomic import check_writable

if TYPE_CHECKING:
    from composer.data.tools.shapes import Split

SUMMARY = "write short videos of moving shapes, and questions about them"
DESCRIPTION = (
    "Write short H.264 videos of moving colored shapes, stills of such videos, and LLaVA-style questions about them: "
    "train.jsonl, stills.jsonl, and heldout.jsonl, whose videos show combinations that the others do not contain."
)

DEFAULTS: "dict[Split, tuple[int, str]]" = {
    "train": (8000, "training videos"),
    "stills": (48000, "training stills"),
    "heldout": (240, "held-out videos"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder")
    for split, (count, what) in DEFAULTS.items():
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"{what} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the content of FOLDER")


def run(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.data.tools.synthesize import synthesize
    from composer.errors import ConfigError

    counts = {split: getattr(args, split) for split in DEFAULTS}
    for split, count in counts.items():
        if count < 1:
            raise ConfigError(f"--{split}: got {count}, expected at least 1")
    if args.seed < 0:
        raise ConfigError(f"--seed: got {args.seed}, expected 0 or more")
    check_writable(args.folder / "train.jsonl")
    columns = (TextColumn("clips and stills"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("", total=sum(counts.values()))
        written = synthesize(args.folder, counts, args.seed, force=args.force, progress=lambda: bar.advance(task))
    sys.stdout.write(f"{args.folder}: {'written' if written else 'exists already'}\n")
    return 0
