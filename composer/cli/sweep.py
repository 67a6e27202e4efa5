"""`composer sweep`: one checkpoint's scores against the share of tokens kept and the order of merged tokens."""

import argparse
import sys
from pathlib import Path

from composer.cli.arguments import RECIPE, add_overlays, recipe_path
from composer.runs.sweep import ORDERS, RATIOS, Sweep, sweep

SUMMARY = "Evaluate a checkpoint over kept ratio and order of merged tokens; draw the curves."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every cell is a `composer evaluate` that is shown as it is started. Run the same command again to resume."
    )
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    parser.add_argument(
        "--keep-ratio",
        nargs="+",
        type=_share,
        default=RATIOS,
        metavar="SHARE",
        help="of tokens kept (default: 0.1 ... 1.0)",
    )
    parser.add_argument(
        "--order", nargs="+", default=ORDERS, metavar="ORDER", help=f"of merged tokens (default: {' '.join(ORDERS)})"
    )
    add_overlays(parser, "the last stage")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="file or run folder (default: the last stage's in the run)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    result = sweep(
        args.recipe,
        keep_ratios=args.keep_ratio,
        orders=args.order,
        overlays=args.overlay,
        checkpoint=args.checkpoint,
        output=args.output,
    )
    _print(result)
    return result.status


def _print(result: Sweep) -> None:
    """Print a table for each benchmark, and the files."""
    from composer.evaluation.sweep import sweep_table
    from composer.figures.tables import print_table

    for name, points in result.points.items():
        sys.stdout.write(f"\n{name}, {points[0].task}: score (share of the best) in percent\n")
        print_table(sweep_table(points))
    sys.stdout.write("".join(f"{path}\n" for path in result.paths))


def _share(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a share above 0 and up to 1, such as 0.1")
    return ratio
