"""Video benchmarks, read from their official files: multiple choice, open questions with a judge, captions."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Compat = Literal["strict", "official", "lmms"]
"""Parser of answers: ours, which never guesses; the benchmark's official script; or lmms-eval."""

Split = Literal["dev", "test"]


class FilesConfig(ComponentConfig):
    """Options of all benchmarks."""

    root: str = Field(description="Folder with the official files.")
    frames: PositiveInt = Field(16, description="Frames per video.")


class TasksConfig(FilesConfig):
    """Options of benchmarks with several tasks."""

    tasks: tuple[str, ...] = Field((), description="Tasks to evaluate, a list or separated by commas; empty for all.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _split_commas(cls, tasks: object) -> object:
        return [task.strip() for task in tasks.split(",")] if isinstance(tasks, str) else tasks


class ChoiceConfig(TasksConfig):
    """Options of multiple-choice benchmarks."""

    compat: Compat = Field(
        "strict",
        description="Scoring of answers: by our parser, which never guesses, or as in the official script or in "
        "lmms-eval. All of them use the official prompt.",
    )


class MVBenchConfig(ChoiceConfig):
    """Options of the benchmark `mvbench`. root: folder with `json/` and `video/`."""


class MLVUConfig(ChoiceConfig):
    """Options of the benchmark `mlvu`. root: for dev, the folder with `json/` and `video/`."""

    frames: PositiveInt = Field(48, description="Frames per video.")
    split: Split = Field("dev", description="dev, or the multiple-choice part of test.")


class JudgeConfig(TasksConfig):
    """Options of open-ended benchmarks that are graded by a language model."""

    judge: Literal["openai", "local", "none"] = Field(
        "openai",
        description="Grading: a model behind an OpenAI-compatible chat completions endpoint, a transformers model on "
        "this machine, or none, for metrics that do not need a judge.",
    )
    judge_model: str | None = Field(
        None, description="Model of the judge: its name at the endpoint or on the hub, or a folder with safetensors."
    )
    judge_revision: str | None = Field(None, description="Commit of a local judge from the hub.")
    judge_url: str = Field(
        "https://api.openai.com/v1",
        pattern="^https?://.",
        description="URL of the endpoint, without /chat/completions; its key is $OPENAI_API_KEY.",
    )
    judge_at_once: PositiveInt = Field(8, description="Maximum number of concurrent requests to the endpoint.")

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge == "none":
            if self.judge_model or self.judge_revision:
                raise ValueError("judge: got none and the name of a judge: remove one of them")
        elif not self.judge_model:
            raise ValueError(
                "judge_model: got no model: give --judge-model=NAME, or --judge=none for metrics without a judge"
            )
        elif self.judge == "openai" and self.judge_revision:
            raise ValueError("judge_revision: only for a local judge; remove it, an endpoint identifies models by name")
        elif self.judge == "local" and not (self.judge_revision or Path(self.judge_model).is_dir()):
            raise ValueError(
                f"judge_revision: {self.judge_model} is not a local folder, and on the hub it may change: give a commit"
            )
        return self


class ActivityNetQAConfig(JudgeConfig):
    """Options of the benchmark `activitynet-qa`. root: folder with `test_q.json` or `dataset/`."""


class MovieChatConfig(JudgeConfig):
    """Options of the benchmark `moviechat-1k`. root: folder with `gt/` or `annotations/`, and `videos/`."""

    frames: PositiveInt = Field(48, description="Frames per video.")


class VDCConfig(JudgeConfig):
    """Options of the benchmark `vdc`. root: folder with `camera.jsonl` etc. or `VDCScore_qa/`."""


class VATEXConfig(FilesConfig):
    """Options of the benchmark `vatex`. root: folder with `vatex_public_test_english_v1.1.json` and `videos/`."""

    tokenizer: Literal["auto", "ptb", "words"] = Field(
        "auto",
        description="Tokenizer of captions: Stanford's PTB tokenizer, as in papers, which needs Java and "
        "pycocoevalcap, or plain words; auto uses PTB if it is installed. The results name the tokenizer.",
    )
    missing: Literal["refuse", "skip"] = Field(
        "refuse", description="Handling of missing clips: stop the evaluation, or skip them."
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
        "MovieChat-1K: open questions about films and moments in them, graded by a judge.",
        MovieChatConfig,
        "composer_plugins.benchmarks.moviechat:MovieChat",
    )
    yield Component(
        "benchmark",
        "vdc",
        "VDC: five kinds of detailed captions, scored by a judge that answers questions from them.",
        VDCConfig,
        "composer_plugins.benchmarks.vdc:VDC",
    )
    yield Component(
        "benchmark",
        "vatex",
        "VATEX: captions of 6,000 clips, compared with ten references each by CIDEr, BLEU, METEOR and ROUGE-L.",
        VATEXConfig,
        "composer_plugins.benchmarks.vatex:VATEX",
    )
