"""The recipe that `composer data` works on: its stages, and the sources that they name. No torch here."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from composer.errors import ConfigError
from composer.recipe.explain import nearest
from composer.recipe.resolve import other_sections
from composer.recipe.sources import STAGES, SourceConfig, check_sources, read_sources
from composer.recipe.stages import stages_of
from composer.recipe.yamlfile import Located, Origin, load_recipes

LEARNED = ("train", "validation")
"""Where `data:` names sources whose answers are needed."""


@dataclass(frozen=True)
class StageData:
    """A stage's file and `data:` section. sources: those chosen, by the key of the section that names them."""

    name: str
    files: tuple[Located, ...]
    data: Located
    sources: dict[str, list[SourceConfig]]


@dataclass(frozen=True)
class Named:
    """A source of a recipe. learned: whether a stage trains or validates on it. section: the `data:` that names it."""

    source: SourceConfig
    learned: bool
    section: Located


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which sources an action works on."""
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="a folder of stages such as 1-pretrain.yaml, or one recipe"
    )
    parser.add_argument(
        "--overlay", action="append", type=Path, default=[], metavar="FILE", help="recipe over that of each stage"
    )
    parser.add_argument("--stage", nargs="+", default=[], metavar="NAME", help="only these stages")
    parser.add_argument("--source", nargs="+", default=[], metavar="NAME", help="only these sources")


def read_stages(args: argparse.Namespace) -> list[StageData]:
    """The stages asked for, each with the sources asked for. Raises ConfigError where there is none of a name."""
    stages = stages_of(args.recipe)
    _known("--stage", args.stage, [stage.name for stage in stages])
    chosen = [
        _read(stage.name, [stage.path, *args.overlay]) for stage in stages if not args.stage or stage.name in args.stage
    ]
    names = [source.name for stage in chosen for found in stage.sources.values() for source in found]
    if not names:
        raise ConfigError(f"{args.recipe}: data: no stage names a source, expected data.train or another of {STAGES}.")
    _known("--source", args.source, names)
    if args.source:
        for stage in chosen:
            for key, found in stage.sources.items():
                stage.sources[key] = [source for source in found if source.name in args.source]
    return chosen


def distinct(stages: Iterable[StageData]) -> list[Named]:
    """Each source of the stages once, in order. One name may stand for several, where stages read it differently."""
    found: dict[str, Named] = {}
    for stage in stages:
        for key, sources in stage.sources.items():
            for source in sources:
                same = source.name + source.reader.model_dump_json()
                before = found.get(same, Named(source, False, stage.data))
                found[same] = Named(before.source, before.learned or key in LEARNED, before.section)
    return list(found.values())


def _read(name: str, paths: list[Path]) -> StageData:
    files = load_recipes(paths)
    data = other_sections(files).value.get("data", Located({}, Origin(str(paths[0]))))
    check_sources(data)
    return StageData(name, tuple(files), data, {key: read_sources(data, key) for key in STAGES})


def _known(flag: str, given: Iterable[str], names: Iterable[str]) -> None:
    names = list(dict.fromkeys(names))
    problems = [
        f"{flag}: got {name!r}, expected some of {', '.join(names)}{nearest(name, names)}"
        for name in given
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)
