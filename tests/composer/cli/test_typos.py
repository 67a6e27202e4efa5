"""A typo in any section of a recipe is refused by every command, with its line and the nearest name, before torch."""

import shlex
from pathlib import Path

import pytest

from composer.cli import main
from tests.composer.cli.light import run

COMMANDS = {
    "config check": "config check {}",
    "config explain": "config explain {}",
    "plan": "plan {}",
    "run": "run {}",
    "fit": "fit --config {}",
    "data check": "data check {}",
}

TYPOS = {
    "modle: {}": "modle: unknown section; did you mean 'model'?",
    "model: {encodr: openclip}": "model.encodr: unknown slot; did you mean 'encoder'?",
    "model: {backbone: {widht: 8}}": "model.backbone.widht: unknown option; did you mean 'width'?",
    "model: {reducer: tomee}": "model.reducer: unknown reducer 'tomee': did you mean 'tome'?",
    "model: {prompt: {layuot: inline}}": "model.prompt.layuot: unknown option; did you mean 'layout'?",
    "training: {learning_rte: 1}": "training.learning_rte: unknown option; did you mean 'learning_rate'?",
    "training: {trainable: [enkoder]}": "training.trainable.0: got 'enkoder', expected 'encoder', 'reducer'",
    "data: {framez: 3}": "data.framez: unknown option; did you mean 'frames'?",
    "data: {frames: three}": "data.frames: got 'three', expected a valid integer",
    "data: {train: [stils]}": "data.train.0: got 'stils', unknown source; did you mean 'stills'?",
    "data: {sources: {stills: {repat: 2}}}": "data.sources.stills.repat: unknown option; did you mean 'repeat'?",
    "data: {sources: {stills: {reader: {paht: x}}}}": "data.sources.stills.reader.paht: unknown option; did you mean",
    "data: {sources: {stills: {reader: lava}}}": "data.sources.stills.reader: unknown reader 'lava': did you mean",
    "trainer: {max_stepz: 3}": "trainer.max_stepz: unknown option; did you mean 'max_steps'?",
    "trainer: {max_steps: three}": "trainer.max_steps: got 'three', expected a valid integer",
    "trainer: {precision: bf17}": "trainer.precision: got 'bf17', expected '64'",
    "seed_everything: three": "seed_everything: got 'three', expected a valid integer",
    "evaluation: [{benchmark: mlvuu}]": "evaluation.0: unknown benchmark 'mlvuu': did you mean 'mlvu'?",
    "evaluation: [{benchmark: mlvu, root: x, framez: 3}]": "evaluation.0.framez: unknown option; did you mean 'f",
    "evaluation: [{benchmark: mlvu, root: x, limt: 3}]": "evaluation.0.limt: unknown option; did you mean 'limit'?",
    "training: {train: [projector]}": "training.train: renamed to 'trainable'",
    "training: {warmup: 0.1}": "training.warmup: renamed to 'warmup_ratio'",
    "training: {final_factor: 0.1}": "training.final_factor: renamed to 'min_lr_ratio'",
    "data: {sources: {stills: {licence: MIT}}}": "data.sources.stills.licence: renamed to 'license'",
    "data: {max_bad_media: 0.1}": "data.max_bad_media: renamed to 'max_bad_samples'",
}

BASE = """
include: composer:quickstart
data:
  sources: {stills: {reader: {name: llava, path: data/shapes/stills.jsonl}}}
  train: stills
"""


@pytest.fixture(autouse=True)
def _base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)

    def refuse(words: object) -> int:
        raise AssertionError(f"{words} was started")

    monkeypatch.setattr("composer.runs.run.start_process", refuse)


def write(path: str, typo: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(f"include: {'../' * path.count('/')}base.yaml\n\n{typo}\n")


@pytest.mark.parametrize("typo", TYPOS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_typo_is_refused(command: str, typo: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("wrong.yaml", typo)
    assert main(shlex.split(COMMANDS[command].format("wrong.yaml"))) == 2
    assert f"wrong.yaml:3: {TYPOS[typo]}" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_refused_without_torch(command: str) -> None:
    write("wrong.yaml", "data: {framez: 3}\ntrainer: {max_stepz: 3}\nevaluation: [{benchmark: mlvuu}]")
    ran = run(*shlex.split(COMMANDS[command].format("wrong.yaml")))
    assert (ran.status, ran.torch) == (2, False)
    for key in ("data.framez", "trainer.max_stepz", "evaluation.0"):
        assert key in ran.err, "all at once"


@pytest.mark.parametrize("typo", TYPOS)
@pytest.mark.parametrize("command", ["config check", "plan", "run"])
def test_a_typo_in_the_second_stage_or_an_overlay_is_refused_before_the_first_one_starts(
    command: str, typo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("stages/1-first.yaml", "")
    write("stages/2-second.yaml", typo)
    assert main([*command.split(), "stages"]) == 2
    assert f"stages/2-second.yaml:3: {TYPOS[typo]}" in capsys.readouterr().err
    write("stages/2-second.yaml", "")
    Path("overlay.yaml").write_text(typo)
    overlay = ["overlay.yaml"] if command == "config check" else ["--overlay", "overlay.yaml"]
    assert main([*command.split(), "stages", *overlay]) == 2
    assert f"overlay.yaml:1: {TYPOS[typo]}" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--data.framez=3", "--data.framez: unknown option; did you mean 'frames'?"),
        ("--trainer.max_stepz=3", "--trainer.max_stepz: unknown option; did you mean 'max_steps'?"),
        ("--max_steps=3", "--max_steps: unknown flag; did you mean --trainer.max_steps?"),
        ("--max-steps=3", "--max-steps: unknown flag; did you mean --trainer.max_steps?"),
        ("--frames=3", "--frames: unknown flag; did you mean --data.frames?"),
        ("--backbone.width=3", "--backbone.width: unknown flag; did you mean --model.backbone.width?"),
        ("--trainr.max_steps=3", "--trainr.max_steps: unknown flag; did you mean '--trainer'?"),
    ],
)
@pytest.mark.parametrize("command", ["config check", "plan", "run", "fit"])
def test_a_flag_is_refused(command: str, flag: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*shlex.split(COMMANDS[command].format("base.yaml")), flag]) == 2
    assert said in capsys.readouterr().err


def test_every_variable_is_checked_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMPOSER_DATA__FRAMEZ", "3")
    monkeypatch.setenv("COMPOSER_SEED_EVERYTHING", "three")
    monkeypatch.setenv("COMPOSER_HOME", "of another tool")
    assert main(["config", "check", "base.yaml"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("composer: $COMPOSER_DATA__FRAMEZ: data.framez: unknown option; did you mean 'frames'?")
    assert second.startswith("$COMPOSER_SEED_EVERYTHING: seed_everything: got 'three'")
