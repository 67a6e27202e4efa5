"""Recipes that are part of composer: `composer:NAME` instead of a path. Does not import torch."""

import difflib
from pathlib import Path

import composer
from composer.errors import ConfigError

PREFIX = "composer:"
SUFFIXES = (".yaml", ".yml")


def shipped_recipes() -> dict[str, Path]:
    """List the recipes by name: files, and folders of stages."""
    package = Path(composer.__file__).parent
    # Installed, they are in the package; in a clone, next to it.
    folder = next(path for path in (package / "recipes", package.parent / "recipes") if path.is_dir())
    paths = [path for path in folder.iterdir() if path.suffix in SUFFIXES or any(path.glob("1-*.yaml"))]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def locate(text: str, folder: Path = Path()) -> Path:
    """Resolve a recipe's path.

    Args:
        text: A path, or `composer:NAME`; `composer:auroralong/3-language` is a file of a folder.
        folder: Folder that a relative path starts from.

    Raises:
        ConfigError: composer has no recipe of this name.
    """
    if not text.startswith(PREFIX):
        return folder / text
    recipes = shipped_recipes()
    name, *inside = text.removeprefix(PREFIX).split("/")
    path = recipes.get(name)
    if path is not None and inside:
        path = path.joinpath(*inside)
        path = path if path.exists() else path.with_suffix(".yaml")
    if path is None or not path.exists():
        near = difflib.get_close_matches(name, recipes, 1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near and near[0] != name else "."
        raise ConfigError(f"{text}: unknown recipe{hint} Recipes: {', '.join(recipes)}")
    return path
