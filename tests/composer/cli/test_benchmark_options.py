"""Options of third-party benchmarks on the command line, and every name of a benchmark."""

from pathlib import Path

import pytest

from composer.cli import main
from composer.recipe.evaluation import evaluation_configs
from composer.recipe.explain import takes_only_lists
from composer.recipe.yamlfile import Origin, located
from composer.runs.evaluations import named
from tests.composer.installing import install, plugin

HEAD = """
from collections.abc import Sequence
from pydantic import Field
from composer.benchmark import Benchmark
from composer.errors import DataError

class Options(ComponentConfig):
    words: tuple[str, ...] = Field((), description="Words.")
    numbers: Sequence[int] | None = Field(None, description="Numbers.")
    text: str = Field("", description="Text.")

class Shows(Benchmark):
    def __init__(self, **options):
        self.options = options

    def questions(self):
        raise DataError(f"{self.options}")

    def grade(self, question, answer):
        raise NotImplementedError

    summarize = grade
"""
SHOWS = plugin('yield Component("benchmark", "shows", "Shows its options.", Options, "one:Shows")', HEAD)


@pytest.fixture
def shows(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    install(site, "one", SHOWS)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {}),
        (["--words=a,b", "--numbers=1,2,3"], {"words": ("a", "b"), "numbers": [1, 2, 3]}),
        (["--words", "a, b", "--numbers=4"], {"words": ("a", "b"), "numbers": [4]}),
        (["--words=[a, 'b,c']", "--numbers=[]"], {"words": ("a", "b,c"), "numbers": []}),
        (["--words=a", "--numbers=null", "--text=a,b"], {"words": ("a",), "text": "a,b"}),
    ],
)
@pytest.mark.parametrize("name", ["shows", "one/shows"])
def test_a_list_may_be_separated_by_commas(
    shows: None, capsys: pytest.CaptureFixture[str], name: str, flags: list[str], expected: dict[str, object]
) -> None:
    assert main(["evaluate", "no-such.ckpt", name, *flags]) == 1
    assert capsys.readouterr().err == f"composer: { ({'words': (), 'numbers': None, 'text': ''} | expected) }\n"


def test_what_is_wrong_in_a_list_is_said(shows: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "no-such.ckpt", "shows", "--numbers=1,two"]) == 2
    assert "--numbers: shows.numbers.1: got 'two', expected a valid integer" in capsys.readouterr().err


def test_both_names_of_a_benchmark_have_one_folder_in_a_run(shows: None) -> None:
    asked = [{"benchmark": name, "words": "a,b"} for name in ("shows", "one/shows")]
    first, second = named(evaluation_configs(located(asked, Origin("here"))))
    assert (first.name, second.name) == ("shows", "shows-2")
    assert first.config == second.config
    assert first.config.benchmark.name == "shows"


@pytest.mark.parametrize("kind", [list[int], tuple[int, ...], set[str], tuple[int, int] | None, list])
def test_types_that_are_lists(kind: object) -> None:
    assert takes_only_lists(kind)


@pytest.mark.parametrize("kind", [str, int | None, str | list[str], dict[str, int], None])
def test_types_that_are_not_only_lists(kind: object) -> None:
    assert not takes_only_lists(kind)
