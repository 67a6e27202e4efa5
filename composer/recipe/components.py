"""Validates the options of components that a recipe names. Does not import torch."""

from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, create_model

from composer.errors import ConfigError, PluginError
from composer.plugin import Kind, SlotConfig
from composer.recipe.explain import place, validated
from composer.recipe.yamlfile import Located
from composer.registry import load_registry


@cache
def slot_config(kind: Kind, name: str) -> type[SlotConfig]:
    """Make the concrete config class of a component: its name, then its options.

    It accepts every name of the component, and stores the canonical one.
    """
    registry = load_registry()
    provider = registry.find(kind, name)
    canonical, *others = registry.aliases(provider)
    if name != canonical:
        return slot_config(kind, canonical)
    options = provider.component.config
    names = Annotated[Literal[canonical, *others], AfterValidator(lambda _: canonical)]  # type: ignore[valid-type]
    return create_model(
        f"{options.__name__}Slot",
        __base__=(options, SlotConfig),  # type: ignore[arg-type]  # both are bases, and the result is a SlotConfig
        __doc__=options.__doc__,
        name=(names, Field(canonical, description=SlotConfig.model_fields["name"].description)),
    )


def installed_config(kind: Kind, key: str, name: Located) -> type[SlotConfig]:
    """Find the config class of a component. Raises ConfigError if it or a package that it requires is not installed."""
    try:
        provider = load_registry().find(kind, name.value)
    except PluginError as error:
        raise ConfigError(f"{place(name.origin, key)}: {error}") from error
    if missing := provider.missing():
        needs = f"{provider} needs {', '.join(missing)}: {provider.status}"
        raise ConfigError(f"{place(name.origin, key)}: {needs}")
    return slot_config(kind, name.value)


def component(kind: Kind, key: str, value: Located) -> SlotConfig:
    """Validate a mapping of a component's `name:` and options. Raises ConfigError with every problem."""
    return validated(installed_config(kind, key, value.value["name"]), key, value)
