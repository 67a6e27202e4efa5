"""Benchmarks of videos, read from their official files: multiple choice, open questions to a judge, captions."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Compat = Literal["strict", "official", "lmms"]
"""Who reads the choice from an answer: our parser, which never guesses; the benchmark's own script; lmms-eval."""

Split = Literal["dev", "test"]


class FilesConfig(ComponentConfig):
    """Options that all benchmarks have."""

    root: str = Field(description="Folder of the official files.")
    frames: PositiveInt = Field(16, description="Frames taken of each video.")


class TasksConfig(FilesConfig):
    """Options of benchmarks of several tasks."""

    tasks: tuple[str, ...] = Field((), description="Tasks to ask, a list or separated by commas; all if none is named.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _separated_by_commas(cls, tasks: Any) -> Any:
        return [task.strip() for task in tasks.split(",")] if isinstance(tasks, str) else tasks


class ChoiceConfig(TasksConfig):
    """Options of multiple choice."""

    compat: Compat = Field(
        "strict",
        description="How an answer is scored: by our parser, which never guesses, as the official script does, or as "
        "lmms-eval does. The prompt is the official one in each case.",
    )


class MVBenchConfig(ChoiceConfig):
    """Options of the benchmark `mvbench`. root: the folder with `json/` and `video/`."""


class MLVUConfig(ChoiceConfig):
    """Options of the benchmark `mlvu`. root: of dev the folder with `json/` and `video/`."""

    frames: PositiveInt = Field(48, description="Frames taken of each video.")
    split: Split = Field("dev", description="dev, or the multiple choice of test.")


class JudgeConfig(TasksConfig):
    """Options of open answers that a language model judges."""

    judge: Literal["openai", "local", "none"] = Field(
        "openai",
        description="Who grades: a model behind an endpoint that speaks OpenAI's chat completions, a model of "
        "transformers on this machine, or none, for the metrics that need none.",
    )
    judge_model: str | None = Field(
        None, description="The judge: its name at the endpoint, or on the hub, or a folder with safetensors."
    )
    judge_revision: str | None = Field(None, description="Of a local judge from the hub: its commit.")
    judge_url: str = Field(
        "https://api.openai.com/v1",
        pattern="^https?://.",
        description="The endpoint, without /chat/completions; its key is $OPENAI_API_KEY.",
    )
    judge_at_once: PositiveInt = Field(8, description="Answers that the endpoint is asked about at the same time.")

    @model_validator(mode="after")
    def _judge_is_one(self) -> Self:
        if self.judge == "none":
            if self.judge_model or self.judge_revision:
                raise ValueError("judge: got none beside a judge's name: leave out one of them.")
        elif not self.judge_model:
            raise ValueError("judge_model: which one grades? --judge-model=NAME, or --judge=none for metrics without.")
        elif self.judge == "openai" and self.judge_revision:
            raise ValueError("judge_revision: is of a local judge; an endpoint knows its models by name alone.")
        elif self.judge == "local" and not (self.judge_revision or Path(self.judge_model).is_dir()):
            raise ValueError(
                f"judge_revision: {self.judge_model} is no folder here, and on the hub it may change: give a commit."
            )
        return self


class ActivityNetQAConfig(JudgeConfig):
    """Options of the benchmark `activitynet-qa`. root: the folder with `test_q.json`, or that of `dataset/`."""


class MovieChatConfig(JudgeConfig):
    """Options of the benchmark `moviechat-1k`. root: the folder with `gt/` or `annotations/`, and `videos/`."""

    frames: PositiveInt = Field(48, description="Frames taken of each video.")


class VDCConfig(JudgeConfig):
    """Options of the benchmark `vdc`. root: the folder with `camera.jsonl` and so on, or with `VDCScore_qa/`."""


class VATEXConfig(FilesConfig):
    """Options of the benchmark `vatex`. root: the folder with `vatex_public_test_english_v1.1.json` and `videos/`."""

    tokenizer: Literal["auto", "ptb", "words"] = Field(
        "auto",
        description="What makes tokens of captions: Stanford's PTB tokenizer, which papers use and which needs Java "
        "and pycocoevalcap, or plain words; auto is PTB where it is there. The results say which.",
    )
    missing: Literal["refuse", "skip"] = Field(
        "refuse", description="Whether clips that are no longer to be had stop the evaluation or are left out."
    )


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
    yield Component(
        "benchmark",
        "activitynet-qa",
        "ActivityNet-QA: 8,000 open questions about 800 videos, graded by a judge.",
        ActivityNetQAConfig,
        "composer_plugins.benchmarks.activitynet_qa:ActivityNetQA",
    )
    yield Component(
        "benchmark",
        "moviechat-1k",
        "MovieChat-1K: open questions about films and moments of them, graded by a judge.",
        MovieChatConfig,
        "composer_plugins.benchmarks.moviechat:MovieChat",
    )
    yield Component(
        "benchmark",
        "vdc",
        "VDC: five kinds of detailed captions, scored by what a judge can answer from them.",
        VDCConfig,
        "composer_plugins.benchmarks.vdc:VDC",
    )
    yield Component(
        "benchmark",
        "vatex",
        "VATEX: captions of 6,000 clips beside ten others each, with CIDEr, BLEU, METEOR and ROUGE-L.",
        VATEXConfig,
        "composer_plugins.benchmarks.vatex:VATEX",
    )
