"""`composer config`: check recipes without loading torch, and write their JSON Schema for editors."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from composer.atomic import replacing
from composer.errors import ConfigError
from composer.recipe.explain import validated
from composer.recipe.overrides import from_environment, from_flags
from composer.recipe.resolve import Layer, resolve
from composer.recipe.schema import recipe_schema
from composer.recipe.sources import check_sources
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import load_recipes

SUMMARY = "Check recipes, or write their JSON Schema."


class _Parser(argparse.ArgumentParser):
    """Puts `--model.*` flags aside as `flags`: argparse cannot know their names."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags, rest = from_flags(args, "model")
        namespace, unknown = super().parse_known_args(rest, namespace)
        namespace.flags = flags
        return namespace, unknown


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    check = actions.add_parser(
        "check",
        help="resolve recipes and print their model, or every error",
        usage="composer config check FILE [FILE ...] [--model.SLOT=NAME] [--model.SLOT.OPTION=VALUE]",
        epilog="Of `data:` the sources are checked; its other options and `trainer:` by the command that uses them.",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recipes, the last one strongest")
    schema = actions.add_parser("schema", help="write the JSON Schema of a recipe with every installed component")
    schema.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file")


def run(args: argparse.Namespace) -> int:
    if args.action == "check":
        return _check(args.files, args.flags)
    if args.flags:
        raise ConfigError(f"{args.flags[0].origin}: a schema depends on no recipe and takes no such flag.")
    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _check(files: Sequence[Path], flags: Layer) -> int:
    resolved = resolve(load_recipes(files), flags=flags, environment=from_environment(os.environ))
    if "training" in resolved.sections.value:
        validated(TrainingConfig, "training", resolved.sections.value["training"])
    check_sources(resolved.sections.at(["data"]))
    sys.stdout.write(yaml.safe_dump({"model": resolved.model.model_dump(mode="json")}, sort_keys=False))
    if resolved.note:
        sys.stderr.write(f"composer: {resolved.note}\n")
    return 0
