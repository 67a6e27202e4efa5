"""Steps that are not finite are left out, reported, and stop the run when they go on."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from composer.batch import Batch
from composer.errors import TrainingError
from composer.model.checkpoint import newest
from composer.training.module import ComposerModule
from tests.composer.training.tiny import TinyData, module, trainer


class Spoilt(ComposerModule):
    """Its loss, or its gradient alone, is not finite at the chosen steps."""

    bad: dict[int, str] = {}  # noqa: RUF012

    def training_step(self, batch: Batch | list[Batch], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.bad.get(self.trainer.global_step) == "loss":
            return loss * float("nan")
        return loss

    def on_after_backward(self) -> None:
        if self.bad.get(self.trainer.global_step) == "gradient":
            next(p for p in self.parameters() if p.grad is not None).grad[0] = float("inf")


def spoilt(bad: dict[int, str], **training: Any) -> ComposerModule:
    run = module(**training)
    run.__class__ = Spoilt
    run.bad = bad
    return run


def test_bad_steps_change_nothing_and_are_logged(tmp_path: Path) -> None:
    run = spoilt({2: "loss", 4: "gradient"}, weight_decay=0.1)
    weights: list[Tensor] = []
    batches: list[tuple[str, ...]] = []

    def remember(outputs: object, batch: Batch, batch_idx: int) -> None:
        weights.append(torch.cat([p.detach().flatten() for p in run.parameters()]))
        batches.append(batch.sample_ids)

    run.on_train_batch_end = remember  # type: ignore[method-assign]
    trainer(tmp_path, max_steps=6).fit(run, TinyData())
    changed = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert changed == [True, False, True, False, True]
    assert torch.isfinite(weights[-1]).all()
    records = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [2, 4]
    assert [tuple(r["sample_ids"]) for r in records] == [batches[2], batches[4]]
    assert records[0]["loss"] == ["nan"]
    assert records[1]["gradient_norm"] == "inf"


def test_accumulated_batches_are_all_named(tmp_path: Path) -> None:
    run = spoilt({1: "loss"})
    trainer(tmp_path, max_steps=3, accumulate_grad_batches=2).fit(run, TinyData())
    (record,) = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert len(record["sample_ids"]) == 8


def test_it_stops_after_a_few_in_a_row_only(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=6).fit(spoilt({1: "loss", 2: "loss", 4: "loss"}, max_bad_steps=3), TinyData())
    with pytest.raises(TrainingError, match="3 steps in a row"):
        trainer(tmp_path, max_steps=6).fit(spoilt({1: "loss", 2: "gradient", 3: "loss"}, max_bad_steps=3), TinyData())


def fp16(scale: float) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000))


def test_gradients_that_overflow_in_fp16_are_left_to_its_scaler(tmp_path: Path) -> None:
    """It halves its scale at each such step, skips the step, and finds the largest scale that works."""
    precision, run, weights = fp16(2.0**24), module(max_bad_steps=2), []

    def remember(*_: object) -> None:
        weights.append(torch.cat([p.detach().flatten() for p in run.parameters()]))

    run.on_train_batch_end = remember  # type: ignore[method-assign]
    trainer(tmp_path, max_steps=30, plugins=[precision]).fit(run, TinyData())
    changed = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert changed[:3] == [False] * 3  # more in a row than the guard allows
    assert changed[-1]
    assert precision.scaler.get_scale() < 2.0**22
    assert not (tmp_path / "bad_steps.jsonl").exists()


def test_a_loss_that_is_not_finite_is_bad_in_fp16_too(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=4, plugins=[fp16(1.0)]).fit(spoilt({2: "loss"}), TinyData())
    (record,) = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert record["step"] == 2
    assert record["loss"] == ["nan"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    run = module(save_every_steps=1)

    def break_weights(outputs: object, batch: Batch, batch_idx: int) -> None:
        if run.trainer.global_step == 3:
            run.model.projector.linear.weight.data[0, 0] = float("nan")

    run.on_train_batch_end = break_weights  # type: ignore[method-assign]
    # The callback runs before the module's hook, so the fourth step's checkpoint is the first to see it.
    with pytest.raises(TrainingError, match="not finite after step 4"):
        trainer(tmp_path, max_steps=6).fit(run, TinyData())
    last = newest(tmp_path)
    assert last is not None
    assert last.name == "step-00000003.ckpt"
