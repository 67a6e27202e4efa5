"""Every recipe trains, and every way of changing the quickstart does what it says."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from composer.cli import main
from composer.model.checkpoint import load_model, newest, read_checkpoint
from composer.recipe.resolve import resolve
from composer.recipe.stages import Stage, stages_of
from composer.recipe.yamlfile import load_recipes

ROOT = Path(__file__).parent.parent
AURORALONG = ROOT / "recipes/auroralong"  # needs weights and data
RECIPES = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if AURORALONG not in path.parents]
QUICKSTART = ROOT / "recipes/quickstart.yaml"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    assert main(["data", "synthesize", str(folder / "data/shapes"), "--train=40", "--stills=64", "--heldout=2"]) == 0
    return folder


def fit(folder: Path, recipe: Path, *flags: str) -> Path:
    """Two steps of a recipe; returns the run folder."""
    run = folder / "runs" / re.sub(r"\W+", "-", " ".join((recipe.stem, *flags)))
    small = ["--trainer.max_steps=2", "--data.batch_size=8", "--data.num_workers=0"]
    silent = ["--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={run}"]
    assert main(["fit", "--config", str(recipe), *small, *silent, *flags]) == 0
    return run


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.stem for recipe in RECIPES])
def test_a_recipe_trains_and_its_header_says_what_and_how(
    recipe: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shapes)
    run = fit(shapes, recipe)
    checkpoint = newest(run)
    assert checkpoint is not None
    assert read_checkpoint(checkpoint)["global_step"] == 2
    header = "".join(line for line in recipe.read_text().splitlines(keepends=True) if line.startswith("#"))
    for said in ("What", "On", "How long", "Score", f"composer fit --config recipes/{recipe.name}"):
        assert said in header


@pytest.mark.parametrize("stage", stages_of(AURORALONG), ids=lambda stage: stage.name)
def test_a_stage_of_auroralong_resolves_and_its_header_says_what_and_how(stage: Stage) -> None:
    recipe = resolve(load_recipes([stage.path]))
    training = recipe.training
    assert recipe.model.backbone.name == "rwkv6"
    assert training.betas == (0.9, 0.999)
    assert (training.warmup_ratio, training.warmup_start_factor, training.min_lr_ratio) == (0.03, 1e-5, 0)
    for said in ("# What", "# On", "# How long", "# Score", f"composer fit --config recipes/auroralong/{stage.name}"):
        assert said in stage.path.read_text()


def test_auroralong_has_three_stages_and_a_baseline_that_changes_only_the_backbone() -> None:
    assert [stage.name for stage in stages_of(AURORALONG)] == ["1-pretrain", "2-vision", "3-language"]
    text = yaml.safe_load((AURORALONG / "baseline-transformer.yaml").read_text())
    assert set(text) == {"model"}
    assert set(text["model"]) == {"backbone", "prompt"}
    assert text["model"]["prompt"] == {"tokenizer": None}


def test_the_transformer_recipe_changes_only_the_backbone() -> None:
    text = yaml.safe_load((ROOT / "recipes/quickstart-transformer.yaml").read_text())
    assert text["include"] == "quickstart.yaml"
    assert set(text) == {"include", "model"}
    assert set(text["model"]) == {"backbone"}


def chosen(run: Path) -> dict[str, object]:
    checkpoint = newest(run)
    assert checkpoint is not None
    config: dict[str, object] = read_checkpoint(checkpoint)["hyper_parameters"]["model"]
    return config


def test_a_flag_changes_what_it_names(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 x 32 pixels are 16 patches of 8; the clips have 8 frames."""
    monkeypatch.chdir(shapes)

    ratio = load_model(fit(shapes, QUICKSTART, "--model.reducer.keep_ratio=0.25"))
    assert ratio.processor.shape(32, 32).count == 16 - 3 * (12 // 3)

    pooling = fit(shapes, QUICKSTART, "--model.reducer=pooling")
    assert load_model(pooling).processor.shape(32, 32).count == 4
    assert [reducer["name"] for reducer in chosen(pooling)["reducer"]] == ["multimodal-composer/pooling"]  # type: ignore[attr-defined]

    for encoder in ("transformers-vision", "conv"):
        flags = ["--model.reducer=pooling"] if encoder == "conv" else []
        model = load_model(fit(shapes, QUICKSTART, f"--model.encoder={encoder}", *flags))
        assert type(model.encoder).__module__.startswith(
            "composer_example" if encoder == "conv" else "composer_plugins.transformers_vision"
        )

    transformer = load_model(fit(shapes, QUICKSTART, "--model.backbone=transformer"))
    assert "transformer" in type(transformer.backbone).__module__
    assert transformer.backbone.tokenizer.encode("red") == load_model(pooling).backbone.tokenizer.encode("red")


def test_answers_are_written_and_the_table_ends_with_overall(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shapes)
    run = fit(shapes, QUICKSTART, "--seed_everything=1")
    same = [
        "--config",
        str(QUICKSTART),
        f"--trainer.default_root_dir={run}",
        "--ckpt_path=last",
        "--data.num_workers=0",
    ]
    capsys.readouterr()
    assert main(["test", *same, "--trainer.enable_progress_bar=false"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[-1].split()[0] == "overall"
    assert {line.split()[0] for line in lines} >= {
        "color",
        "shape",
        "count",
        "direction",
        "order",
        "blind",
        "shuffled",
    }

    assert main(["predict", *same, "--data.predict=data/shapes/heldout.jsonl"]) == 0
    _, *answers = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(answers) == 2 * 5
    assert all(answer["id"] and isinstance(answer["answer"], str) for answer in answers)


def test_two_runs_of_one_seed_are_one_run(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes)
    states = []
    for name in ("once", "again"):
        checkpoint = newest(fit(shapes / name, QUICKSTART))
        assert checkpoint is not None
        states.append(read_checkpoint(checkpoint)["state_dict"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
