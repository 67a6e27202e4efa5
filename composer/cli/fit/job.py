"""What the light half of `composer fit | validate | test | predict` hands to the heavy half."""

from dataclasses import dataclass
from pathlib import Path

from composer.recipe.model import ModelConfig
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Located


@dataclass(frozen=True)
class Job:
    """What is to be run: a valid model and training, and what Lightning has still to check.

    sections: the merged recipes. arguments: the flags left. folder: the run folder. checkpoint: what to load.
    """

    command: str
    model: ModelConfig
    training: TrainingConfig
    sections: Located
    arguments: list[str]
    folder: Path
    checkpoint: Path | None
