"""The kit over every installed component, ours and the example's: built by name, with default options."""

from collections.abc import Iterable
from typing import Any

import pytest

from composer.plugin import Kind
from composer.recipe.components import slot_config
from composer.registry import Provider, load_registry
from composer.testing import check_encoder, check_reducer


def every(kind: Kind) -> Iterable[Any]:
    """A test parameter for each component of a kind."""
    providers = [provider for provider in load_registry().providers if provider.component.kind == kind]
    return pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.qualified_name)


def build(provider: Provider, **from_neighbors: Any) -> Any:
    component = provider.component
    options = slot_config(component.kind, provider.qualified_name)()
    return load_registry().build(component.kind, options, **from_neighbors)


@every("encoder")
def test_encoder(provider: Provider) -> None:
    check_encoder(build(provider), in_blocks=provider.component.in_blocks)


@every("reducer")
def test_reducer(provider: Provider) -> None:
    check_reducer(build(provider, dim=16, depth=4))


def test_every_option_is_described() -> None:
    """`composer plugins show` and editors print these."""
    for provider in load_registry().providers:
        for name, option in provider.component.config.model_fields.items():
            assert option.description, f"{provider.qualified_name}: {name}"


def test_ours_are_among_them() -> None:
    registry = load_registry()
    assert {"openclip", "transformers-vision", "conv"} <= set(registry.names("encoder"))
    assert {"tome", "pooling"} <= set(registry.names("reducer"))
