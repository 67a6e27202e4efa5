"""Data modules of plain options, as a recipe's `data:` section has them."""

from typing import Any

from composer.data.datamodule import MultimodalDataModule
from composer.recipe.data import data_config


def data_module(**options: Any) -> MultimodalDataModule:
    return MultimodalDataModule(data_config(options))
