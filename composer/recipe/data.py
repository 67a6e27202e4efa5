"""The `data:` section of a recipe: samples, their order and batches. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_serializer

from composer.errors import ConfigError
from composer.plugin import SlotConfig
from composer.recipe.components import component, slot_config
from composer.recipe.explain import attempt, got, place, unknown, validated
from composer.recipe.yamlfile import Located, Origin, located

Split = Literal["train", "validation", "test", "predict"]
SPLITS: tuple[Split, ...] = get_args(Split)

SPLITS_OF: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}
"""Splits that a command reads; the first one is required."""

Condition = Literal["normal", "blind", "shuffled"]
"""Ablation of media in a test: none; gray frames of the same size; frames in random order."""

Order = Literal["mixed", "in-turn"]
TooLong = Literal["skip", "truncate-text", "error"]

Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]

FILES = (".json", ".jsonl")
FILE_READER = "multimodal-composer/llava"
"""Reader of a file that is named only by its path."""

TOLERANCE = 0.01
"""Largest relative difference between a count and the stated one: published counts are rounded."""


def is_off(count: int, expected: int | None) -> bool:
    """Whether a count of samples differs from the stated one by more than `TOLERANCE`."""
    return expected is not None and abs(count - expected) > TOLERANCE * expected


class SourceConfig(BaseModel):
    """One source of data: its reader, how often it is trained on, and where it is published."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="source")

    renamed: ClassVar[Mapping[str, str]] = {"licence": "license"}

    name: str = Field(exclude=True, description="The source's key in `data.sources`.")
    reader: SerializeAsAny[SlotConfig] = Field(description="An installed reader, with its options.")
    repeat: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Copies of it in one pass of training.")
    samples: Count | None = Field(default=None, description="Expected number of samples, to within 1 %.")
    hub: str | None = Field(default=None, description="Repository on the Hugging Face hub, OWNER/NAME.")
    revision: str | None = Field(default=None, description="Revision of the repository.")
    license: str | None = Field(default=None, description="License of the data.")
    note: str | None = Field(default=None, description="Anything else a user must know.")


