"""The `trainer:` section against Lightning's own signature."""

import inspect

from lightning.pytorch import Trainer

from composer.recipe.trainer import TrainerConfig


def test_options_and_defaults_are_lightnings() -> None:
    parameters = list(inspect.signature(Trainer.__init__).parameters.values())[1:]
    fields = TrainerConfig.model_fields
    assert list(fields) == [parameter.name for parameter in parameters]
    assert {name: field.default for name, field in fields.items()} == {p.name: p.default for p in parameters}
