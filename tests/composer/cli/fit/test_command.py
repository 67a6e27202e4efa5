"""`composer fit | validate | test | predict` on a tiny model of first-party parts and made pictures."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from composer.cli import main
from composer.figures.curves import curves_figure, read_curves
from composer.recipe.data import DataConfig
from composer.recipe.trainer import TrainerConfig
from composer.recipe.training import TrainingConfig
from tests.composer.cli.light import run
from tests.composer.training.real import MODEL

TRAINING = {"learning_rate": 0.01, "trainable": ["projector", "backbone"], "max_new_tokens": 4}
TRAINER = {
    "max_steps": 2,
    "log_every_n_steps": 1,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `tiny.yaml` and eight pictures to ask about."""
    monkeypatch.chdir(tmp_path)
    records = []
    for index, color in enumerate(["red", "blue"] * 4):
        Image.new("RGB", (32, 32), color).save(f"{index}.png")
        turns = [{"from": "human", "value": "<image>\nColor?"}, {"from": "gpt", "value": color}]
        records.append({"id": f"s{index}", "image": f"{index}.png", "conversations": turns, "question_type": "color"})
    Path("data.jsonl").write_text("\n".join(map(json.dumps, records)))
    files = dict.fromkeys(("train", "validation", "test", "predict"), "data.jsonl")
    recipe = {"model": MODEL, "training": TRAINING, "data": files | {"num_workers": 0}, "trainer": TRAINER}
    Path("tiny.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return tmp_path


FIT = ("fit", "--config", "tiny.yaml")


def steps(folder: str = "runs/tiny") -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in Path(folder, "checkpoints").glob("*.ckpt"))


class TestWithoutTorch:
    def test_help(self) -> None:
        ran = run("fit", "--help")
        assert (ran.status, ran.torch) == (0, False)
        for text in ("--config RECIPE", "--model.backbone=NAME", "rwkv6", "--training.learning_rate=", "--help-all"):
            assert text in ran.out

    def test_every_problem_of_the_model(self, folder: Path) -> None:
        ran = run(
            *FIT, "--model.backbone=rwkv8", "--model.reducer.keep_ratoi=1", "--trainer.max_steps=1", folder=folder
        )
        assert (ran.status, ran.torch, ran.out) == (2, False, "")
        assert ran.err.startswith("composer: --model.reducer.keep_ratoi: unknown option; did you mean")
        assert "--model.backbone: unknown backbone 'rwkv8': did you mean 'rwkv7'?" in ran.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                [*FIT, "--training.learning_rat=1"],
                "--training.learning_rat: unknown option; did",
            ),
            (
                [*FIT, "--training.learning_rate=-1"],
                "--training.learning_rate: got -1, expected",
            ),
            ([*FIT, "--modell.backbone=x"], "--modell.backbone: unknown flag; did you mean '--model'?"),
            ([*FIT, "tiny.yaml"], "'tiny.yaml': expected a flag such as --trainer.max_steps=100"),
            (["fit", "--config", "no.yaml"], "cannot read 'no.yaml': No such file or directory"),
            ([*FIT, "--data.train=[tiny]"], "--data.train: data.train.0: got 'tiny', unknown source. Sources: none"),
            ([*FIT, "--data.sources.a.reader=lava"], "--data.sources.a.reader: unknown reader"),
            (["fit"], "model.encoder: a value is missing; name one with --model.encoder=NAME"),
        ],
    )
    def test_other_errors(self, folder: Path, arguments: list[str], said: str) -> None:
        ran = run(*arguments, folder=folder)
        assert (ran.status, ran.torch) == (2, False)
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_fit_saves_a_run_that_can_be_repeated(folder: Path) -> None:
    assert main([*FIT, "--model.reducer.keep_ratio=0.5", "--training.learning_rate=0.02", "--data.frames", "3"]) == 0
    assert steps() == [1, 2]
    saved = yaml.safe_load(Path("runs/tiny/version_0/config.yaml").read_text())
    assert saved["model"]["reducer"][0]["keep_ratio"] == 0.5
    assert saved["training"]["learning_rate"] == 0.02
    assert saved["data"]["frames"] == 3
    assert saved["trainer"]["max_steps"] == 2
    assert saved["seed_everything"] == 0
    version = Path("runs/tiny/version_0")
    assert "train/loss" in (version / "metrics.csv").read_text()
    assert list(version.glob("events.out.tfevents.*"))
    assert main(["fit", "--config", str(version / "config.yaml"), "--trainer.default_root_dir=again"]) == 0
    again = yaml.safe_load(Path("again/version_0/config.yaml").read_text())
    assert again == saved | {"trainer": saved["trainer"] | {"default_root_dir": "again"}}


