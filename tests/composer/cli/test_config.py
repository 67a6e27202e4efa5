"""`composer config check` and `schema`."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.cli import main
from tests.composer.cli.light import run

RECIPE = """
model:
  encoder: host
  reducer: {name: merge, ratio: 0.1}
  projector: matrix
  backbone: {name: river, width: 8, pretrained: RIVER}
training:
  learning_rate: 1e-3
"""


@pytest.fixture
def recipe(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("recipe.yaml")
    path.write_text(RECIPE)
    return path


def test_check_prints_the_model_and_one_note_without_torch(recipe: Path, parts: Path) -> None:
    ran = run("config", "check", "--model.backbone=tower", "recipe.yaml", "--model.backbone.width", "2", site=parts)
    assert (ran.status, ran.torch) == (0, False)
    model = yaml.safe_load(ran.out)["model"]
    assert model["backbone"] == {"name": "tower", "width": 2, "pretrained": None, "extra": {}, "widths": []}
    assert ran.err == (
        "composer: options dropped with their component: width, pretrained of backbone 'river' (recipe.yaml:6)."
    )


def test_what_check_prints_is_a_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "recipe.yaml", "--model.reducer=[merge, pool]"]) == 0
    printed = capsys.readouterr().out
    Path("printed.yaml").write_text(printed)
    assert main(["config", "check", "printed.yaml"]) == 0
    assert capsys.readouterr().out == printed


def test_check_says_all_errors_without_torch(recipe: Path, parts: Path) -> None:
    ran = run("config", "check", "recipe.yaml", "--model.reducer.ratoi=1", "--model.encoder=plane", site=parts)
    assert (ran.status, ran.torch) == (2, False)
    assert "--model.reducer.ratoi: model.reducer.ratoi: unknown option; did you mean 'ratio'?" in ran.err
    assert "--model.encoder: model.encoder: unknown encoder 'plane': did you mean 'plain'?" in ran.err
    assert "Traceback" not in ran.err


def test_check_looks_at_sources_too(recipe: Path, parts: Path) -> None:
    recipe.write_text(RECIPE + "data:\n  sources: {talk: {reader: {name: lava, path: x}}}\n  train: [talk, talc]\n")
    ran = run("config", "check", "recipe.yaml", site=parts)
    assert (ran.status, ran.torch) == (2, False)
    assert "recipe.yaml:10: data.sources.talk.reader: unknown reader 'lava': did you mean 'llava'?" in ran.err
    assert "recipe.yaml:11: data.train.1: unknown source 'talc'; did you mean 'talk'? Sources: talk" in ran.err


def test_check_looks_at_training_too(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE + "  learning_rte: 2\n  train: [enkoder]\n")
    assert main(["config", "check", "recipe.yaml"]) == 2
    err = capsys.readouterr().err
    assert "recipe.yaml:9: training.learning_rte: unknown option; did you mean 'learning_rate'?" in err
    assert "recipe.yaml:10: training.train.0: got 'enkoder', expected 'encoder', 'reducer', 'projector'" in err


def test_variables(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMPOSER_MODEL__REDUCER", "pool")
    assert main(["config", "check", "recipe.yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["reducer"] == [{"name": "pool", "window": 2}]


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """The part of JSON Schema that a recipe's schema uses, as its specification has it."""
    types = {"object": dict, "array": list, "string": str, "null": type(None), "integer": int, "number": (int, float)}
    types["boolean"] = bool
    if "$ref" in schema and not accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root):
        return False
    if "anyOf" in schema and not any(accepts(one, value, root) for one in schema["anyOf"]):
        return False
    if "not" in schema and accepts(schema["not"], value, root):
        return False
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return False
    named = schema.get("type", [])
    if named and not any(isinstance(value, types[name]) for name in ([named] if isinstance(named, str) else named)):
        return False
    if isinstance(value, str) and "pattern" in schema:
        return value.endswith((".yaml", ".yml"))
    if isinstance(value, list) and "items" in schema:
        return all(accepts(schema["items"], item, root) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if set(schema.get("required", [])) - set(value):
            return False
        if schema.get("additionalProperties") is False and set(value) - set(properties):
            return False
        return all(accepts(properties[key], item, root) for key, item in value.items() if key in properties)
    return True


class TestSchema:
    @pytest.fixture
    def schema(self, recipe: Path, capsys: pytest.CaptureFixture[str]) -> Any:
        assert main(["config", "schema"]) == 0
        return json.loads(capsys.readouterr().out)

    @pytest.mark.parametrize(
        "value",
        [
            yaml.safe_load(RECIPE.replace("1e-3", "0.001")),
            {"include": "a.yaml", "model": {"backbone": "tower"}},
            {"include": ["a.yaml", "b.yml"], "model": {"backbone": "backbones/b.yaml", "reducer": None}},
            {"model": {"backbone": {"width": 3}, "reducer": ["merge", {"name": "pool", "window": 2}]}},
            {"model": {"backbone": "stand-in-parts/tower", "reducer": [{"name": "stand-in-parts/pool", "window": 2}]}},
            {"model": {"prompt": {"layout": "inline", "tokenizer": ["red"]}}, "seed_everything": 3},
        ],
    )
    def test_it_accepts(self, schema: dict[str, Any], value: Any) -> None:
        assert accepts(schema, value, schema)

    @pytest.mark.parametrize(
        "value",
        [
            {"modle": {}},
            {"model": {"encodr": "host"}},
            {"model": {"encoder": "hots"}},
            {"model": {"encoder": None}},
            {"model": {"encoder": ["host"]}},
            {"model": {"backbone": {"name": "river", "widht": 3}}},
            {"model": {"backbone": {"name": "river", "width": "wide"}}},
            {"model": {"reducer": {"name": "merge", "order": "up"}}},
            {"model": {"reducer": {"name": "merge", "window": 2}}},
            {"model": {"reducer": {"name": "stand-in-parts/merge", "window": 2}}},
            {"model": {"prompt": {"layout": "odd"}}},
            {"training": {"learning_rte": 1}},
            {"include": "a.txt"},
        ],
    )
    def test_it_refuses(self, schema: dict[str, Any], value: Any) -> None:
        assert not accepts(schema, value, schema)

    def test_it_is_written_to_a_file_without_torch(self, recipe: Path, parts: Path) -> None:
        ran = run("config", "schema", "-o", "schema.json", site=parts)
        assert (ran.status, ran.torch, ran.out) == (0, False, "")
        slots = json.loads(Path("schema.json").read_text())["properties"]["model"]["properties"]
        assert "river" in slots["backbone"]["anyOf"][0]["enum"]

    def test_it_takes_no_flag_of_a_recipe(self, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "schema", "--model.encoder=host"]) == 2
        assert "takes no such flag" in capsys.readouterr().err
