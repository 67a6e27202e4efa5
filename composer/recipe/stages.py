"""A recipe of several stages: a folder with one numbered file for each. No torch here."""

import re
from dataclasses import dataclass
from pathlib import Path

from composer.errors import ConfigError
from composer.recipe.yamlfile import SUFFIXES

_NUMBERED = re.compile(r"(\d+)-.+")


@dataclass(frozen=True)
class Stage:
    """One training run. name: its file's stem, such as `1-pretrain`."""

    name: str
    path: Path


def stages_of(recipe: Path) -> list[Stage]:
    """A folder's files `<number>-<name>.yaml`, by number; a file is one stage.

    Raises ConfigError where there is nothing to run, or two stages have one number.
    """
    if recipe.is_file():
        return [Stage(recipe.stem, recipe)]
    if not recipe.is_dir():
        raise ConfigError(
            f"{recipe}: no such recipe, expected a YAML file or a folder of stages (1-pretrain.yaml ...)."
        )
    numbered = {path: found for path in recipe.iterdir() if (found := _NUMBERED.fullmatch(path.stem))}
    stages = sorted((int(found[1]), path) for path, found in numbered.items() if path.suffix in SUFFIXES)
    if not stages:
        there = ", ".join(sorted(path.name for path in recipe.iterdir())) or "nothing"
        raise ConfigError(
            f"{recipe}: expected stages named <number>-<name>.yaml, such as 1-pretrain.yaml; got {there}."
        )
    numbers = [number for number, _ in stages]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise ConfigError(f"{recipe}: two stages have the number {min(twice)}: rename one.")
    return [Stage(path.stem, path) for _, path in stages]


def run_folder(recipe: Path) -> Path:
    """Where a recipe's run is, unless another folder is named: `runs/RECIPE`."""
    return Path("runs") / (recipe if recipe.is_file() else recipe.resolve()).stem