def test_last_starts_afresh_then_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--ckpt_path", "last"]) == 0
    assert "composer: no checkpoint in 'runs/tiny' yet: starting afresh\n" in capsys.readouterr().err
    assert main([*FIT, "--ckpt_path=last", "--trainer.max_steps=3"]) == 0
    assert "composer: checkpoint runs/tiny/checkpoints/step-00000002.ckpt\n" in capsys.readouterr().err
    assert steps()[-1] == 3
    assert main([*FIT, "--ckpt_path=last", "--training.initial_weights=runs/tiny", "--trainer.default_root_dir=2"]) == 0
    assert "composer: no checkpoint in '2' yet: starting from runs/tiny\n" in capsys.readouterr().err


def test_a_new_fit_spares_the_checkpoints_of_another(folder: Path) -> None:
    old = Path("runs/tiny/before/checkpoints/step-00000001.ckpt")
    old.parent.mkdir(parents=True)
    old.touch()
    ran = run(*FIT, folder=folder)
    assert (ran.status, ran.torch) == (2, False)
    assert "The run folder 'runs/tiny' already contains checkpoints" in ran.err
    for way in ("--ckpt_path last", "--trainer.default_root_dir=DIR", "delete the folder"):
        assert way in ran.err
    assert run(*FIT, "--trainer.fast_dev_run=false", folder=folder).status == 2
    assert main([*FIT, "--trainer.fast_dev_run=1"]) == 0
    Path("short.yaml").write_text("trainer: {fast_dev_run: true, default_root_dir: runs/tiny}")
    assert main([*FIT, "--config", "short.yaml"]) == 0
    with pytest.raises(SystemExit, match="0"):
        main([*FIT, "--print_config"])
    assert [path for path in Path("runs").rglob("*") if path.is_file()] == [old]
    assert main([*FIT, "--trainer.default_root_dir=other"]) == 0
    assert steps("other")[-1] == 2


def test_a_checkpoint_is_the_lowest_layer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--model.reducer.keep_ratio=0.5"]) == 0
    capsys.readouterr()
    data = ["--data.test=data.jsonl", "--data.num_workers=0", "--trainer.enable_progress_bar=false"]
    assert main(["test", "--ckpt_path", "runs/tiny", "--trainer.accelerator=cpu", *data]) == 0
    assert "unlike the checkpoint" not in capsys.readouterr().err
    assert len(Path("runs/tiny/answers.jsonl").read_text().splitlines()) == 1 + 8
    assert main(["test", "--ckpt_path", "runs/tiny", "--model.reducer.keep_ratio=0.75", *data]) == 0
    assert "unlike the checkpoint, model.reducer.0.keep_ratio is 0.75 and not 0.5\n" in capsys.readouterr().err
    assert not Path("runs/tiny/version_1").exists()
    assert not Path("runs/tiny/config.yaml").exists()


def test_validate_and_predict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", "tiny.yaml"]) == 0
    captured = capsys.readouterr()
    assert "composer: no --ckpt_path: the model keeps its initial weights\n" in captured.err
    assert "val/loss" in captured.out
    assert main(["predict", "--config", "tiny.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs/tiny/predictions.jsonl"
    _, *records = [json.loads(line) for line in Path("runs/tiny/predictions.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"s{index}" for index in range(8)]


def test_no_checkpoint_to_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in [
        ("last", "There is no complete checkpoint in 'runs/tiny': train with `composer fit` first"),
        ("nowhere", "There is no checkpoint 'nowhere': give a checkpoint file, a run folder, or `last`"),
    ]:
        assert main(["test", "--config", "tiny.yaml", "--ckpt_path", given]) == 1
        assert capsys.readouterr().err == f"composer: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trainer.max_stepz=1"], "--trainer.max_stepz: unknown option; did you mean 'max_steps'?"),
        (["--trainer.max_step=1"], "--trainer.max_step: unknown option; did you mean 'max_steps'?"),
        (["--trainer.max_step", "1"], "--trainer.max_step: unknown option; did you mean 'max_steps'?"),
        (["--data.framez=1"], "--data.framez: unknown option; did you mean 'frames'?"),
        (["--data.frames=two"], "--data.frames: got 'two', expected a valid integer"),
        (
            ["--config", "wrong.yaml"],
            "wrong.yaml:3: trainer.max_stepz: unknown option; did you mean 'max_steps'?",
        ),
        (["--config", "type.yaml"], "type.yaml:2: data.frames: got 'two', expected a valid integer"),
        (["--data.frames=0"], "--data.frames: got 0, expected at least 1"),
        (["--trainer.devices=0"], "Lightning: "),
        (["--trainer.strategy=fsdp"], "trainer.strategy: got fsdp, expected auto, ddp"),
        (["--trainer.strategy=deepspeed_stage_2"], "trainer.strategy: got deepspeed_stage_2, expected auto, ddp"),
        (["--seed_everything=x"], "--seed_everything: got 'x', expected a valid integer"),
    ],
)
def test_what_lightning_finds_wrong(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("trainer:\n  max_steps: 3\n  max_stepz: 3\n")
    Path("type.yaml").write_text("data:\n  frames: two\n")
    assert main([*FIT, *arguments]) == 2
    shown = capsys.readouterr().err
    assert f"composer: {said}" in shown
    assert shown.count("unknown option") <= 1
    assert not Path("runs").exists()


def test_print_config_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*FIT, "--model.reducer=pooling", "--print_config"])
    assert raised.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert [reducer["name"] for reducer in printed["model"]["reducer"]] == ["pooling"]
    assert printed["trainer"]["max_steps"] == 2
    assert not Path("runs").exists()


