"""Sources of `data:`: what entries name, and every problem with its place."""

from pathlib import Path
from typing import Any

import pytest

from composer.errors import ConfigError
from composer.recipe.sources import check_sources, read_sources
from composer.recipe.yamlfile import Located, Origin, located, parse_yaml

RECIPE = """
root: /data
sources:
  talk: {reader: {name: llava, path: talk.jsonl, media_root: media}, repeat: 2, samples: 10, hub: a/b, licence: CC0}
  clips:
    reader: {name: sharegpt4video, path: /else/clips.jsonl}
    revision: abc
train: [talk, clips, {source: talk, repeat: 0.5}, plain.json]
test: clips
"""


def section(text: str) -> Located:
    return parse_yaml(text, Origin("recipe.yaml", 1))


def said(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_sources(section(text))
    return caught.value.problems


def test_entries_of_every_form() -> None:
    check_sources(section(RECIPE))
    talk, clips, less, plain = read_sources(section(RECIPE), "train")
    assert talk.reader.model_dump() == {
        "name": "llava",
        "path": "/data/talk.jsonl",
        "media_root": "/data/media",
        "fps": None,
    }
    assert (talk.name, talk.repeat, talk.samples, talk.hub, talk.licence) == ("talk", 2.0, 10, "a/b", "CC0")
    dumped: dict[str, Any] = clips.reader.model_dump()
    assert (dumped["path"], dumped["media_root"], clips.revision) == ("/else/clips.jsonl", None, "abc")
    assert (less.name, less.repeat, less.samples) == ("talk", 0.5, 10)
    assert plain.reader.model_dump() == {"name": "llava", "path": "/data/plain.json", "media_root": None, "fps": None}
    assert [source.name for source in read_sources(section(RECIPE), "test")] == ["clips"]
    assert read_sources(section(RECIPE), "predict") == []


def test_files_alone_and_their_media_root() -> None:
    given = located({"train": "a.jsonl", "media_root": "m"}, Origin("here"))
    (source,) = read_sources(given, "train")
    assert source.reader.model_dump() == {"name": "llava", "path": "a.jsonl", "media_root": "m", "fps": None}
    assert (source.name, source.repeat) == ("a.jsonl", 1.0)
    assert read_sources(located({}, Origin("here")), "train") == []


def test_a_name_wins_over_a_file() -> None:
    text = "sources: {a.json: {reader: {name: llava, path: b.json}}}\ntrain: a.json"
    assert read_sources(section(text), "train")[0].reader.model_dump()["path"] == "b.json"


def test_a_reader_by_its_name_lacks_its_path() -> None:
    (problem,) = said("sources: {a: {reader: llava}}")
    assert problem.startswith("recipe.yaml:1: data.sources.a.reader.path: a value is missing; expected text: The data")


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
        "recipe.yaml:4: data.sources.b.repeat: got 0, expected greater than 0.",
        "recipe.yaml:5: data.sources.c.reader: a value is missing; expected",
        "recipe.yaml:5: data.sources.c.repat: unknown option; did you mean 'repeat'?",
        "recipe.yaml:6: data.sources.d: got 3, expected a mapping with `reader:`.",
        "recipe.yaml:7: data.sources.e.name: unknown option; the source's name is its key.",
        "recipe.yaml:10: data.train.0: unknown source 'god'; did you mean 'good'? Sources: a, b, c, d, e, good;",
        "recipe.yaml:11: data.train.1.repeat: got -1, expected greater than 0.",
        "recipe.yaml:12: data.train.2.repeet: unknown option; did you mean 'repeat'? Options: repeat.",
        "recipe.yaml:13: data.train.3: got {'repeat': 2}, expected a .json or .jsonl file, a name in data.sources,",
        "recipe.yaml:14: data.train.4: got 7, expected a .json or .jsonl file",
        "recipe.yaml:16: data.test: unknown source 'x.csv'. Sources: a, b, c, d, e, good; a file's name ends in .json",
        "recipe.yaml:17: data.root: got 3, expected a folder.",
    ]
    assert len(problems) == len(starts), "\n".join(problems)
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), (start, problems)


def test_sources_that_are_no_mapping() -> None:
    assert said("sources: [a]\ntrain: a") == [
        "recipe.yaml:1: data.sources: got ['a'], expected a mapping from names to sources.",
        "recipe.yaml:2: data.train: unknown source 'a'. data.sources has none; a file's name ends in .json or .jsonl.",
    ]


def test_a_third_party_reader_with_a_missing_requirement(site: Path) -> None:
    from tests.composer.installing import install, plugin

    install(site, "one", plugin('yield Component("reader", "far", "Far.", ComponentConfig, "x:y", ("absent-thing",))'))
    (problem,) = said("sources: {a: {reader: {name: far}}}")
    assert "needs absent-thing: pip install 'absent-thing'" in problem
