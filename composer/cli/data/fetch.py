"""`composer data fetch`: download a recipe's data from the Hugging Face hub."""

import argparse
import sys

from composer.cli.data.recipe import add_recipe, distinct, read_stages

SUMMARY = "download the sources from the Hugging Face hub"
DESCRIPTION = (
    "Download each source's repository (`hub`, `revision`) completely, to its folder in data.root. Run the same "
    "command again to resume. Lists what cannot be downloaded, with what to do; the exit status is 1 in that case."
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be downloaded, and download nothing")


def run(args: argparse.Namespace) -> int:
    from composer.data.tools.fetch import fetch

    sources = ((one.source, one.root) for one in distinct(read_stages(args)))
    problems = fetch(sources, dry_run=args.dry_run, log=lambda line: sys.stdout.write(f"{line}\n"))
    for problem in problems:
        sys.stderr.write(f"composer: {problem}\n")
    return 1 if problems and not args.dry_run else 0
