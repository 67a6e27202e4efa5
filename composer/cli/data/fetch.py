"""`composer data fetch`: a recipe's data from the Hugging Face hub."""

import argparse
import glob
import sys
from pathlib import Path

from composer.atomic import check_writable
from composer.cli.data.recipe import add_recipe, distinct, read_stages
from composer.errors import DataError

SUMMARY = "download the sources from the Hugging Face hub"
DESCRIPTION = (
    "Download each source's repository (`hub`, `revision`) as a whole into its folder below data.root. What was cut "
    "off goes on. What cannot be fetched so is said, with what to do; the exit status is 1 then."
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched to where, and fetch nothing")


def run(args: argparse.Namespace) -> int:
    from composer.data.tools.fetch import RECORD, fetch, known_commit, list_repositories

    found, problems = list_repositories((one.source, one.root) for one in distinct(read_stages(args)))
    for repository in found:
        names = ", ".join(source.name for source in repository.sources)
        commit = known_commit(repository)
        which = repository.revision if commit in (None, repository.revision) else f"{repository.revision} = {commit}"
        sys.stdout.write(f"{repository.name} ({which}) -> {repository.folder}: {names}\n")
        if args.dry_run:
            continue
        check_writable(repository.root / RECORD)
        try:
            commit = fetch(repository)
        except DataError as error:
            problems.append(str(error))
            continue
        if not repository.pinned:
            sys.stdout.write(
                f"  {repository.revision!r} can move: {commit} is there now, and {repository.root / RECORD} keeps it; "
                "write it as `revision` to say so in the recipe\n"
            )
        for source in repository.sources:
            path = getattr(source.reader, "path", None)
            if path is not None and not (Path(path).exists() or glob.glob(path, recursive=True)):
                said = f" ({source.note})" if source.note else ""
                sys.stdout.write(f"  {source.name}: {path} is not among its files, make it of them{said}\n")
    for problem in problems:
        sys.stderr.write(f"composer: {problem}\n")
    return 1 if problems and not args.dry_run else 0
