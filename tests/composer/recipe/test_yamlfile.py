"""YAML with the place of every value, and includes."""

from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.recipe.yamlfile import Located, Origin, load_recipes, merged, parse_yaml

TEXT = """a: [1, {b: 2}]
c:
  d: 3
"""


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (["a", 1, "b"], 2, 1),
        (["a", 2], [1, {"b": 2}], 1),
        (["c", "d"], 3, 3),
        (["c", "d", "e"], 3, 3),
        (["c", "x"], {"d": 3}, 3),
    ],
)
def test_a_value_at_a_path_or_the_nearest_above(path: list[str | int], value: object, line: int) -> None:
    here = parse_yaml(TEXT, Origin("a.yaml", 1)).at(path)
    assert (here.plain(), here.origin.line) == (value, line)


def test_only_another_reader_replaces_the_options_below() -> None:
    lower = parse_yaml("{reader: {name: a, path: p}, logger: {name: a, folder: f}}", Origin("low"))
    upper = parse_yaml("{reader: {name: b}, logger: {name: b}}", Origin("high"))
    assert merged(lower, upper).plain() == {"reader": {"name": "b"}, "logger": {"name": "b", "folder": "f"}}


def test_text_without_content() -> None:
    assert parse_yaml("", Origin("--x")) == Located(None, Origin("--x"))


def test_an_empty_file_is_an_empty_recipe_and_still_has_a_place(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (part,) = load_recipes([tmp_path / "empty.yaml"])
    assert part.plain() == {}


def test_a_file_that_includes_itself_by_a_longer_path(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("include: sub/../a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:1: include: a file cannot include itself: a\.yaml includes a\."):
        load_recipes([tmp_path / "a.yaml"])
