"""The JSON Schema of a recipe: what editors complete and check, third-party components included."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from composer.plugin import SLOTS, Slot, SlotConfig
from composer.recipe.model import ModelConfig, PromptConfig
from composer.recipe.resolve import slot_config
from composer.recipe.training import TrainingConfig
from composer.registry import load_registry

_YAML_FILE = {"type": "string", "pattern": r"\.ya?ml$", "description": "A YAML file, relative to this one."}


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe, or of one layer of it, so that no slot and no option is required."""
    slots = {kind: {name: slot_config(kind, name) for name in load_registry().selectable(kind)} for kind in SLOTS}
    models: list[type[BaseModel]] = [config for configs in slots.values() for config in configs.values()]
    models += [PromptConfig, TrainingConfig]
    refs, definitions = models_json_schema([(model, "validation") for model in models])
    for config in models[:-2]:
        definition = definitions["$defs"][refs[config, "validation"]["$ref"].rpartition("/")[2]]
        definition["required"] = ["name"]
    properties: dict[str, Any] = {kind: _slot(kind, slots[kind], refs) for kind in SLOTS}
    properties["prompt"] = refs[PromptConfig, "validation"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "composer recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "Recipes that this one changes, relative to it; the last one is strongest.",
                "anyOf": [_YAML_FILE, {"type": "array", "items": _YAML_FILE}],
            },
            "model": {"type": "object", "additionalProperties": False, "properties": properties},
            "training": refs[TrainingConfig, "validation"],
            "data": {"type": "object", "description": "Arguments of the data module."},
            "trainer": {"type": "object", "description": "Arguments of Lightning's Trainer."},
            "seed_everything": {"type": ["integer", "boolean"], "description": "Seed of every random generator."},
            "ckpt_path": {"type": ["string", "null"], "description": "Checkpoint to go on from, or `last`."},
            "evaluation": {
                "type": "array",
                "description": "Benchmarks that `composer run` evaluates the last stage on, each with its options.",
                "items": {
                    "type": "object",
                    "required": ["benchmark"],
                    "properties": {"benchmark": {"type": "string", "description": "An installed benchmark."}},
                },
            },
        },
        **definitions,
    }


def _slot(kind: Slot, configs: dict[str, type[SlotConfig]], refs: Any) -> dict[str, Any]:
    registry = load_registry()
    names = [name for provider in registry.of(kind) for name in registry.aliases(provider)]
    one = [
        {"enum": names, "description": "An installed component with its default options."},
        _YAML_FILE,
        *(refs[config, "validation"] for config in configs.values()),
    ]
    choices = [*one, {"type": "object", "not": {"required": ["name"]}, "description": "Options without a name."}]
    if kind == "reducer":
        choices += [{"type": "array", "items": {"anyOf": one}}, {"type": "null"}]
    return {"description": ModelConfig.model_fields[kind].description, "anyOf": choices}
