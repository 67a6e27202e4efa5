"""What the light half of `composer fit | validate | test | predict` passes to the heavy half."""

from dataclasses import dataclass
from pathlib import Path

from composer.recipe.resolve import Recipe


@dataclass(frozen=True)
class FitJob:
    """A job for Lightning. folder: the run folder. checkpoint: the file to load. print_config: its flag, or None."""

    command: str
    recipe: Recipe
    folder: Path
    checkpoint: Path | None
    print_config: str | None = None
