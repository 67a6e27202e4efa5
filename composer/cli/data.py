"""`composer data`: make data."""

import argparse
import sys
from pathlib import Path

SUMMARY = "Make a data set."


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    make = actions.add_parser(
        "synthesize",
        help="write short videos of moving shapes, and questions about them",
        description="Write short H.264 videos of moving coloured shapes, and LLaVA-style questions about them: "
        "train.jsonl and heldout.jsonl, whose clips show combinations that no training clip shows.",
    )
    make.add_argument("folder", type=Path, metavar="FOLDER", help="where to write it")
    make.add_argument("--train", type=int, default=8000, metavar="N", help="training clips (default: %(default)s)")
    make.add_argument("--heldout", type=int, default=240, metavar="N", help="held-out clips (default: %(default)s)")
    make.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: %(default)s)")
    make.add_argument("--force", action="store_true", help="replace what is in FOLDER")


def run(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.data.synthesize import synthesize
    from composer.errors import ConfigError

    for name in ("train", "heldout"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name}: got {getattr(args, name)}, expected at least 1")
    if args.seed < 0:
        raise ConfigError(f"--seed: got {args.seed}, expected 0 or more")
    columns = (TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("clips", total=args.train + args.heldout)
        written = synthesize(
            args.folder, args.train, args.heldout, args.seed, force=args.force, progress=lambda: bar.advance(task)
        )
    sys.stdout.write(f"{args.folder}: {'written' if written else 'already there'}\n")
    return 0
