"""Recipe of a `composer data` command: its stages and their sources. Does not import torch."""

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass

from composer.cli.arguments import RECIPE, add_overlays, recipe_path
from composer.errors import ConfigError
from composer.recipe.data import SPLITS, DataConfig, SourceConfig, Split
from composer.recipe.explain import nearest
from composer.recipe.overrides import from_environment
from composer.recipe.resolve import resolve_data
from composer.recipe.stages import stages_of
from composer.recipe.yamlfile import Located, load_recipes

LEARNED: tuple[Split, ...] = ("train", "validation")
"""Splits whose sources must have answers."""


@dataclass(frozen=True)
class StageData:
    """A stage's files and `data:` section. sources: the selected ones, by split."""

    name: str
    files: tuple[Located, ...]
    data: DataConfig
    sources: dict[Split, list[SourceConfig]]


@dataclass(frozen=True)
class Named:
    """A source of a recipe. learned: whether a stage trains or validates on it. root: `data.root` of its stage."""

    source: SourceConfig
    learned: bool
    root: str | None


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select an action's sources."""
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    add_overlays(parser)
    parser.add_argument("--stage", nargs="+", default=[], metavar="NAME", help="only these stages")
    parser.add_argument("--source", nargs="+", default=[], metavar="NAME", help="only these sources")


def read_stages(args: argparse.Namespace) -> list[StageData]:
    """Read the selected stages and sources. Raises ConfigError if a name does not exist."""
    stages = stages_of(args.recipe)
    _check_names("--stage", args.stage, [stage.name for stage in stages])
    environment = from_environment(os.environ)
    chosen = []
    for stage in (stage for stage in stages if not args.stage or stage.name in args.stage):
        files = load_recipes([stage.path, *args.overlay])
        data = resolve_data(files, environment)
        chosen.append(StageData(stage.name, tuple(files), data, {split: data.sources_of(split) for split in SPLITS}))
    names = [source.name for stage in chosen for sources in stage.sources.values() for source in sources]
    if not names:
        raise ConfigError(f"{args.recipe}: data: no stage names a source, expected data.train or another of {SPLITS}")
    _check_names("--source", args.source, names)
    if args.source:
        for one in chosen:
            for split, sources in one.sources.items():
                one.sources[split] = [source for source in sources if source.name in args.source]
    return chosen


def distinct(stages: Iterable[StageData]) -> list[Named]:
    """List each source of the stages once, in order. A name occurs twice if stages read it differently."""
    named: dict[str, Named] = {}
    for stage in stages:
        for split, sources in stage.sources.items():
            for source in sources:
                same = source.name + source.reader.model_dump_json()
                before = named.get(same, Named(source, False, stage.data.root))
                named[same] = Named(before.source, before.learned or split in LEARNED, before.root)
    return list(named.values())


def _check_names(flag: str, values: Iterable[str], names: Iterable[str]) -> None:
    names = list(dict.fromkeys(names))
    problems = [
        f"{flag}: got {name!r}, expected one of {', '.join(names)}{nearest(name, names)}"
        for name in values
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)
