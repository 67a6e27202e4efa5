"""`composer run`: a recipe's stages one after the other, then its benchmarks."""

import argparse
import os
from pathlib import Path

from composer.cli.arguments import RECIPE, RecipeParser, add_overlays, recipe_path
from composer.runs import run as runs

SUMMARY = "Train a recipe's stages one after the other, then evaluate. Resumes where it stopped."

Parser = RecipeParser


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every stage gets the flags --model.*, --training.*, --data.*, --trainer.* and --seed_everything of "
        "`composer fit`."
    )
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stage", metavar="NAME", help="only this stage; the one before must be finished")
    which.add_argument(
        "--from",
        dest="start",
        metavar="NAME",
        help="rerun from this stage; old folders are renamed. `evaluation`: only the benchmarks",
    )
    add_overlays(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    return runs.run(
        args.recipe,
        stage=args.stage,
        start=args.start,
        overlays=args.overlay,
        flags=args.flags,
        environment=os.environ,
        output=args.output,
    )
