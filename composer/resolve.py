"""From mappings to a `ModelConfig`. No torch here."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model

from composer.config import ModelConfig, PromptConfig, SlotConfig
from composer.errors import ConfigError
from composer.plugin import Kind
from composer.registry import load_registry


def model_config(mapping: Mapping[str, Any]) -> ModelConfig:
    """A complete `model:` mapping, such as a dump of a `ModelConfig`, validated.

    Raises ConfigError or PluginError.
    """
    try:
        return ModelConfig(
            encoder=_slot("encoder", mapping["encoder"]),
            reducer=tuple(_slot("reducer", value) for value in _chain(mapping.get("reducer"))),
            projector=_slot("projector", mapping["projector"]),
            backbone=_slot("backbone", mapping["backbone"]),
            prompt=PromptConfig.model_validate(mapping.get("prompt") or {}),
        )
    except ValidationError as error:
        raise ConfigError(str(error)) from error


@cache
def slot_config(kind: Kind, name: str) -> type[SlotConfig]:
    """The concrete class of a slot: the component's options, and its name first."""
    options = load_registry().find(kind, name).component.config
    return create_model(
        f"{options.__name__}Slot",
        __base__=(options, SlotConfig),
        __doc__=options.__doc__,
        name=(Literal[name], Field(name, description=SlotConfig.model_fields["name"].description)),
    )


def _slot(kind: Kind, value: Any) -> SlotConfig:
    options = {"name": value} if isinstance(value, str) else dict(value)
    return slot_config(kind, options["name"]).model_validate(options)


def _chain(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)
