"""A recipe of several stages: a folder with one numbered file per stage. No torch here."""

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
"""The section, and the file `evaluation.yaml` of a folder, whose benchmarks follow the last stage."""

_NUMBERED = re.compile(r"(\d+)-.+")


@dataclass(frozen=True)
class Stage:
    """One training run. name: its file's stem, such as `1-pretrain`."""

    name: str
    path: Path


@dataclass(frozen=True)
class ResolvedStage:
    """A stage with the recipe that its files and the overlays make. files: see `load_recipes`."""

    name: str
    path: Path
    files: tuple[Located, ...]
    recipe: Recipe


def resolve_stages(
    recipe: Path, overlays: Sequence[Path] = (), *, flags: Layer = (), environment: Layer = ()
) -> list[ResolvedStage]:
    """Every stage of a recipe, resolved. A folder's `evaluation.yaml` belongs to the last one.

    Raises ConfigError with the problems of all stages.
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
            made = attempt(problems, resolve, files, flags=flags, environment=environment)
            resolved += [ResolvedStage(stage.name, stage.path, tuple(files), made)] if made else []
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return resolved


def _other_sections(path: Path) -> list[str]:
    """Problems of an `evaluation.yaml` that says more than its name."""
    return [
        f"{place(item.origin, key)}: expected only the section `{EVALUATION}:` here"
        for file in load_recipes([path])
        for key, item in file.value.items()
        if key != EVALUATION
    ]


def stages_of(recipe: Path) -> list[Stage]:
    """A folder's files `<number>-<name>.yaml`, by number; a file is one stage.

    Raises ConfigError if there is nothing to run, or two stages have one number.
    """
    if recipe.is_file():
        return [Stage(recipe.stem, recipe)]
    if not recipe.is_dir():
        raise ConfigError(f"{recipe}: no such recipe, expected a YAML file or a folder of stages (1-pretrain.yaml ...)")
    numbered = {path: found for path in recipe.iterdir() if (found := _NUMBERED.fullmatch(path.stem))}
    stages = sorted((int(found[1]), path) for path, found in numbered.items() if path.suffix in SUFFIXES)
    if not stages:
        there = ", ".join(sorted(path.name for path in recipe.iterdir())) or "nothing"
        raise ConfigError(f"{recipe}: expected stages named <number>-<name>.yaml, such as 1-pretrain.yaml; got {there}")
    numbers = [number for number, _ in stages]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise ConfigError(f"{recipe}: two stages have the number {min(twice)}: rename one")
    return [Stage(path.stem, path) for _, path in stages]


def run_folder(recipe: Path) -> Path:
    """Where a recipe's run is, unless another folder is named: `runs/RECIPE`."""
    return Path("runs") / (recipe if recipe.is_file() else recipe.resolve()).stem
