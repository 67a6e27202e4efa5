"""The `evaluation:` section: benchmarks with their options."""

from pathlib import Path
from typing import Any

import pytest

from composer.errors import ConfigError
from composer.recipe.components import installed_config
from composer.recipe.evaluation import evaluation_configs, split_commas
from composer.recipe.yamlfile import Located, Origin, parse_yaml
from tests.composer.installing import install, plugin

HEAD = """
from composer.benchmark import Benchmark
from composer.errors import ConfigError
from pydantic import Field

class Options(ComponentConfig):
    text: str = Field("", description="Text.")
    words: tuple[str, ...] | None = Field((), description="Words.")

class Takes(Benchmark):
    def __init__(self, text="", **options):
        if text == "bad":
            raise ConfigError("text: got 'bad', expected 'good'")
    def questions(self): ...
    def grade(self, question, answer): ...
    def summarize(self, questions, answers, grades): ...
"""


@pytest.fixture(autouse=True)
def _takes(site: Path) -> None:
    install(site, "one", plugin('yield Component("benchmark", "takes", "Takes.", Options, "one:Takes")', HEAD))


def section(text: str) -> Located:
    return parse_yaml(text, Origin("recipe.yaml", 1))


def test_lists_as_text() -> None:
    (config,) = evaluation_configs(section("[{benchmark: takes, words: 'a , b', text: 'a,b', limit: 3}]"))
    assert config.model_dump(mode="json") == {"benchmark": "takes", "words": ["a", "b"], "text": "a,b", "limit": 3}
    (config,) = evaluation_configs(section("[{benchmark: takes, words: null}]"))
    assert config.model_dump(mode="json") == {"benchmark": "takes", "words": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [("'a, 2,b'", ["a", 2, "b"]), ("a", ["a"]), ("5", [5]), ("[a]", ["a"]), ("{a: b}", {"a": "b"}), ("null", None)],
)
def test_text_of_an_option_that_takes_only_lists(text: str, value: Any) -> None:
    kind = installed_config("benchmark", "evaluation.0", section("takes"))
    assert split_commas(kind, "words", section(text)).plain() == value
    assert split_commas(kind, "text", section(text)).plain() == section(text).plain()


def test_every_problem_with_its_place() -> None:
    text = """
- {benchmark: takes, limt: 3, batch_size: 0}
- {benchmark: takes, text: bad}
- {benchmark: take}
- takes
"""
    with pytest.raises(ConfigError) as caught:
        evaluation_configs(section(text))
    starts = [
        "recipe.yaml:2: evaluation.0.limt: unknown option; did you mean 'limit'?",
        "recipe.yaml:2: evaluation.0.batch_size: got 0, expected at least 1",
        "recipe.yaml:3: evaluation.1: text: got 'bad', expected 'good'",
        "recipe.yaml:4: evaluation.2: unknown benchmark 'take'",
        "recipe.yaml:5: evaluation.3: got 'takes', expected a mapping {benchmark: NAME, OPTION: VALUE ...}",
    ]
    assert len(caught.value.problems) == len(starts), caught.value.problems
    for problem, start in zip(caught.value.problems, starts, strict=True):
        assert problem.replace(".benchmark", "").startswith(start), problem


def test_a_section_that_is_not_a_list() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml:1: evaluation: got \{'benchmark': 'takes'\}, expected a list"):
        evaluation_configs(section("{benchmark: takes}"))
