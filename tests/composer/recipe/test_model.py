"""The classes that hold a resolved model."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from composer.plugin import SlotConfig
from composer.recipe.components import slot_config
from composer.recipe.model import ModelConfig, PromptConfig
from composer.recipe.resolve import model_config


@pytest.mark.parametrize("tokenizer", [None, "bytes", "world", ["red", "blue"]])
def test_tokenizers(tokenizer: Any) -> None:
    assert PromptConfig(tokenizer=tokenizer).model_dump(mode="json")["tokenizer"] == tokenizer


def test_prompts_are_checked_and_never_change() -> None:
    with pytest.raises(ValidationError):
        PromptConfig.model_validate({"layuot": "inline"})
    with pytest.raises(ValidationError, match="frozen"):
        PromptConfig().layout = "inline"  # type: ignore[misc]


def test_a_dump_keeps_the_options_of_the_selected_components(parts: Path) -> None:
    river = slot_config("backbone", "river").model_validate({"name": "river", "width": 4})
    model = ModelConfig(encoder=SlotConfig(name="host"), projector=SlotConfig(name="matrix"), backbone=river)
    dump = model.model_dump(mode="json")
    assert dump["backbone"] == {"name": "river", "width": 4, "pretrained": None, "extra": {}, "widths": []}
    assert dump["reducer"] == []
    assert model_config(dump).backbone == river


def test_every_option_of_every_class_is_described() -> None:
    for model in (PromptConfig, SlotConfig, ModelConfig):
        assert all(field.description for field in model.model_fields.values())
