"""What the light half of `composer fit | validate | test | predict` passes to the heavy half."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from composer.recipe.resolve import Recipe


@dataclass(frozen=True)
class FitJob:
    """A job for Lightning. folder: the run folder. checkpoint: the file to load. print_config: its flag, or None.

    arguments: what follows the command, as typed, with `--ckpt_path last`.
    """

    command: str
    recipe: Recipe
    folder: Path
    checkpoint: Path | None
    print_config: str | None = None
    arguments: tuple[str, ...] = ()

    def typed(self, command: str) -> str:
        """A command with the newest checkpoint of this run, as a user types it."""
        return shlex.join(("composer", command, *self.arguments))
