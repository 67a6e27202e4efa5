"""Recipes of several stages: a folder with a numbered file per stage. Does not import torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from composer.errors import ConfigError
from composer.recipe.explain import attempt, place
from composer.recipe.resolve import Layer, Recipe, resolve
from composer.recipe.shipped import SUFFIXES
from composer.recipe.yamlfile import Located, load_recipes

EVALUATION = "evaluation"
"""Name of the section and of a folder's file `evaluation.yaml`, whose benchmarks follow the last stage."""

_NUMBERED = re.compile(r"(\d+)-.+")


@dataclass(frozen=True)
class Stage:
    """One training run. name: its file's stem, such as `1-pretrain`."""

    name: str
    path: Path


@dataclass(frozen=True)
class ResolvedStage:
    """A stage with the recipe of its files and the overlays. files: see `load_recipes`."""

    name: str
    path: Path
    files: tuple[Located, ...]
    recipe: Recipe


def resolve_stages(
    recipe: Path, overlays: Sequence[Path] = (), *, flags: Layer = (), environment: Layer = ()
) -> list[ResolvedStage]:
    """Resolve every stage of a recipe. A folder's `evaluation.yaml` belongs to the last stage.

    Args:
        recipe: A file, or a folder of stages.
        overlays: Files that override every stage.
        flags: Flags, see `composer.recipe.overrides`.
        environment: Environment variables, see `composer.recipe.overrides`.

    Raises:
        ConfigError: With the problems of all stages.
    """
    stages = stages_of(recipe)
    problems: list[str] = []
    resolved = []
    for stage in stages:
        paths = [stage.path, *overlays]
        benchmarks = recipe / f"{EVALUATION}.yaml"
        if stage is stages[-1] and benchmarks.is_file():
            paths = [benchmarks, *paths]
            problems += _other_sections(benchmarks)
        files = attempt(problems, load_recipes, paths)
        if files is not None:
            merged = attempt(problems, resolve, files, flags=flags, environment=environment)
            resolved += [ResolvedStage(stage.name, stage.path, tuple(files), merged)] if merged else []
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return resolved


def _other_sections(path: Path) -> list[str]:
    """Problems of an `evaluation.yaml` with other sections."""
    return [
        f"{place(item.origin, key)}: expected only the section `{EVALUATION}:` here"
        for file in load_recipes([path])
        for key, item in file.value.items()
        if key != EVALUATION
    ]


def stages_of(recipe: Path) -> list[Stage]:
    """List a folder's files `<number>-<name>.yaml` by number; a file is one stage.

    Raises:
        ConfigError: There is no stage, or two stages have the same number.
    """
    if recipe.is_file():
        return [Stage(recipe.stem, recipe)]
    if not recipe.is_dir():
        raise ConfigError(f"{recipe}: no such recipe, expected a YAML file or a folder of stages (1-pretrain.yaml ...)")
    numbered = {path: match for path in recipe.iterdir() if (match := _NUMBERED.fullmatch(path.stem))}
    stages = sorted((int(match[1]), path) for path, match in numbered.items() if path.suffix in SUFFIXES)
    if not stages:
        names = ", ".join(sorted(path.name for path in recipe.iterdir())) or "nothing"
        raise ConfigError(f"{recipe}: expected stages named <number>-<name>.yaml, such as 1-pretrain.yaml; got {names}")
    numbers = [number for number, _ in stages]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise ConfigError(f"{recipe}: two stages have the number {min(twice)}: rename one")
    return [Stage(path.stem, path) for _, path in stages]


def run_folder(recipe: Path) -> Path:
    """Default folder of a recipe's run: `runs/RECIPE`."""
    return Path("runs") / (recipe if recipe.is_file() else recipe.resolve()).stem
