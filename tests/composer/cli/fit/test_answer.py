"""`composer test` and `predict`: what they print and keep, and which options of the trainer they follow."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import composer.inference.answering
from composer.cli import main
from composer.cli.fit.answer import device_name
from composer.errors import ConfigError
from composer.recipe.trainer import TrainerConfig
from tests.composer.training.real import MODEL

TRAINER = {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False, "num_sanity_val_steps": 0}
TEST = ("test", "--config", "tiny.yaml", "--ckpt_path", "last")
COUNT = 12

SLOW = """
import sys, time
import composer.inference.answering
from composer.cli import main
generate = composer.inference.answering.generate
def slowly(*arguments, **options):
    time.sleep(0.2)
    return generate(*arguments, **options)
composer.inference.answering.generate = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml`, its data and a checkpoint in `runs/tiny`."""
    folder = tmp_path_factory.mktemp("trained")
    records = []
    for index, color in enumerate(["red", "blue"] * (COUNT // 2)):
        Image.new("RGB", (32, 32), color).save(folder / f"{index}.png")
        turns = [{"from": "human", "value": "<image>\nColor?"}, {"from": "gpt", "value": color}]
        records.append({"id": f"s{index}", "image": f"{index}.png", "conversations": turns, "question_type": "color"})
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    recipe = {
        "model": MODEL,
        "training": {"max_new_tokens": 4},
        "data": dict.fromkeys(("train", "test", "predict"), "data.jsonl") | {"num_workers": 0, "eval_batch_size": 1},
        "trainer": TRAINER,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--config", "tiny.yaml"]) == 0
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder like `trained`."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that are answered from now on."""
    generate = composer.inference.answering.generate
    sizes: list[int] = []

    def counted(model: object, batch: object, **options: object) -> list[str]:
        texts: list[str] = generate(model, batch, **options)  # type: ignore[arg-type]
        sizes.append(len(texts))
        return texts

    monkeypatch.setattr(composer.inference.answering, "generate", counted)
    return sizes


@pytest.mark.parametrize(
    ("command", "name", "questions"), [("test", "answers.jsonl", 2 * COUNT), ("predict", "predictions.jsonl", COUNT)]
)
def test_a_kill_loses_no_answer(
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    questions: int,
) -> None:
    words = [command, *TEST[1:], "--data.conditions=[normal,blind]"]
    assert main([*words, "--trainer.default_root_dir=whole", "--ckpt_path=runs/tiny"]) == 0
    printed = capsys.readouterr().out
    kept = work / "runs/tiny" / name
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 120
    while not (kept.exists() and len(kept.read_text().splitlines()) > 4) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered = len(kept.read_text().splitlines()) - 1
    assert 4 <= answered < questions
    assert not (work / "runs/tiny/results.json").exists()
    sizes = count_batches(monkeypatch)
    assert main(words) == 0
    assert sizes == [1] * (questions - answered)
    assert capsys.readouterr().out == printed.replace("whole", "runs/tiny")
    assert kept.read_text() == (work / "whole" / name).read_text()
    assert main(words) == 0
    assert len(sizes) == questions - answered


def test_another_checkpoint_starts_over_and_loses_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TEST]) == 0
    before = Path("runs/tiny/answers.jsonl").read_text()
    assert main(["test", "--config", "tiny.yaml"]) == 0  # with initial weights
    error = capsys.readouterr().err
    assert "composer: runs/tiny/answers.jsonl belongs to a different run (checkpoint: got " in error
    assert "renamed to answers.replaced-1.jsonl" in error
    assert Path("runs/tiny/answers.replaced-1.jsonl").read_text() == before
    assert json.loads(Path("runs/tiny/results.json").read_text())["checkpoint"] is None


def test_several_processes_report_once(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TEST]) == 0
    alone, answers = capsys.readouterr().out, Path("runs/tiny/answers.jsonl").read_text()
    Path("runs/tiny/answers.jsonl").unlink()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main([*TEST, "--trainer.devices=2"]) == 0
        assert capsys.readouterr().out == (alone if rank == "1" else "")
    assert Path("runs/tiny/answers.jsonl").read_text() == answers


def test_what_cannot_be_decoded_is_named_once_all_others_are_answered(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("3.png").write_bytes(b"not an image")
    assert main([*TEST]) == 1
    error = capsys.readouterr().err
    assert f"1 of {COUNT} questions cannot be asked:" in error
    assert "Fix the media files and rerun: only these questions are asked again" in error
    assert len(Path("runs/tiny/answers.jsonl").read_text().splitlines()) == COUNT
    Image.new("RGB", (32, 32), "blue").save("3.png")
    assert main([*TEST]) == 0


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--trainer.devices=2", "trainer.devices: got 2, expected 1: start a process for each device with `torchrun "),
        ("--trainer.limit_test_batches=3", "trainer.limit_test_batches: got 3, expected null"),
        ("--trainer.limit_test_batches=1", "trainer.limit_test_batches: got 1, expected null"),
        ("--trainer.fast_dev_run=true", "trainer.fast_dev_run: got True, expected null"),
        ("--trainer.accelerator=tpu", "trainer.accelerator: got tpu, expected auto, cpu, gpu, cuda or mps"),
        ("--trainer.precision=bf16-true", "trainer.precision: got bf16-true, expected 32-true, bf16-mixed or 16-mixed"),
        ("--data.test=null", "data.test: got no value, expected a .json"),
        ("--trainer.max_stepz=1", "--trainer.max_stepz: unknown option; did you mean 'max_steps'?"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    work: Path, capsys: pytest.CaptureFixture[str], flag: str, problem: str
) -> None:
    assert main([*TEST, flag]) == 2
    assert problem in capsys.readouterr().err
    assert not Path("runs/tiny/answers.jsonl").exists()


def test_options_of_training_change_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*TEST]) == 0
    sizes = count_batches(monkeypatch)
    unused = ["--trainer.max_steps=7", "--trainer.strategy=ddp", "--trainer.limit_predict_batches=1"]
    assert main([*TEST, *unused, "--trainer.limit_test_batches=1.0", "--data.eval_batch_size=3"]) == 0
    assert sizes == []


def test_mixed_precision_is_that_of_the_trainer(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        composer.inference.answering,
        "generate",
        lambda _, batch, **__: [seen.append(torch.is_autocast_enabled("cpu")) or "red"] * len(batch.ids),  # type: ignore[func-returns-value]
    )
    assert main([*TEST, "--trainer.precision=bf16-mixed"]) == 0
    assert set(seen) == {True}


@pytest.mark.parametrize(
    ("accelerator", "devices", "world", "expected"),
    [
        ("auto", "auto", 1, "auto"),
        ("cpu", 1, 1, "cpu"),
        ("gpu", "auto", 1, "cuda:0"),
        ("cuda", [3], 1, "cuda:3"),
        ("auto", "2,", 1, "cuda:2"),
        ("gpu", 4, 4, "cuda:1"),
        ("gpu", -1, 1, "cuda:0"),
    ],
)
def test_the_device_of_a_process(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, devices: object, world: int, expected: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_name(TrainerConfig(accelerator=accelerator, devices=devices), world) == expected


def test_a_device_for_each_process() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices: got \[0, 1\], expected 1: .*--nproc-per-node=2"):
        device_name(TrainerConfig(accelerator="gpu", devices=[0, 1]), 1)
