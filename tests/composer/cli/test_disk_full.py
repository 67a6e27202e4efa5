"""A disk that is full while training: whole checkpoints stay whole, the command says so and ends, and goes on later."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.cli import main
from composer.errors import DiskFullError
from composer.model import checkpoint
from composer.model.checkpoint import read_checkpoint, write_checkpoint

ROOT = Path(__file__).parents[3]
FIT = [
    *("fit", "--config", str(ROOT / "recipes/quickstart.yaml"), "--ckpt_path", "last"),
    *("--data.batch_size=4", "--data.num_workers=0", "--trainer.enable_progress_bar=false", "--trainer.devices=1"),
    *("--trainer.strategy=auto", "--trainer.max_steps=4", "--training.save_every_steps=1"),
]


def fails_at(call: int) -> Callable[..., None]:
    """`torch.save` on a disk that is full from one call on: some bytes are written, then no more."""
    calls = 0

    def save(value: Any, file: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved(value, file)

    saved = torch.save
    return save


def test_a_full_disk_stops_fit_cleanly_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthesize", "data/shapes", "--train=8", "--stills=8", "--heldout=1"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", fails_at(3))
        assert main(FIT) == 1
    error = capsys.readouterr().err
    said = error.rstrip().splitlines()[-1]
    assert said.startswith("composer: ")
    assert "checkpoints/step-00000003.ckpt: cannot be written: No space left on device" in said
    folder = tmp_path / "runs/quickstart/checkpoints"
    left = sorted(os.listdir(folder))
    assert left
    assert all(read_checkpoint(folder / name)["global_step"] in (1, 2) for name in left)
    assert main(FIT) == 0
    assert "step-00000002.ckpt" in capsys.readouterr().err
    assert read_checkpoint(folder)["global_step"] == 4


def test_torch_itself_fails_on_a_full_disk(tmp_path: Path) -> None:
    """/dev/full refuses every byte; torch's own error does not say why."""
    (tmp_path / ".a.ckpt.tmp").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=r"a\.ckpt: cannot be written: No space left on device"):
        write_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == []
