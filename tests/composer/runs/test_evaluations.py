"""The words of an evaluation are read back by `composer evaluate` as the same evaluation."""

from pathlib import Path
from typing import Any

import pytest

from composer.cli import evaluate
from composer.recipe.evaluation import EvaluationConfig, evaluation_configs
from composer.recipe.overrides import from_flags
from composer.recipe.yamlfile import Origin, located, merged
from composer.runs.evaluations import named
from tests.composer.installing import install, plugin

HEAD = """
from composer.benchmark import Benchmark
from pydantic import Field

class Options(ComponentConfig):
    text: str = Field("", description="Text.")
    words: tuple[str, ...] = Field((), description="Words.")
    share: float | None = Field(0.5, description="A share.")
    quiet: bool = Field(False, description="Whether it is quiet.")

class Takes(Benchmark):
    def __init__(self, **options): ...
    def questions(self): ...
    def grade(self, question, answer): ...
    def summarize(self, questions, answers, grades): ...
"""


@pytest.fixture(autouse=True)
def _takes(site: Path) -> None:
    install(site, "one", plugin('yield Component("benchmark", "takes", "Takes.", Options, "one:Takes")', HEAD))


def config(**options: Any) -> EvaluationConfig:
    return evaluation_configs(located([{"benchmark": "takes", **options}], Origin("here")))[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text": "0123456", "share": 1e-5},
        {"text": "null", "words": ["a, b", "2", "true"], "share": None},
        {"text": "[a: b", "quiet": True},
        {"text": "1e3", "words": []},
        {"text": "a  b # c", "words": ["x"]},
        {"batch_size": 4, "num_workers": 0, "device": "cpu", "limit": 3, "condition": "blind"},
        {"model": {"reducer": {"order": "none", "ratio": 0.5}, "backbone": {"name": "rwkv6", "width": 8}}},
        {"model": {"reducer": ["tome", {"name": "pooling", "window": 2}], "prompt": {"tokenizer": None}}},
    ],
)
def test_there_and_back(options: dict[str, Any]) -> None:
    written = config(**options)
    (evaluation,) = named([written])
    _, *words = evaluation.words(Path("checkpoint"), Path("folder"))
    parser = evaluate.Parser()
    evaluate.configure(parser)
    args = parser.parse_args(words)
    flags, rest = from_flags(args.other, "model")
    model = located({}, Origin("none"))
    for flag in flags:
        model = merged(model, flag)
    read = {name: getattr(args, name) for name in ("batch_size", "num_workers", "device", "limit", "condition")}
    assert evaluate._options(args.benchmark, rest) == written.benchmark
    assert read == {name: getattr(written, name) for name in read}
    assert model.plain().get("model", {}) == written.model
    assert (args.checkpoint, args.output) == (Path("checkpoint"), Path("folder"))


def test_no_two_share_a_name() -> None:
    configs = [config(), config(text="a"), config(condition="blind"), config(condition="blind"), config()]
    assert [one.name for one in named(configs)] == ["takes", "takes-2", "takes-blind", "takes-blind-2", "takes-3"]


def test_what_is_written_is_a_recipe() -> None:
    written = config(text="a", limit=3, model={"reducer": {"ratio": 0.5}})
    dump = written.model_dump(mode="json")
    assert dump == {"benchmark": "takes", "text": "a", "limit": 3, "model": {"reducer": {"ratio": 0.5}}}
    assert evaluation_configs(located([dump], Origin("here"))) == (written,)
