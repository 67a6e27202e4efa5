"""A run folder of a tiny model of first-party parts, for tests of the commands that take one."""

from pathlib import Path

from composer.recipe.resolve import model_config
from composer.recipe.training import TrainingConfig
from composer.training.module import ComposerModule
from tests.composer.training.tiny import TinyData, trainer

MODEL = {
    "encoder": {"name": "openclip", "image_size": 32, "width": 16, "depth": 3, "heads": 2},
    "reducer": {"name": "tome", "keep_ratio": 0.25},
    "projector": "mlp",
    "backbone": {"name": "rwkv6", "width": 16, "depth": 2, "head_size": 8, "context_length": 100},
    "prompt": {"tokenizer": "bytes"},
}


def train(folder: Path) -> Path:
    """Train two steps on 32 x 32 frames; returns the folder."""
    trainer(folder, max_steps=2, limit_val_batches=0).fit(
        ComposerModule(model_config(MODEL), TrainingConfig()), TinyData(batch_size=2)
    )
    return folder
