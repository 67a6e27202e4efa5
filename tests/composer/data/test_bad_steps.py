"""Training over samples that cannot be trained on: no step crashes, and nothing is learned from them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from composer.batch import Batch
from composer.cli import main
from composer.data.dataset import without_loss
from composer.data.steps import packed_rows
from composer.model.checkpoint import model_weights, newest, read_checkpoint
from composer.model.processor import collate
from tests.composer.data.recipes import talk, write_data, write_lines
from tests.composer.data.test_steps import BACKBONES, examples, gradients, model_with

BAD = [talk("gone", image="gone.png"), talk("long", "Why? " * 200, image="0.png"), {"id": "none"}]


def recipe(folder: Path, records: list[dict[str, Any]], **data: Any) -> Path:
    write_data(folder / "set")
    write_lines(folder / "set/images/train.jsonl", records)
    model = {
        "encoder": {"name": "openclip", "image_size": 16, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
        "projector": "mlp",
        "backbone": {"name": "rwkv6", "width": 32, "depth": 2, "head_size": 16, "context_length": 300},
        "prompt": {"tokenizer": "bytes"},
    }
    trainer = {"accelerator": "cpu", "max_steps": 3, "logger": False, "enable_progress_bar": False}
    sections = {
        "model": model,
        "training": {"learning_rate": 0.01, "warmup_ratio": 0, "trainable": ["projector"]},
        "data": {"train": str(folder / "set/images/train.jsonl"), "num_workers": 0, "batch_size": 2, **data},
        "trainer": {**trainer, "default_root_dir": str(folder / "run")},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.mark.parametrize("packing", [{}, {"max_tokens": 400, "global_batch_size": 4}], ids=["padded", "packed"])
def test_steps_of_bad_samples_alone_do_not_stop_a_run(tmp_path: Path, packing: dict[str, int]) -> None:
    path = recipe(tmp_path, BAD, max_bad_samples=1.0, **packing)
    assert main(["fit", "--config", str(path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/bad_samples.jsonl").read_text().splitlines()]
    assert len(lines) >= 3 * packing.get("global_batch_size", 2)
    file = str(tmp_path / "set/images/train.jsonl")
    reasons = {line["id"]: line["reason"] for line in lines}
    assert reasons.keys() == {"gone", "long", f"{file}:3"}
    assert "no such file" in reasons["gone"]
    assert "context is 300" in reasons["long"]
    assert '"conversations": got NoneType, expected a list of turns' in reasons[f"{file}:3"]
    assert {line["source"] for line in lines} == {file}


def test_a_resumed_run_passes_the_bad_sample_again(tmp_path: Path) -> None:
    good = [talk(str(n), image="0.png") for n in range(3)]
    path = recipe(tmp_path, [*good, *BAD], max_bad_samples=1.0)
    flags = ["fit", "--config", str(path), "--training.trainable=[projector,backbone]", "--trainer.max_steps=6"]
    assert main([*flags, "--training.save_every_steps=1", "--training.keep_checkpoints=6"]) == 0
    last = newest(tmp_path / "run")
    assert last is not None
    (tmp_path / "again/checkpoints").mkdir(parents=True)
    shutil.copy(last.with_name("step-00000002.ckpt"), tmp_path / "again/checkpoints")
    assert main([*flags, f"--trainer.default_root_dir={tmp_path / 'again'}", "--ckpt_path=last"]) == 0
    start, end, again = (
        model_weights(read_checkpoint(file))
        for file in (last.with_name("step-00000002.ckpt"), last, tmp_path / "again/checkpoints" / last.name)
    )
    assert any(not torch.equal(value, start[name]) for name, value in end.items())
    assert all(torch.equal(value, again[name]) for name, value in end.items())


def test_too_many_bad_samples_and_a_strict_length_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, BAD, max_bad_samples=0.0)
    assert main(["fit", "--config", str(path)]) == 1
    assert "1 of 1 samples cannot be used for training, but data.max_bad_samples allows 0.0%" in capsys.readouterr().err
    write_lines(tmp_path / "set/images/train.jsonl", [BAD[1]] * 2)
    assert main(["fit", "--config", str(path), "--data.too_long=error"]) == 1
    assert "the backbone's context is 300" in capsys.readouterr().err
    assert main(["fit", "--config", str(path), "--data.too_long=cut"]) == 2
    assert main(["fit", "--config", str(path), "--data.max_bad_media=0.5"]) == 2
    assert "--data.max_bad_media: renamed to 'max_bad_samples'" in capsys.readouterr().err


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("max_tokens", [None, 150])
def test_bad_samples_leave_the_gradients_of_a_step_as_they_are(backbone: str, max_tokens: int | None) -> None:
    model = model_with(backbone)
    good = examples(model)
    mixed = [without_loss("a"), *good[:2], without_loss("b"), *good[2:]]
    batches: list[Batch] = [collate(mixed)]
    if max_tokens is not None:
        rows = packed_rows([mixed], max_tokens)
        assert isinstance(rows, list)
        batches = rows
    loss, expected = gradients(model, [collate(good)])
    got, found = gradients(model, batches)
    torch.testing.assert_close(got, loss, rtol=1e-5, atol=1e-6)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) or 1.0
        torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=0, atol=2e-4, msg=name)
