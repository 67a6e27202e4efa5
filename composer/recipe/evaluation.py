"""The `evaluation:` section of a recipe: benchmarks with the options of `composer evaluate`. Does not import torch."""

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_serializer

from composer.errors import ComposerError, ConfigError
from composer.plugin import SlotConfig
from composer.recipe.components import component, installed_config
from composer.recipe.data import Condition, Count, Natural
from composer.recipe.explain import attempt, got, place, takes_only_lists, unknown, validated
from composer.recipe.yamlfile import Located, parse_yaml
from composer.registry import load_registry


class EvaluationConfig(BaseModel):
    """One benchmark, its options, and changes to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: SerializeAsAny[SlotConfig] = Field(description="An installed benchmark, with its options.")
    condition: Condition = Field(
        "normal", description="How videos are shown: normal, blind (gray frames), shuffled (frames in random order)."
    )
    limit: Count | None = Field(None, description="Ask only the first N questions of each task.")
    batch_size: Count = Field(1, description="Questions asked at the same time.")
    num_workers: Natural = Field(2, description="Processes that decode media.")
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1 ...")
    model: dict[str, object] = Field(
        default_factory=dict, description="Changes to the recipe's `model:`, such as {reducer: {order: none}}."
    )

    @model_serializer
    def _as_written(self) -> dict[str, object]:
        """Flat, as in a recipe: the benchmark's options are next to the others. Without defaults."""
        options = self.benchmark.model_dump(mode="json", exclude={"name"}, exclude_unset=True)
        own = {name: getattr(self, name) for name in OPTIONS if name in self.model_fields_set}
        return {"benchmark": self.benchmark.name, **options, **own}


OPTIONS = tuple(name for name in EvaluationConfig.model_fields if name != "benchmark")


def evaluation_configs(section: Located) -> tuple[EvaluationConfig, ...]:
    """Validate a list of `{benchmark: NAME, OPTION: VALUE ...}`. Raises ConfigError with every problem."""
    if not isinstance(section.value, list):
        raise ConfigError(got("evaluation", section, "a list such as [{benchmark: NAME}]"))
    problems: list[str] = []
    configs = [
        attempt(problems, _evaluation, f"evaluation.{number}", value) for number, value in enumerate(section.value)
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(config for config in configs if config is not None)


def _evaluation(key: str, value: Located) -> EvaluationConfig:
    if not isinstance(value.value, dict) or not isinstance(value.at(["benchmark"]).value, str):
        raise ConfigError(got(key, value, "a mapping {benchmark: NAME, OPTION: VALUE ...}"))
    name = value.value["benchmark"]
    kind = installed_config("benchmark", key, name)
    names = {*OPTIONS, *kind.model_fields, *getattr(kind, "renamed", {})} - {"name"}
    problems: list[str] = []
    own, options = {}, {"name": name}
    for option, item in value.value.items():
        if option in OPTIONS:
            own[option] = item
        elif option in names:
            options[option] = split_commas(kind, option, item)
        elif option != "benchmark":
            problems.append(f"{place(item.origin, f'{key}.{option}')}: {unknown('option', option, sorted(names))}")
    benchmark = attempt(problems, component, "benchmark", key, Located(options, value.origin))
    own["benchmark"] = Located(benchmark or SlotConfig(name="invalid"), value.origin)
    config = attempt(problems, validated, EvaluationConfig, key, Located(own, value.origin))
    if benchmark is not None and config is not None:
        attempt(problems, _build, place(name.origin, key), benchmark)
    if config is None or problems:
        raise ConfigError(problems)
    return config


def split_commas(config: type[BaseModel], option: str, value: Located) -> Located:
    """Split text at commas if the option takes only lists: `a,b` is [a, b]."""
    field = config.model_fields.get(option)
    if field is None or not takes_only_lists(field.annotation) or isinstance(value.value, list | dict | None):
        return value
    return Located([parse_yaml(text.strip(), value.origin) for text in str(value.value).split(",")], value.origin)


def _build(position: str, benchmark: SlotConfig) -> None:
    """Raise ConfigError if the benchmark's constructor, which reads no files, refuses its options."""
    try:
        load_registry().build("benchmark", benchmark)
    except ComposerError as error:
        raise ConfigError(f"{position}: {error}") from error