class Entry(BaseModel):
    """One source in a split: a file's path or a name in `data.sources`, and how often it is repeated."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="FILE | SOURCE | {source, repeat}")

    source: str = Field(description="A .json or .jsonl file, or a name in `data.sources`.")
    repeat: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Copies of it; the source's own `repeat` if not given."
    )

    @model_serializer
    def _as_written(self) -> str | dict[str, object]:
        return self.source if self.repeat is None else {"source": self.source, "repeat": self.repeat}


class DataConfig(BaseModel):
    """Conversations about images and videos, from sources that readers open. Made by `data_config`.

    Training and validation compute the loss of all answers; test and predict ask for the last answer of each
    conversation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    renamed: ClassVar[Mapping[str, str]] = {"max_bad_media": "max_bad_samples"}

    train: tuple[Entry, ...] = Field((), description="Files or sources to train on.")
    order: Order = Field(
        "mixed",
        description="Order of several sources: mixed, or in-turn (a pass over each source in the order given, then "
        "further passes over the last one).",
    )
    validation: tuple[Entry, ...] = Field((), description="Files or sources whose loss is measured while training.")
    test: tuple[Entry, ...] = Field((), description="Files or sources whose answers are compared with the model's.")
    predict: tuple[Entry, ...] = Field(
        (), description="Files or sources whose questions are answered; they need no answers."
    )
    sources: dict[str, SourceConfig] = Field(
        default_factory=dict, description="Sources by name, each with its reader and its options."
    )
    root: str | None = Field(None, description="Folder that data paths start from; the current folder if not given.")
    media_root: str | None = Field(
        None, description="Folder that media paths in files start from; each file's own folder if not given."
    )
    expected_samples: Count | None = Field(
        None, description="Samples in one pass of training, repeats included; more than 1 % off is an error."
    )
    frames: Count = Field(8, description="Frames taken of a video, at equal distances in time.")
    batch_size: Count = Field(8, description="Samples in a training batch, per device.")
    global_batch_size: Count | None = Field(
        None,
        description="Samples per optimizer step, over all devices; each device takes its share in batches of "
        "batch_size, whose gradients add up. One batch per device if not given.",
    )
    max_tokens: Count | None = Field(
        None,
        description="Packs the samples of a step into rows of at most N positions, without padding; each row is a "
        "batch, and a longer sample has a row of its own. Rows are padded if not given.",
    )
    eval_batch_size: Count | None = Field(
        None, description="Samples in a validation, test or predict batch; batch_size if not given."
    )
    num_workers: Natural = Field(2, description="Processes that decode media; 0 decodes in the training process.")
    seed: Natural = Field(0, description="Seed of the order of training and of shuffled frames.")
    max_bad_samples: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest share of training samples that are skipped (unreadable records, media that cannot be "
        "decoded, conversations longer than the context), of at least 300 samples.",
    )
    too_long: TooLong = Field(
        "skip",
        description="A training sample longer than the context: skip it, cut the end of its last answer "
        "(truncate-text), or stop (error).",
    )
    conditions: tuple[Condition, ...] = Field(
        ("normal",),
        min_length=1,
        description="How a test shows media, one pass each: normal, blind (gray frames of the same size), shuffled "
        "(frames in random order).",
    )

    @field_validator("conditions")
    @classmethod
    def _each_once(cls, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        if len(set(conditions)) < len(conditions):
            raise ValueError("expected each condition once")
        return conditions

    def require(self, split: Split) -> None:
        """Raise ConfigError unless the recipe names data for a split."""
        if not getattr(self, split):
            raise ConfigError(
                f"data.{split}: got no value, expected a .json or .jsonl file, a source, or a list of them"
            )

    def sources_of(self, split: Split) -> list[SourceConfig]:
        """List the sources of a split, in order, with paths relative to the current folder."""
        return [self._source(entry) for entry in getattr(self, split)]

    def _source(self, entry: Entry) -> SourceConfig:
        source = self.sources.get(entry.source)
        if source is None:
            options = {"path": entry.source, "media_root": self.media_root}
            reader = slot_config("reader", FILE_READER).model_validate({"name": FILE_READER, **options})
            source = SourceConfig(name=entry.source, reader=reader)
        reader = source.reader
        if self.root is not None:
            paths = {name: getattr(reader, name, None) for name in ("path", "media_root")}
            below = {name: str(Path(self.root, path)) for name, path in paths.items() if isinstance(path, str)}
            reader = reader.model_copy(update=below)
        repeat = source.repeat if entry.repeat is None else entry.repeat
        return source.model_copy(update={"reader": reader, "repeat": repeat})


def data_config(section: Located | Mapping[str, object]) -> DataConfig:
    """Validate a `data:` section, including sources that no split uses. Raises ConfigError with every problem."""
    if not isinstance(section, Located):
        section = located(dict(section), Origin("configuration"))
    problems: list[str] = []
    options = {key: value for key, value in section.value.items() if key not in (*SPLITS, "sources")}
    names = section.value.get("sources") or Located(None, section.origin)
    if isinstance(names.value, dict):
        sources = {name: attempt(problems, _source, name, value) for name, value in names.value.items()}
        options["sources"] = _only_valid(sources, names.origin)
    elif names.value is not None:
        problems.append(got("data.sources", names, "a mapping from names to sources"))
    known = list(names.value) if isinstance(names.value, dict) else []
    for split in SPLITS:
        written = _entries(section, split)
        entries = {key: attempt(problems, _entry, key, value, known) for key, value in written.items()}
        options[split] = Located(list(_only_valid(entries, section.origin).value.values()), section.origin)
    config = attempt(problems, validated, DataConfig, "data", Located(options, section.origin))
    if config is None or problems:
        raise ConfigError(problems)
    return config


def _only_valid(models: Mapping[str, BaseModel | None], origin: Origin) -> Located:
    return Located({key: Located(model, origin) for key, model in models.items() if model is not None}, origin)


def _source(name: str, value: Located) -> SourceConfig:
    """One of `data.sources`. Raises ConfigError with the problems of its reader and of its other options."""
    key = f"data.sources.{name}"
    if not isinstance(value.value, dict):
        raise ConfigError(got(key, value, "a mapping with `reader:`"))
    if "name" in value.value:
        origin = value.value["name"].origin
        raise ConfigError(f"{place(origin, f'{key}.name')}: unknown option; the source's name is its key")
    problems: list[str] = []
    options = value.value | {"name": Located(name, value.origin)}
    if "reader" in options:
        reader = attempt(problems, _reader, f"{key}.reader", options["reader"])
        options["reader"] = Located(reader or SlotConfig(name="invalid"), value.origin)
    source = attempt(problems, validated, SourceConfig, key, Located(options, value.origin))
    if source is None or problems:
        raise ConfigError(problems)
    return source


def _reader(key: str, value: Located) -> SlotConfig:
    if isinstance(value.value, str):
        value = Located({"name": value}, value.origin)
    if not isinstance(value.value, dict) or not isinstance(value.at(["name"]).value, str):
        raise ConfigError(got(key, value, "a mapping with a reader's `name:` and its options"))
    return component("reader", key, value)


def _entries(section: Located, split: Split) -> dict[str, Located]:
    """The entries of a split, by their keys."""
    value = section.value.get(split)
    if value is None or value.value is None:
        return {}
    if isinstance(value.value, list):
        return {f"data.{split}.{number}": item for number, item in enumerate(value.value)}
    return {f"data.{split}": value}


def _entry(key: str, value: Located, names: list[str]) -> Entry:
    if isinstance(value.value, str):
        value = Located({"source": value}, value.origin)
    if not isinstance(value.value, dict):
        expected = "a .json or .jsonl file, a name in data.sources, or {source: NAME, repeat: NUMBER}"
        raise ConfigError(got(key, value, expected))
    entry = validated(Entry, key, value)
    if entry.source not in names and not entry.source.endswith(FILES):
        origin = value.value["source"].origin
        raise ConfigError(
            f"{place(origin, key)}: got {entry.source!r}, {unknown('source', entry.source, names)}; a file's name ends "
            "in .json or .jsonl"
        )
    return entry
