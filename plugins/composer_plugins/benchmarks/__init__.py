"""The benchmarks `mvbench` and `mlvu`: multiple choice about videos, read from their official files."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Compat = Literal["strict", "official", "lmms"]
"""Who reads the choice from an answer: our parser, which never guesses; the benchmark's own script; lmms-eval."""

Split = Literal["dev", "test"]


class ChoiceConfig(ComponentConfig):
    """Options that both benchmarks have."""

    root: str = Field(description="Folder of the official files.")
    frames: PositiveInt = Field(16, description="Frames taken of each video.")
    compat: Compat = Field(
        "strict",
        description="How an answer is scored: by our parser, which never guesses, as the official script does, or as "
        "lmms-eval does. The prompt is the official one in each case.",
    )
    tasks: tuple[str, ...] = Field((), description="Tasks to ask, a list or separated by commas; all if none is named.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _separated_by_commas(cls, tasks: Any) -> Any:
        return [task.strip() for task in tasks.split(",")] if isinstance(tasks, str) else tasks


class MVBenchConfig(ChoiceConfig):
    """Options of the benchmark `mvbench`. root: the folder with `json/` and `video/`."""


class MLVUConfig(ChoiceConfig):
    """Options of the benchmark `mlvu`. root: of dev the folder with `json/` and `video/`."""

    frames: PositiveInt = Field(48, description="Frames taken of each video.")
    split: Split = Field("dev", description="dev, or the multiple choice of test.")


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "benchmark",
        "mvbench",
        "MVBench: 20 tasks of 200 multiple-choice questions about short videos.",
        MVBenchConfig,
        "composer_plugins.benchmarks.mvbench:MVBench",
    )
    yield Component(
        "benchmark",
        "mlvu",
        "MLVU: multiple-choice questions about long videos, splits dev and test.",
        MLVUConfig,
        "composer_plugins.benchmarks.mlvu:MLVU",
    )
