"""Bad input through the command line: one clear error that names the file, the key and the remedy, and nothing lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from composer.cli import main

ROOT = Path(__file__).parent.parent
QUICKSTART = str(ROOT / "recipes/quickstart.yaml")
SHORT = ["--trainer.max_steps=2", "--data.batch_size=4", "--data.num_workers=0", "--trainer.enable_progress_bar=false"]
SET = Path("data/shapes")
HELDOUT = SET / "heldout.jsonl"
VIDEO = SET / "videos/heldout-00000.mp4"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthesize", str(SET), "--train=4", "--stills=4", "--heldout=1"]) == 0
    return tmp_path


def no_json() -> None:
    lines = HELDOUT.read_text().splitlines()
    HELDOUT.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")


def missing_video() -> None:
    VIDEO.unlink()


def truncated_video() -> None:
    VIDEO.write_bytes(VIDEO.read_bytes()[:900])


def zero_frame_video() -> None:
    VIDEO.write_bytes(b"")


def more_placeholders() -> None:
    record = json.loads(HELDOUT.read_text().splitlines()[0])
    record["conversations"][0]["value"] = "<video>\n<video>\nSo?"
    HELDOUT.write_text(json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_json, ["heldout.jsonl:2", "JSON"]),
        (missing_video, ["heldout-00000.mp4", "no such file", "media_root"]),
        (truncated_video, ["heldout-00000.mp4"]),
        (zero_frame_video, ["heldout-00000.mp4"]),
        (more_placeholders, ["heldout.jsonl:1", "<video>"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data_stops_an_evaluation_with_its_file_and_place(
    spoil: Callable[[], None], said: list[str], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil()
    arguments = ["predict", "--config", QUICKSTART, "--data.predict", str(HELDOUT), *SHORT]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    for words in said:
        assert words in error


def test_a_prompt_longer_than_the_context_names_the_sample_and_the_numbers(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", QUICKSTART, *SHORT, "--model.backbone.context_length=20"]) == 1
    error = capsys.readouterr().err
    assert "'stills-" in error
    assert "the backbone's context is 20" in error


def test_a_checkpoint_of_another_architecture_names_the_part(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", QUICKSTART, *SHORT]) == 0
    run = "runs/quickstart"
    other = ["--model.backbone.width=64", "--trainer.default_root_dir=runs/other"]
    capsys.readouterr()
    assert main(["fit", "--config", QUICKSTART, *SHORT, *other, "--ckpt_path", run]) == 2
    assert "model.backbone.width: got 64, but the checkpoint has 96" in capsys.readouterr().err
    assert list(Path(run).rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model.backbone=rwvk6"], ["rwvk6", "did you mean 'rwkv6'", "--model.backbone"]),
        (["--model.reducer.keep_ration=0.5"], ["keep_ration", "keep_ratio", "--model.reducer.keep_ration"]),
        (["--model.encoder.depth=many"], ["depth", "many", "--model.encoder.depth"]),
        (["--model.encoder=conv"], ["tome", "inside the encoder's blocks", "conv"]),
        (["--training.learning_rat=1"], ["learning_rat", "learning_rate"]),
        (["--model.reducer.ratio=0.5"], ["--model.reducer.ratio: renamed to 'keep_ratio'"]),
        (
            ["--model.reducer.keep_ratio="],
            ["model.reducer", "expected one of keep_ratio, r and target_tokens", "got none"],
        ),
    ],
    ids=lambda value: value[0] if value[0].startswith("--") else "",
)
def test_a_configuration_error_names_the_flag_and_mends_it(
    flags: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", QUICKSTART, *flags]) == 2
    error = capsys.readouterr().err
    for words in said:
        assert words in error
