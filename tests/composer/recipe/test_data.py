"""The `data:` section: what entries name, and every problem with its origin."""

from pathlib import Path
from typing import Any

import pytest

from composer.errors import ConfigError
from composer.recipe.data import DataConfig, data_config, is_off
from composer.recipe.overrides import from_environment
from composer.recipe.resolve import resolve_data
from composer.recipe.yamlfile import Origin, parse_yaml

RECIPE = """
root: /data
sources:
  talk: {reader: {name: llava, path: talk.jsonl, media_root: media}, repeat: 2, samples: 10, hub: a/b, license: CC0}
  clips:
    reader: {name: sharegpt4video, path: /else/clips.jsonl}
    revision: abc
train: [talk, clips, {source: talk, repeat: 0.5}, plain.json]
test: clips
"""


def section(text: str) -> DataConfig:
    return data_config(parse_yaml(text, Origin("recipe.yaml", 1)))


def said(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        section(text)
    return caught.value.problems


def test_entries_of_every_form() -> None:
    data = section(RECIPE)
    talk, clips, less, plain = data.sources_of("train")
    assert talk.reader.model_dump() == {
        "name": "llava",
        "path": "/data/talk.jsonl",
        "media_root": "/data/media",
        "fps": None,
    }
    assert (talk.name, talk.repeat, talk.samples, talk.hub, talk.license) == ("talk", 2.0, 10, "a/b", "CC0")
    dumped: dict[str, Any] = clips.reader.model_dump()
    assert (dumped["path"], dumped["media_root"], clips.revision) == ("/else/clips.jsonl", None, "abc")
    assert (less.name, less.repeat, less.samples) == ("talk", 0.5, 10)
    assert plain.reader.model_dump() == {"name": "llava", "path": "/data/plain.json", "media_root": None, "fps": None}
    assert [source.name for source in data.sources_of("test")] == ["clips"]
    assert data.sources_of("predict") == []


def test_files_alone_and_their_media_root() -> None:
    (source,) = data_config({"train": "a.jsonl", "media_root": "m"}).sources_of("train")
    assert source.reader.model_dump() == {"name": "llava", "path": "a.jsonl", "media_root": "m", "fps": None}
    assert (source.name, source.repeat) == ("a.jsonl", 1.0)
    assert data_config({"train": None, "sources": None}).sources_of("train") == []


def test_a_name_wins_over_a_file() -> None:
    text = "sources: {a.json: {reader: {name: llava, path: b.json}}}\ntrain: a.json"
    assert section(text).sources_of("train")[0].reader.model_dump()["path"] == "b.json"


def test_a_reader_by_its_name_lacks_its_path() -> None:
    (problem,) = said("sources: {a: {reader: llava}}")
    assert problem.startswith("recipe.yaml:1: data.sources.a.reader.path: a value is missing; expected text: Data file")


def test_all_problems_at_once() -> None:
    problems = said(
        """
sources:
  a: {reader: {name: lava, path: x}}
  b: {reader: {name: llava, paht: x, path: y}, repeat: 0}
  c: {repat: 2}
  d: 3
  e: {name: f, reader: {name: llava, path: y}}
  good: {reader: {name: llava, path: y}}
train:
  - god
  - {source: good, repeat: -1}
  - {source: good, repeet: 2}
  - {repeat: 2}
  - 7
validation: a
test: x.csv
root: 3
"""
    )
    starts = [
        "recipe.yaml:3: data.sources.a.reader: unknown reader 'lava': did you mean 'llava'?",
        "recipe.yaml:4: data.sources.b.reader.paht: unknown option; did you mean 'path'?",
        "recipe.yaml:4: data.sources.b.repeat: got 0, expected greater than 0",
        "recipe.yaml:5: data.sources.c.reader: a value is missing; expected",
        "recipe.yaml:5: data.sources.c.repat: unknown option; did you mean 'repeat'?",
        "recipe.yaml:6: data.sources.d: got 3, expected a mapping with `reader:`",
        "recipe.yaml:7: data.sources.e.name: unknown option; the source's name is its key",
        "recipe.yaml:10: data.train.0: got 'god', unknown source; did you mean 'good'? Sources: a, b, c, d, e, good;",
        "recipe.yaml:11: data.train.1.repeat: got -1, expected greater than 0",
        "recipe.yaml:12: data.train.2.repeet: unknown option; did you mean 'repeat'? Options: source, repeat",
        "recipe.yaml:13: data.train.3.source: a value is missing; expected text: A .json or .jsonl file, or a name in",
        "recipe.yaml:14: data.train.4: got 7, expected a .json or .jsonl file",
        "recipe.yaml:16: data.test: got 'x.csv', unknown source. Sources: a, b, c, d, e, good; a file's name ends in",
        "recipe.yaml:17: data.root: got 3, expected a valid string",
    ]
    assert len(problems) == len(starts), "\n".join(problems)
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), (start, problems)


def test_sources_that_are_no_mapping() -> None:
    assert said("sources: [a]\ntrain: a") == [
        "recipe.yaml:1: data.sources: got ['a'], expected a mapping from names to sources",
        "recipe.yaml:2: data.train: got 'a', unknown source. Sources: none; a file's name ends in .json or .jsonl",
    ]


def test_a_third_party_reader_with_a_missing_requirement(site: Path) -> None:
    from tests.composer.installing import install, plugin

    install(site, "one", plugin('yield Component("reader", "far", "Far.", ComponentConfig, "x:y", ("absent-thing",))'))
    (problem,) = said("sources: {a: {reader: {name: far}}}")
    assert "needs absent-thing: pip install 'absent-thing'" in problem


def test_options_are_as_narrow_as_they_can_be() -> None:
    wrong = {"frames": True, "batch_size": 2.5, "seed": -1, "max_bad_samples": 2, "order": "odd", "conditions": []}
    with pytest.raises(ConfigError) as caught:
        data_config(wrong | {"max_bad_media": 0.1})
    said = {problem.split(": ")[1]: problem for problem in caught.value.problems}
    assert said.keys() == {f"data.{key}" for key in (*wrong, "max_bad_media")}
    assert said["data.max_bad_media"].endswith("renamed to 'max_bad_samples'")


def test_each_condition_once() -> None:
    assert said("conditions: [blind, normal, blind]") == [
        "recipe.yaml:1: data.conditions: got ['blind', 'normal', 'blind'], expected each condition once"
    ]


def test_data_alone_with_an_unknown_section_in_a_variable() -> None:
    environment = from_environment({"COMPOSER_DAAT__FRAMES": "2", "COMPOSER_DATA__FRAMES": "4"})
    file = parse_yaml("data: {train: a.jsonl}", Origin("recipe.yaml", 1))
    assert resolve_data([file], environment[1:]).frames == 4
    with pytest.raises(ConfigError, match="COMPOSER_DAAT__FRAMES: daat: unknown section; did you mean 'data'"):
        resolve_data([file], environment)


def test_what_a_config_dumps_is_a_section() -> None:
    data = section(RECIPE)
    dump = data.model_dump(mode="json")
    assert dump["train"] == ["talk", "clips", {"source": "talk", "repeat": 0.5}, "plain.json"]
    assert data_config(dump) == data


@pytest.mark.parametrize(("count", "expected", "off"), [(101, 100, False), (102, 100, True), (99, 100, False),
                                                        (98, 100, True), (5, None, False)])  # fmt: skip
def test_a_count_may_be_rounded_to_within_one_percent(count: int, expected: int | None, off: bool) -> None:
    assert is_off(count, expected) is off
