"""Sentences for what pydantic refuses."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

from composer.errors import ConfigError
from composer.plugin import ComponentConfig
from composer.recipe.explain import validated
from composer.recipe.overrides import from_flags
from composer.recipe.resolve import resolve
from composer.recipe.shipped import locate
from composer.recipe.yamlfile import Origin, load_recipes, parse_yaml


class KeepConfig(ComponentConfig):
    renamed: ClassVar[Mapping[str, str]] = {"ratio": "keep_ratio"}

    keep_ratio: float = 0.5


def test_an_old_key_leads_to_its_new_name() -> None:
    section = parse_yaml("name: x\nratio: 0.1\n", Origin("recipe.yaml", 1))
    with pytest.raises(ConfigError) as caught:
        validated(KeepConfig, "model.reducer", section)
    assert "recipe.yaml:2: model.reducer.ratio: renamed to 'keep_ratio'" in caught.value.problems


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training.train", "trainable"),
        ("training.warmup", "warmup_ratio"),
        ("training.final_factor", "min_lr_ratio"),
        ("data.max_bad_media", "max_bad_samples"),
        ("data.sources.shapes.licence", "license"),
        ("model.reducer.ratio", "keep_ratio"),
    ],
)
def test_every_renamed_key_of_a_recipe(old: str, new: str) -> None:
    recipe = load_recipes([locate("composer:quickstart")])
    parts, _ = from_flags(["--data.sources.shapes.reader={name: llava, path: a.jsonl}", f"--{old}=1"])
    with pytest.raises(ConfigError) as caught:
        resolve(recipe, flags=parts)
    assert caught.value.problems == [f"--{old}: renamed to {new!r}"]
