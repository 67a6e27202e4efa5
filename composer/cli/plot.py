"""`composer plot`: a run's curves."""

import argparse
import sys
from pathlib import Path

from composer.atomic import check_writable

SUMMARY = "Draw a run's loss and accuracy curves."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a run of `composer fit`")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="image file (default: DIR/curves.png)")


def run(args: argparse.Namespace) -> int:
    from composer.figures.curves import draw_curves

    output = args.output or args.run / "curves.png"
    check_writable(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(args.run, output)
    sys.stdout.write(f"{output}\n")
    return 0
