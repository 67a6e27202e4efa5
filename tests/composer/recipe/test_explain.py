"""Sentences for what pydantic refuses."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

from composer.errors import ConfigError
from composer.plugin import ComponentConfig
from composer.recipe.explain import validated
from composer.recipe.yamlfile import Origin, parse_yaml


class KeepConfig(ComponentConfig):
    renamed: ClassVar[Mapping[str, str]] = {"ratio": "keep_ratio"}

    keep_ratio: float = 0.5


def test_an_old_key_leads_to_its_new_name() -> None:
    given = parse_yaml("name: x\nratio: 0.1\n", Origin("recipe.yaml", 1))
    with pytest.raises(ConfigError) as caught:
        validated(KeepConfig, "model.reducer", given)
    assert "recipe.yaml:2: model.reducer.ratio: renamed to 'keep_ratio'" in caught.value.problems
