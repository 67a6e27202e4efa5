"""`composer config`: check, show, explain, diff and schema."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.cli import main
from composer.recipe.schema import recipe_schema
from composer.recipe.yamlfile import load_yaml
from tests.composer.cli.light import run

RECIPES = Path(__file__).parents[3] / "recipes"
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


def test_check_says_ok_and_one_note_without_torch(recipe: Path, parts: Path) -> None:
    ran = run("config", "check", "--model.backbone=tower", "recipe.yaml", "--model.backbone.width", "2", site=parts)
    assert (ran.status, ran.torch, ran.out) == (0, False, "recipe.yaml: ok\n")
    assert ran.err == (
        "composer: options dropped with their component: width, pretrained of backbone 'river' (recipe.yaml:6)"
    )


def test_what_show_prints_is_a_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "recipe.yaml", "--model.reducer=[merge, pool]", "--data.train=a.jsonl"]) == 0
    printed = capsys.readouterr().out
    Path("printed.yaml").write_text(printed)
    assert main(["config", "show", "printed.yaml"]) == 0
    assert capsys.readouterr().out == printed
    assert yaml.safe_load(printed)["data"]["train"] == ["a.jsonl"]


def test_explain_says_where_every_value_is_from(recipe: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.write_text(RECIPE + "data:\n  sources: {talk: {reader: {name: llava, path: x}}}\n  train: talk\n")
    Path("over.yaml").write_text("model:\n  backbone: {width: 6}\ntrainer:\n  callbacks: [{class_path: a.B}]\n")
    monkeypatch.setenv("COMPOSER_DATA__FRAMES", "3")
    ran = run("config", "explain", "recipe.yaml", "over.yaml", "--seed_everything=7", site=parts)
    assert (ran.status, ran.torch) == (0, False)
    for line in (
        'model.reducer.0.name: "merge"  (recipe.yaml:4)',
        'model.reducer.0.order: "ascending"  (default)',
        "model.backbone.width: 6  (over.yaml:2)",
        'model.backbone.pretrained: "RIVER"  (recipe.yaml:6)',
        "training.learning_rate: 0.001  (recipe.yaml:8)",
        "training.weight_decay: 0.0  (default)",
        'data.sources.talk.reader.path: "x"  (recipe.yaml:10)',
        "data.sources.talk.reader.fps: null  (default)",
        'data.train: ["talk"]  (recipe.yaml:11)',
        "data.frames: 3  ($COMPOSER_DATA__FRAMES)",
        'trainer.callbacks.0.class_path: "a.B"  (over.yaml:4)',
        "seed_everything: 7  (--seed_everything)",
    ):
        assert line in ran.out.splitlines(), line


def test_diff_says_what_differs(recipe: Path, parts: Path) -> None:
    Path("other.yaml").write_text(RECIPE.replace("0.1", "0.2") + "data: {frames: 3}\n")
    ran = run("config", "diff", "recipe.yaml", "other.yaml", site=parts)
    assert (ran.status, ran.torch) == (0, False)
    assert ran.out.splitlines() == ["model.reducer.0.ratio: 0.1 -> 0.2", "data.frames: 8 -> 3"]


def test_a_folder_is_checked_stage_by_stage(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = Path("stages")
    stages.mkdir()
    for number in (1, 2):
        (stages / f"{number}-x.yaml").write_text("include: ../recipe.yaml\n" + "data: {framez: 3}\n" * (number == 2))
    (stages / "evaluation.yaml").write_text("evaluation: [{benchmark: mlvuu, root: x}]\ndata: {frames: 3}\n")
    assert main(["config", "check", "stages"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "composer: stages/evaluation.yaml:2: data: expected only the section `evaluation:` here",
        "stages/2-x.yaml:2: data.framez: unknown option; did you mean 'frames'? Options: train, order, validation, "
        "test, predict, sources, root, media_root, expected_samples, frames, batch_size, global_batch_size, "
        "max_tokens, eval_batch_size, num_workers, seed, max_bad_samples, too_long, conditions",
        "stages/evaluation.yaml:1: evaluation.0: unknown benchmark 'mlvuu': did you mean 'mlvu'? Installed: "
        "activitynet-qa, mlvu, moviechat-1k, mvbench, vatex, vdc",
    ]


def test_check_says_all_errors_without_torch(recipe: Path, parts: Path) -> None:
    ran = run("config", "check", "recipe.yaml", "--model.reducer.ratoi=1", "--model.encoder=plane", site=parts)
    assert (ran.status, ran.torch) == (2, False)
    assert "--model.reducer.ratoi: unknown option; did you mean 'ratio'?" in ran.err
    assert "--model.encoder: unknown encoder 'plane': did you mean 'plain'?" in ran.err
    assert "Traceback" not in ran.err


def test_check_looks_at_sources_too(recipe: Path, parts: Path) -> None:
    recipe.write_text(RECIPE + "data:\n  sources: {talk: {reader: {name: lava, path: x}}}\n  train: [talk, talc]\n")
    ran = run("config", "check", "recipe.yaml", site=parts)
    assert (ran.status, ran.torch) == (2, False)
    assert "recipe.yaml:10: data.sources.talk.reader: unknown reader 'lava': did you mean 'llava'?" in ran.err
    assert "recipe.yaml:11: data.train.1: got 'talc', unknown source; did you mean 'talk'? Sources: talk" in ran.err


def test_check_looks_at_training_too(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE + "  learning_rte: 2\n  trainable: [enkoder]\n")
    assert main(["config", "check", "recipe.yaml"]) == 2
    err = capsys.readouterr().err
    assert "recipe.yaml:9: training.learning_rte: unknown option; did you mean 'learning_rate'?" in err
    assert "recipe.yaml:10: training.trainable.0: got 'enkoder', expected 'encoder', 'reducer', 'projector'" in err


def test_variables(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMPOSER_MODEL__REDUCER", "pool")
    monkeypatch.setenv("COMPOSER_TRAINER__MAX_STEPS", "9")
    assert main(["config", "show", "recipe.yaml"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["reducer"] == [{"name": "pool", "window": 2}]
    assert shown["trainer"]["max_steps"] == 9
    monkeypatch.setenv("COMPOSER_TRAINR__MAX_STEPS", "9")
    assert main(["config", "show", "recipe.yaml"]) == 2
    assert "$COMPOSER_TRAINR__MAX_STEPS: trainr: unknown section; did you mean 'trainer'?" in capsys.readouterr().err


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
        return re.search(schema["pattern"], value) is not None
    if isinstance(value, int | float) and value < schema.get("minimum", -math.inf):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(accepts(schema["items"], item, root) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if set(schema.get("required", [])) - set(value):
            return False
        if schema.get("additionalProperties") is False and set(value) - set(properties):
            return False
        others = schema.get("additionalProperties", True)
        below = {key: properties.get(key, others) for key in value}
        return all(accepts(below[key], item, root) for key, item in value.items() if isinstance(below[key], dict))
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
            {
                "data": {
                    "train": "a.jsonl",
                    "test": ["a", {"source": "a", "repeat": 2}],
                    "sources": {"a": {"samples": 3}},
                }
            },
            {"data": {"sources": {"a": {"reader": {"name": "llava", "path": "a"}}, "b": {"reader": {"path": "c"}}}}},
            {"trainer": {"precision": "bf16-mixed", "callbacks": [{"class_path": "a.B"}], "max_steps": 3}},
            {"evaluation": [{"benchmark": "mlvu", "root": "x", "limit": 3, "model": {"reducer": {"window": 3}}}]},
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
            {"training": {"train": ["projector"]}},
            {"data": {"framez": 3}},
            {"data": {"frames": 0}},
            {"data": {"train": [{"sauce": "a"}]}},
            {"data": {"sources": {"a": {"reader": {"name": "llava", "paht": "a"}}}}},
            {"data": {"sources": {"a": {"reader": "lava"}}}},
            {"trainer": {"max_stepz": 3}},
            {"trainer": {"precision": "bf17"}},
            {"seed_everything": "three"},
            {"evaluation": [{"benchmark": "mlvu", "root": "x", "framez": 3}]},
            {"evaluation": [{"benchmark": "mlvu"}]},
            {"evaluation": [{"benchmark": "mlvuu", "root": "x"}]},
            {"include": "a.txt"},
        ],
    )
    def test_it_refuses(self, schema: dict[str, Any], value: Any) -> None:
        assert not accepts(schema, value, schema)

    @pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
    def test_it_accepts_our_recipes(self, path: Path) -> None:
        schema = recipe_schema()
        assert accepts(schema, load_yaml(path).plain(), schema)

    def test_it_is_written_to_a_file_without_torch(self, recipe: Path, parts: Path) -> None:
        ran = run("config", "schema", "-o", "schema.json", site=parts)
        assert (ran.status, ran.torch, ran.out) == (0, False, "")
        slots = json.loads(Path("schema.json").read_text())["properties"]["model"]["properties"]
        assert "river" in slots["backbone"]["anyOf"][0]["enum"]

    def test_it_takes_no_flag_of_a_recipe(self, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "schema", "--model.encoder=host"]) == 2
        assert "takes no such flag" in capsys.readouterr().err
