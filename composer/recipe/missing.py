"""Checks that data files exist, before anything is started. Does not import torch."""

import glob
from collections.abc import Sequence
from pathlib import Path

from composer.errors import DataError
from composer.recipe.data import DataConfig, SourceConfig, Split

SYNTHETIC = ("train.jsonl", "stills.jsonl", "heldout.jsonl")
"""The files that `composer data synthesize FOLDER` writes."""

SHOWN = 5


def check_present(data: DataConfig, splits: Sequence[Split], recipe: Path | None) -> None:
    """Check that the data of splits exist.

    Args:
        data: The recipe's `data:` section.
        splits: Splits that a command reads; the first one is required.
        recipe: Path of the recipe, for the command that downloads the data.

    Raises:
        ConfigError: If the first split has no source.
        DataError: If files of a source are missing, with a remedy.
    """
    data.require(splits[0])
    sources = {source.name: source for split in splits for source in data.sources_of(split)}
    missing = {name: path for name, source in sources.items() if (path := _missing_path(source)) is not None}
    if not missing:
        return
    keys = {name: f"data.sources.{name}: " if name in data.sources else "" for name in missing}
    lines = [f"{keys[name]}{path}: no such file or folder" for name, path in missing.items()]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    remedies = dict.fromkeys(_remedy(sources[name], path, recipe) for name, path in missing.items())
    raise DataError("\n".join([*lines[:SHOWN], *more, *remedies]))


def _missing_path(source: SourceConfig) -> str | None:
    """The path of the source's reader if no file exists there or matches it."""
    path = getattr(source.reader, "path", None)
    is_there = not isinstance(path, str) or Path(path).exists() or bool(glob.glob(path, recursive=True))
    return None if is_there else path


def _remedy(source: SourceConfig, path: str, recipe: Path | None) -> str:
    if source.hub is not None:
        return f"Download what is on the Hugging Face hub with `composer data fetch {recipe or 'RECIPE'}`"
    if Path(path).name in SYNTHETIC:
        return f"Generate the synthetic data with `composer data synthesize {Path(path).parent}`"
    return "Correct the path, or data.root"
