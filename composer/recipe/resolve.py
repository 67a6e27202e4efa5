"""Merges layers to a `Recipe`, in increasing priority: checkpoint, files, environment, flags. Does not import torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from composer.errors import ConfigError
from composer.plugin import SLOTS
from composer.recipe.data import DataConfig, data_config
from composer.recipe.evaluation import EvaluationConfig, evaluation_configs
from composer.recipe.explain import attempt, got, place, unknown, validated
from composer.recipe.model import ModelConfig
from composer.recipe.overrides import MAPPINGS, SCALARS
from composer.recipe.slots import resolve_model
from composer.recipe.trainer import TrainerConfig
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Located, Origin, located, merged
from composer.registry import load_registry

CONFIGS: dict[str, type[BaseModel]] = {"training": TrainingConfig, "data": DataConfig, "trainer": TrainerConfig}
"""The sections whose options do not depend on installed components."""

SECTIONS = (*MAPPINGS, *SCALARS, "evaluation")
"""Keys of a recipe besides `include`. Only `run` and `sweep` use `evaluation:`."""

Layer = Sequence[Located]
"""Parts of a recipe, such as the flags; later ones override earlier ones."""


class RunConfig(BaseModel):
    """The sections that are one value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed_everything: Annotated[int, Field(strict=True, ge=0, lt=2**32)] | bool = Field(
        0, description="Seed of every random generator; true: a random one, false: none."
    )
    ckpt_path: str | None = Field(None, description="Checkpoint or run folder to resume, or `last`.")


@dataclass(frozen=True)
class Recipe:
    """A complete, valid recipe.

    Attributes:
        model: Components and their options.
        training: Options of training.
        data: Sources, order and batches.
        trainer: Arguments of Lightning's Trainer.
        seed: Seed of all random generators.
        ckpt_path: Checkpoint to resume; None for a new run.
        evaluation: Benchmarks.
        note: Options that were dropped with their component, or None.
        stated: Values that the layers state, with their origins, in the form of `plain()`.
    """

    model: ModelConfig
    training: TrainingConfig
    data: DataConfig
    trainer: TrainerConfig
    seed: int
    ckpt_path: str | None
    evaluation: tuple[EvaluationConfig, ...]
    note: str | None
    stated: Located

    def plain(self) -> dict[str, object]:
        """Dump every value, defaults included, in the form of a recipe."""
        sections = {name: getattr(self, name).model_dump(mode="json") for name in MAPPINGS}
        evaluation = [config.model_dump(mode="json") for config in self.evaluation]
        return {**sections, "seed_everything": self.seed, "ckpt_path": self.ckpt_path, "evaluation": evaluation}


def resolve(
    files: Sequence[Located],
    *,
    flags: Layer = (),
    environment: Layer = (),
    checkpoint: Mapping[str, object] | None = None,
) -> Recipe:
    """Merge and validate all sections.

    Args:
        files: Recipes, see `composer.recipe.yamlfile.load_recipes`.
        flags: Flags, see `composer.recipe.overrides`.
        environment: Environment variables, see `composer.recipe.overrides`.
        checkpoint: The layer of lowest priority: a mapping with a dump of a `ModelConfig` (`model`), a
            `TrainingConfig` (`training`), or both. Other keys are ignored.

    Raises:
        ConfigError: With every problem of every section, each with its origin and key.
    """
    dumps = {key: checkpoint[key] for key in ("model", "training") if key in checkpoint} if checkpoint else {}
    below = [[located(dumps, Origin("checkpoint"))]] if dumps else []
    layers: list[Layer] = [*below, *([file] for file in files), environment, flags]
    problems = [problem for layer in layers for part in layer for problem in _wrong_sections(part)]
    sections = merge_sections(part for layer in layers for part in layer)
    training = attempt(problems, validated, TrainingConfig, "training", _section(sections, "training"))
    data = attempt(problems, data_config, _section(sections, "data"))
    trainer = attempt(problems, validated, TrainerConfig, "trainer", _section(sections, "trainer"))
    run = attempt(problems, validated, RunConfig, "", _scalars(sections))
    evaluation = attempt(problems, _evaluation, sections)
    models = [[part.value["model"] for part in layer if "model" in part.value] for layer in layers]
    resolved = attempt(problems, resolve_model, models)
    if resolved and evaluation:  # what a benchmark changes in the model must be valid too
        for changes in (item.value["model"] for item in sections.value["evaluation"].value if "model" in item.value):
            attempt(problems, resolve_model, [*models, [changes]])
    if not (resolved and training and data and trainer and run) or evaluation is None or problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    model, stated, note = resolved
    everything = Located({**sections.value, "model": stated}, sections.origin)
    return Recipe(model, training, data, trainer, run.seed_everything, run.ckpt_path, evaluation, note, everything)


def resolve_data(files: Sequence[Located], environment: Layer = ()) -> DataConfig:
    """Resolve the `data:` section of files that may have no `model:`. Other sections are checked too.

    Raises:
        ConfigError: With every problem.
    """
    if any("model" in part.value for part in (*files, *environment)):
        return resolve(files, environment=environment).data
    problems = [problem for part in (*files, *environment) for problem in _wrong_sections(part)]
    sections = merge_sections((*files, *environment))
    data = attempt(problems, data_config, _section(sections, "data"))
    if data is None or problems:
        raise ConfigError(problems)
    return data


def merge_sections(parts: Iterable[Located]) -> Located:
    """Merge all sections but `model:`; later parts override earlier ones. Invalid sections are skipped."""
    sections = Located({}, Origin("default"))
    for part in parts:
        usable = {key: value for key, value in part.value.items() if key != "model" and _is_usable(key, value)}
        sections = merged(sections, Located(usable, part.origin))
    return sections


def model_config(mapping: Mapping[str, object]) -> ModelConfig:
    """Validate a complete `model:` mapping, such as a dump of a `ModelConfig`. Raises ConfigError."""
    model, _, _ = resolve_model([[located(dict(mapping), Origin("configuration"))]])
    return model


def recorded(model: ModelConfig) -> dict[str, object]:
    """Dump a model for a file, each component by its qualified name (see `composer.registry`)."""
    dump = model.model_dump(mode="json")
    for kind in SLOTS:
        for slot in dump[kind] if kind == "reducer" else [dump[kind]]:
            slot["name"] = load_registry().qualified_name(kind, slot["name"])
    return dump


def _section(sections: Located, name: str) -> Located:
    return sections.value.get(name, Located({}, Origin("default")))


def _scalars(sections: Located) -> Located:
    return Located({key: value for key, value in sections.value.items() if key in SCALARS}, sections.origin)


def _evaluation(sections: Located) -> tuple[EvaluationConfig, ...]:
    return evaluation_configs(_section(sections, "evaluation")) if "evaluation" in sections.value else ()


def _wrong_sections(part: Located) -> list[str]:
    """Problems at the top level of a part."""
    problems = []
    for key, value in part.value.items():
        if key not in SECTIONS:
            problems.append(f"{place(value.origin, key)}: {unknown('section', key, (*SECTIONS, 'include'))}")
        elif key != "model" and not _is_usable(key, value):  # the model's resolver says more
            expected = "a list such as [{benchmark: NAME}]" if key == "evaluation" else "a mapping"
            problems.append(got(key, value, expected))
    return problems


def _is_usable(key: str, value: Located) -> bool:
    if key in MAPPINGS:
        return isinstance(value.value, dict)
    return key in SCALARS or (key == "evaluation" and isinstance(value.value, list))
