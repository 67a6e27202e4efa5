"""When a run saves itself, what it keeps, and how it stops when asked to."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import composer.training.saving
from composer.errors import CheckpointError
from composer.model.checkpoint import newest, read_checkpoint
from composer.training.module import ComposerModule
from tests.composer.training.tiny import TinyData, module, trainer

EPOCH = 6  # steps


def saved(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


class At(Callback):
    """Does something after a step, before the checkpoint callback has its turn."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.action()


def crash() -> None:
    raise RuntimeError("crash")


def weights(run: ComposerModule) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.parameters()])


def test_default_saves_at_the_ends_of_epochs_and_of_the_run(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=15).fit(module(keep_checkpoints=9), TinyData())
    assert saved(tmp_path) == [6, 12, 15]


def test_the_newest_few_are_kept_and_files_of_others_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step-99.ckpt").write_bytes(b"mine")
    trainer(tmp_path, max_steps=5).fit(module(save_every_steps=2), TinyData())
    assert saved(tmp_path) == [4, 5, 99]


def test_minutes(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=4).fit(module(save_every_minutes=1e-9, keep_checkpoints=9), TinyData())
    assert saved(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("batch", range(6))
def test_nothing_is_saved_between_two_optimizer_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """The minutes have passed after one of the three batches of the first or the second step."""
    minutes = [0.0]
    monkeypatch.setattr(composer.training.saving, "time", SimpleNamespace(monotonic=lambda: 60 * minutes[0]))
    run = module(save_every_minutes=1)
    run.on_train_batch_start = lambda _, i: minutes.append(minutes.pop() + 5 * (i == batch))  # type: ignore[method-assign]
    trainer(tmp_path, max_steps=3, accumulate_grad_batches=3).fit(run, TinyData(size=36))
    trained = [read_checkpoint(p)["TinyData"]["trained_samples"] for p in sorted((tmp_path / "checkpoints").iterdir())]
    assert trained == [12 if batch < 3 else 24, 36]


def test_lightnings_own_default_is_replaced_and_checkpointing_can_be_off(tmp_path: Path) -> None:
    trainer(tmp_path / "on", max_steps=2).fit(module(), TinyData())
    assert [p.name for p in (tmp_path / "on").rglob("*.ckpt")] == ["step-00000002.ckpt"]
    trainer(tmp_path / "off", max_steps=2, enable_checkpointing=False).fit(module(), TinyData())
    assert not list(tmp_path.joinpath("off").rglob("*.ckpt"))


@pytest.mark.parametrize("step", [1, EPOCH - 1, EPOCH, EPOCH + 1])
@pytest.mark.parametrize("every", [1, None], ids=["each-step", "epoch-end"])
def test_resume_after_any_step_equals_the_whole_run(tmp_path: Path, step: int, every: int | None) -> None:
    whole = module()
    trainer(tmp_path / "whole", max_epochs=3).fit(whole, TinyData())
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="crash"):
        trainer(run, max_epochs=3, callbacks=[At(step + 1, crash)]).fit(module(save_every_steps=every), TinyData())
    last = newest(run)
    resumed = module()
    trainer(run, max_epochs=3).fit(resumed, TinyData(), ckpt_path=last)
    assert last is None or step >= EPOCH or every
    assert resumed.trainer.global_step == 3 * EPOCH
    assert torch.equal(weights(whole), weights(resumed))


def test_a_finished_run_goes_on_when_given_more_epochs(tmp_path: Path) -> None:
    flat = {"warmup_ratio": 0.0, "min_lr_ratio": 1.0}  # a schedule that does not depend on the number of steps
    whole, resumed = module(**flat), module(**flat)
    trainer(tmp_path / "whole", max_epochs=3).fit(whole, TinyData())
    trainer(tmp_path / "run", max_epochs=2).fit(module(**flat), TinyData())
    trainer(tmp_path / "run", max_epochs=3).fit(resumed, TinyData(), ckpt_path=newest(tmp_path / "run"))
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_at_hand(tmp_path: Path, number: int) -> None:
    handler = signal.getsignal(number)
    callback = At(3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit):
        trainer(tmp_path, max_steps=9, callbacks=[callback]).fit(module(), TinyData())
    assert saved(tmp_path) == [3]
    assert signal.getsignal(number) == handler
    whole, resumed = module(), module()
    trainer(tmp_path / "whole", max_steps=9).fit(whole, TinyData())
    trainer(tmp_path, max_steps=9).fit(resumed, TinyData(), ckpt_path=newest(tmp_path))
    assert torch.equal(weights(whole), weights(resumed))


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def run(folder: Path, steps: int, last: Path | None) -> list[float]:
        drawn: list[float] = []
        model = module()
        model.on_train_batch_start = lambda *_: drawn.append(torch.rand(1).item())  # type: ignore[method-assign]
        trainer(folder, max_steps=steps).fit(model, TinyData(), ckpt_path=last)
        return drawn

    whole = run(tmp_path / "whole", 4, None)
    assert run(tmp_path / "run", 2, None) + run(tmp_path / "run", 4, newest(tmp_path / "run")) == whole


def test_another_stage_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).fit(module(), TinyData())
    with pytest.raises(
        CheckpointError, match=r"training\.trainable: got projector, expected .*training\.initial_weights"
    ):
        trainer(tmp_path, max_steps=4).fit(module(trainable=["projector"]), TinyData(), ckpt_path=newest(tmp_path))