def test_interrupt(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("composer.training.module.ComposerModule.training_step", interrupt)
    assert main([*FIT, "--ckpt_path", "last", "--data.frames=3"]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    command = "composer fit --config tiny.yaml --data.frames=3 --ckpt_path last"
    assert captured.err.endswith(f"composer: interrupted. To resume: {command}\n")


@pytest.mark.parametrize(
    ("arguments", "folder_of_run", "following"),
    [
        ((), "runs/tiny", "composer test --config tiny.yaml --ckpt_path last"),
        (
            ("--trainer.default_root_dir", "a b"),
            "a b",
            "composer test --config tiny.yaml --trainer.default_root_dir 'a b' --ckpt_path last",
        ),
        (("--data.test=null",), "runs/tiny", "composer ask runs/tiny QUESTION --video FILE"),
    ],
)
def test_fit_ends_with_its_folder_its_checkpoint_and_what_comes_next(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], folder_of_run: str, following: str
) -> None:
    assert main([*FIT, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    checkpoint = f"{folder_of_run}/checkpoints/step-00000002.ckpt"
    assert lines == [f"Run folder: {folder_of_run}", f"Checkpoint: {checkpoint}", f"Next: {following}"]
    if following.startswith("composer test"):
        assert main(shlex.split(following)[1:]) == 0
        assert f"checkpoint {checkpoint}\n" in capsys.readouterr().err


def test_stderr_of_fit_is_progress_and_notes_without_noise(folder: Path) -> None:
    ran = run(*FIT, "--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=50")
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 3
    assert "Epoch 0: 100%" in ran.err
    for noise in ("Sanity", "GPU", "TPU", "HPU", "Tip", "site-packages", "Warning"):
        assert noise not in ran.err


@pytest.mark.parametrize("batch_size", ["--data.batch_size=2", "--data.global_batch_size=2"])
def test_a_figure_marks_where_sources_in_turn_change(folder: Path, batch_size: str) -> None:
    records = Path("data.jsonl").read_text().splitlines()
    Path("first.jsonl").write_text("\n".join(records[:3]))
    flags = ["--data.train=[first.jsonl,data.jsonl]", batch_size, "--trainer.max_steps=6"]
    flags += ["--trainer.log_every_n_steps=1", "--data.validation=null"]
    assert main([*FIT, *flags, "--data.order=in-turn"]) == 0
    # Steps 0 and 1 open with samples 0 and 2 of the three of the first source, step 2 with sample 4.
    assert read_curves(Path("runs/tiny"))["train/source"] == [(step, float(step > 1)) for step in range(6)]
    for axes in curves_figure(Path("runs/tiny")).axes:
        (line,) = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
        assert list(line.get_xdata()) == [2, 2]
    assert main([*FIT, *flags, "--trainer.default_root_dir=mixed"]) == 0
    assert "train/source" not in read_curves(Path("mixed"))


def test_loggers_and_progress_bar_are_the_users_where_given(folder: Path) -> None:
    Path("own.yaml").write_text(
        "trainer:\n  logger: false\n  enable_progress_bar: true\n  callbacks:\n"
        "  - class_path: lightning.pytorch.callbacks.TQDMProgressBar\n    init_args: {refresh_rate: 0}\n"
    )
    assert main([*FIT, "--config", "own.yaml"]) == 0
    assert steps("runs/own")[-1] == 2
    assert not list(Path("runs/own").glob("version_*"))


def test_help_all_has_the_light_part_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help-all"]) == 0
    text = capsys.readouterr().out
    for option in ("--model.backbone=NAME", "--data.frames", "--trainer.accumulate_grad_batches"):
        assert option in text


def test_help_describes_every_option_of_training_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for section, config in (("training", TrainingConfig), ("data", DataConfig)):
        for name, field in config.model_fields.items():
            assert f"--{section}.{name}=" in text
            assert field.description
            assert " ".join(field.description.split()) in words
    for name in TrainerConfig.model_fields:
        assert name in words
    assert "--data.frames=                       integer, default: 8" in text


def test_the_saved_config_has_all_sections_and_is_a_recipe(folder: Path) -> None:
    assert main([*FIT, "--data.frames=3"]) == 0
    (path,) = Path("runs/tiny").rglob("config.yaml")
    saved = yaml.safe_load(path.read_text())
    assert saved["data"]["frames"] == 3
    assert saved["data"]["train"] == ["data.jsonl"]
    assert saved["training"]["learning_rate"] == 0.01
    assert main(["config", "check", str(path)]) == 0
