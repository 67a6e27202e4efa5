"""JSON Schema of a recipe for editors, third-party components included."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from composer.plugin import SLOTS, Kind, SlotConfig
from composer.recipe.components import slot_config
from composer.recipe.data import FILES, SPLITS, Entry, SourceConfig
from composer.recipe.evaluation import EvaluationConfig
from composer.recipe.model import ModelConfig, PromptConfig
from composer.recipe.resolve import CONFIGS, RunConfig
from composer.registry import load_registry

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

KINDS: tuple[Kind, ...] = (*SLOTS, "reader", "benchmark")
PLAIN: tuple[type[BaseModel], ...] = (PromptConfig, *CONFIGS.values(), SourceConfig, Entry, EvaluationConfig, RunConfig)

_YAML_FILE = {"type": "string", "pattern": r"\.ya?ml$", "description": "A YAML file, relative to this one."}
_INCLUDED = {
    "type": "string",
    "pattern": r"\.ya?ml$|^composer:",
    "description": "A YAML file, relative to this one, or composer:NAME.",
}


def recipe_schema() -> Schema:
    """Make the JSON Schema (draft 2020-12) of a recipe or one of its layers, so that no slot or option is required."""
    installed = {kind: [slot_config(kind, name) for name in load_registry().selectable(kind)] for kind in KINDS}
    models = [*PLAIN, *(config for configs in installed.values() for config in configs)]
    refs, schema = models_json_schema([(model, "validation") for model in models])
    links: dict[type[BaseModel], Schema] = {model: refs[model, "validation"] for model in models}
    definitions = {model: schema["$defs"][link["$ref"].rpartition("/")[2]] for model, link in links.items()}
    for config in (config for configs in installed.values() for config in configs):
        definitions[config]["required"] = ["name"]
    slots: Schema = {kind: _slot(kind, [links[config] for config in installed[kind]]) for kind in SLOTS}
    model = {"type": "object", "additionalProperties": False, "properties": {**slots, "prompt": links[PromptConfig]}}
    _data(definitions, links, [links[config] for config in installed["reader"]])
    _evaluation(definitions, installed["benchmark"], model)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "composer recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "Recipes that this one changes, relative to it; later ones override earlier ones.",
                "anyOf": [_INCLUDED, {"type": "array", "items": _INCLUDED}],
            },
            "model": model,
            **{section: links[config] for section, config in CONFIGS.items()},
            **definitions[RunConfig]["properties"],
            "evaluation": {
                "type": "array",
                "description": "Benchmarks that `composer run` evaluates the last stage on, each with its options.",
                "items": {"anyOf": [links[config] for config in installed["benchmark"]]},
            },
        },
        **schema,
    }


def _slot(kind: Kind, links: list[Schema]) -> Schema:
    one = [_names(kind, "An installed component with its default options."), _YAML_FILE, *links]
    choices = [*one, {"type": "object", "not": {"required": ["name"]}, "description": "Options without a name."}]
    if kind == "reducer":
        choices += [{"type": "array", "items": {"anyOf": one}}, {"type": "null"}]
    return {"description": ModelConfig.model_fields[kind].description, "anyOf": choices}


def _names(kind: Kind, description: str) -> Schema:
    registry = load_registry()
    names = [name for provider in registry.of(kind) for name in registry.aliases(provider)]
    return {"enum": names, "description": description}


def _data(
    definitions: dict[type[BaseModel], Schema], links: dict[type[BaseModel], Schema], readers: list[Schema]
) -> None:
    """Add the short forms of `data:`, and the options of every installed reader to sources."""
    named = {"type": "string", "description": f"A name in `data.sources`, or a file: {', '.join(FILES)}."}
    entry = [named, links[Entry]]
    for split in SPLITS:
        option = definitions[CONFIGS["data"]]["properties"][split]
        option["anyOf"] = [*entry, {"type": "array", "items": {"anyOf": entry}}, {"type": "null"}]
        for key in ("type", "items"):
            option.pop(key, None)
    source = definitions[SourceConfig]
    del source["properties"]["name"], source["required"]  # a layer may change one option of a source
    loose = {"type": "object", "not": {"required": ["name"]}, "description": "Options without a name."}
    source["properties"]["reader"] = {"anyOf": [_names("reader", "An installed reader."), *readers, loose]}


def _evaluation(definitions: dict[type[BaseModel], Schema], benchmarks: list[type[SlotConfig]], model: Schema) -> None:
    """Convert each benchmark to its flat form: its own options next to those of every evaluation."""
    own = dict(definitions[EvaluationConfig]["properties"])
    own["model"] = {**model, "description": own["model"]["description"]}
    for config in benchmarks:
        definition = definitions[config]
        name = definition["properties"].pop("name")
        definition["properties"] |= own | {"benchmark": name}
        # Unlike a slot, an evaluation is complete in one layer.
        options = [option for option, field in config.model_fields.items() if field.is_required()]
        definition["required"] = ["benchmark", *options]
