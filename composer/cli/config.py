"""`composer config`: check, show, explain and compare recipes without loading torch; write their JSON Schema."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from composer.atomic import replacing
from composer.cli.arguments import RECIPE, RecipeParser, recipe_path
from composer.errors import ConfigError
from composer.recipe.explain import differing
from composer.recipe.schema import recipe_schema
from composer.recipe.stages import ResolvedStage, resolve_stages
from composer.recipe.yamlfile import Located

SUMMARY = "Check, show, explain or compare recipes; write their JSON Schema."

Parser = RecipeParser

FLAGS = "Flags such as --data.frames=16 and variables such as COMPOSER_DATA__FRAMES override what the files say."


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=argparse.ArgumentParser
    )
    for name, text in (
        ("check", "validate every section of every stage; print `ok`, or every error with its file and line"),
        ("show", "print the complete recipe, defaults included, as YAML"),
        ("explain", "print every value with its origin: file and line, flag, variable or default"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=FLAGS)
        action.add_argument("files", nargs="+", type=recipe_path, metavar="RECIPE", help=f"{RECIPE}; then overlays")
    diff = actions.add_parser("diff", help="print the values in which two recipes differ", epilog=FLAGS)
    diff.add_argument("files", nargs=2, type=recipe_path, metavar="RECIPE", help=RECIPE)
    schema = actions.add_parser("schema", help="write the JSON Schema of a recipe with every installed component")
    schema.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file")


def run(args: argparse.Namespace) -> int:
    if args.action == "schema":
        return _schema(args)
    if args.action == "diff":
        before, after = (resolve_stages(path, **args.layers) for path in args.files)
        sys.stdout.writelines(_differences(before, after))
        return 0
    stages = resolve_stages(args.files[0], args.files[1:], **args.layers)
    for note in dict.fromkeys(stage.recipe.note for stage in stages if stage.recipe.note):
        sys.stderr.write(f"composer: {note}\n")
    if args.action == "check":
        sys.stdout.write(f"{' '.join(map(str, args.files))}: ok\n")
    for stage in stages if args.action != "check" else ():
        if len(stages) > 1:
            sys.stdout.write(f"# {stage.name}\n")
        sys.stdout.write(_shown(stage) if args.action == "show" else "".join(_explained(stage)))
    return 0


def _schema(args: argparse.Namespace) -> int:
    if args.flags:
        raise ConfigError(f"{args.flags[0][0]}: a schema depends on no recipe and takes no such flag")
    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _shown(stage: ResolvedStage) -> str:
    return yaml.safe_dump(stage.recipe.plain(), sort_keys=False, allow_unicode=True)


def _explained(stage: ResolvedStage) -> Iterator[str]:
    """A line for each value: `KEY: VALUE  (ORIGIN)`."""
    for key, value, origin in _with_origins(stage.recipe.plain(), stage.recipe.stated, ""):
        yield f"{key}: {json.dumps(value, ensure_ascii=False)}  ({origin})\n"


def _with_origins(value: object, stated: Located | None, key: str) -> Iterator[tuple[str, object, str]]:
    """The values below `key`. stated: what the layers say there, None if nothing."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    nested = any(isinstance(item, dict | list) for _, item in items)
    if not items or (isinstance(value, list) and not nested):
        yield key, value, "default" if stated is None else str(stated.origin)
        return
    for name, item in items:
        yield from _with_origins(item, _below(stated, name), f"{key}.{name}".lstrip("."))


def _below(stated: Located | None, name: str | int) -> Located | None:
    """What the layers say of one key of a value; all of it if they say it in a shorter form, such as a bare name."""
    if stated is None or not isinstance(stated.value, dict | list):
        return stated
    if isinstance(stated.value, list) and isinstance(name, int):
        return stated.value[name] if name < len(stated.value) else None
    return stated.value.get(str(name)) if isinstance(stated.value, dict) else stated


def _differences(before: Sequence[ResolvedStage], after: Sequence[ResolvedStage]) -> Iterator[str]:
    """A line for each value that differs, stage by stage: `KEY: BEFORE -> AFTER`."""
    if len(before) != len(after):
        names = [", ".join(stage.name for stage in stages) for stages in (before, after)]
        raise ConfigError(f"got stages {names[0]} and {names[1]}, expected as many in both: compare two of their files")
    for one, other in zip(before, after, strict=True):
        prefix = f"{one.name}: " if len(before) > 1 else ""
        for key, old, new in differing(one.recipe.plain(), other.recipe.plain(), ""):
            yield f"{prefix}{key.lstrip('.')}: {json.dumps(old)} -> {json.dumps(new)}\n"
