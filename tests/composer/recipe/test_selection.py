"""The swap rule on statements alone."""

from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.recipe.selection import Statement, combine, read_slot
from composer.recipe.yamlfile import Origin, parse_yaml


def read(text: str, folder: Path = Path()) -> Statement:
    return read_slot("reducer", parse_yaml(text, Origin("flag", folder=folder)))


def test_an_option_of_a_place_that_the_chain_lacks_stays_loose() -> None:
    selected, dropped = combine([read("[pool, pool]"), read("{1: {window: 3}, 2: {window: 4}}")])
    assert selected.chain is not None
    assert [{key: value.plain() for key, value in choice.options.items()} for choice in selected.chain] == [
        {},
        {"window": 3},
    ]
    assert [(loose.index, loose.option, loose.value.plain()) for loose in selected.loose] == [(2, "window", 4)]
    assert dropped == []


def test_only_components_with_options_are_dropped_with_a_note() -> None:
    selected, dropped = combine([read("[merge, {name: pool, window: 2}]"), read("other")])
    assert [choice.name for choice in selected.chain or []] == ["other"]
    assert [choice.name for choice in dropped] == ["pool"]


@pytest.mark.parametrize("text", ["a.yaml", "sub/../a.yaml", "b.yaml"])
def test_a_file_that_names_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("a.yaml")
    with pytest.raises(ConfigError, match="a file cannot include itself"):
        read("a.yaml", tmp_path)
