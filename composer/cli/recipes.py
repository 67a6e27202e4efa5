"""`composer recipes`: the recipes that come with composer."""

import argparse
import shutil
import sys
from pathlib import Path

from composer.atomic import writing
from composer.errors import ConfigError
from composer.recipe.shipped import PREFIX, locate, shipped_recipes
from composer.recipe.stages import stages_of
from composer.recipe.yamlfile import load_yaml

SUMMARY = "List the recipes that come with composer, or copy one."


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list them; each can be used as composer:NAME")
    copy = actions.add_parser("copy", help="copy one, with the files that it includes, to change it")
    copy.add_argument("name", metavar="NAME", help="as `composer recipes list` shows it")
    copy.add_argument("folder", nargs="?", type=Path, default=Path("recipes"), metavar="DIR", help="(default: recipes)")


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        recipes = shipped_recipes()
        width = max(map(len, recipes)) + len(PREFIX)
        sys.stdout.writelines(f"{PREFIX + name:<{width}}  {_about(path)}\n" for name, path in recipes.items())
        return 0
    source = locate(PREFIX + args.name.removeprefix(PREFIX))
    targets = {path: args.folder / path.name for path in ([source] if source.is_dir() else _with_includes(source))}
    if there := [str(target) for target in targets.values() if target.exists()]:
        raise ConfigError(f"{', '.join(there)}: already there; remove it, or name another DIR")
    with writing(args.folder):
        args.folder.mkdir(parents=True, exist_ok=True)
        for path, target in targets.items():
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(path, target)
    sys.stdout.writelines(f"{target}\n" for target in targets.values())
    return 0


def _about(path: Path) -> str:
    """The first line of a recipe's header, `# What ...`; of a folder that of its first stage."""
    stages = stages_of(path)
    lines = stages[0].path.read_text("utf-8").splitlines()
    first = next((line for line in lines if line.startswith("# What")), "").removeprefix("# What").strip()
    return f"{len(stages)} stages. {first}" if path.is_dir() else first


def _with_includes(path: Path) -> list[Path]:
    """A file and the files that it includes."""
    include = load_yaml(path).plain().get("include") or []
    names = [include] if isinstance(include, str) else include
    return [path, *(below for name in names for below in _with_includes(locate(name, path.parent)))]
