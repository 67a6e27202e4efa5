"""`runs.run` as a function: what it starts follows from its arguments alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from composer.errors import ConfigError, DataError
from composer.runs.run import run

STAGE = {
    "model": {"encoder": "openclip", "projector": "mlp", "backbone": "transformer", "prompt": {"tokenizer": "bytes"}},
    "data": {"train": "train.jsonl"},
    "trainer": {"max_steps": 2},
}
FOLDER = Path("recipes/two")


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FOLDER.mkdir(parents=True)
    for name in ("1-one", "2-two"):
        (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(STAGE))
    Path("train.jsonl").write_text("")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that are started; each ends well."""
    commands: list[str] = []

    def pretend(words: Sequence[str]) -> int:
        commands.append(" ".join(words))
        return 0

    monkeypatch.setattr("composer.runs.run.start_process", pretend)
    return commands


def fit(stage: str, *options: str, folder: str = "runs/two") -> str:
    return " ".join(
        [
            f"fit --config {FOLDER}/{stage}.yaml",
            *options,
            f"--ckpt_path last --trainer.default_root_dir={folder}/{stage}",
        ]
    )


def test_every_stage_is_a_command_and_runs_once(started: list[str]) -> None:
    assert run(FOLDER) == 0
    second = fit("2-two", "--training.initial_weights=runs/two/1-one")
    assert started == [fit("1-one"), second]
    assert run(FOLDER) == 0
    assert len(started) == 2
    assert run(FOLDER, start="2-two") == 0
    assert started[2:] == [second]


def test_flags_and_output_reach_the_command_of_the_selected_stage(started: list[str]) -> None:
    flags = [("--trainer.max_steps", "5"), ("--data.frames", "3")]
    assert run(FOLDER, stage="1-one", flags=flags, output=Path("out")) == 0
    assert started == [fit("1-one", folder="out") + " --data.frames=3 --trainer.max_steps=5"]


def test_variables_count_only_if_they_are_passed(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSER_DATA__FRAMES", "typo")
    assert run(FOLDER, stage="1-one") == 0
    with pytest.raises(ConfigError, match=r"COMPOSER_DATA__FRAMES.*'typo'"):
        run(FOLDER, environment={"COMPOSER_DATA__FRAMES": "typo"})


def test_status_of_a_stage_that_fails_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("composer.runs.run.start_process", lambda words: 3)
    assert run(FOLDER) == 3
    lines = [json.loads(line) for line in Path("runs/two/run.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["status"]) for line in lines] == [("1-one", "started"), ("1-one", "failed")]


def test_nothing_is_written_for_a_name_or_a_flag_that_is_wrong(started: list[str]) -> None:
    with pytest.raises(ConfigError, match="--stage: got 'one', expected one of 1-one, 2-two"):
        run(FOLDER, stage="one")
    with pytest.raises(ConfigError, match="--from: got 'x', expected one of 1-one, 2-two, evaluation"):
        run(FOLDER, start="x")
    with pytest.raises(ConfigError, match="--ckpt_path: every stage resumes its own run"):
        run(FOLDER, flags=[("--ckpt_path", "last")])
    assert started == []
    assert not Path("runs").exists()


def test_data_that_are_missing_are_named_with_the_stage(started: list[str]) -> None:
    Path("train.jsonl").unlink()
    with pytest.raises(DataError, match=r"^1-one: .*train\.jsonl"):
        run(FOLDER)
    assert started == []
