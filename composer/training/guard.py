"""Skips optimizer steps whose loss or gradient is not finite."""

import json
import logging
import math
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from composer.atomic import writing
from composer.batch import Batch, sample_ids
from composer.errors import TrainingError

log = logging.getLogger(__name__)

LOG_NAME = "bad_steps.jsonl"


class FiniteGuard(Callback):
    """Skips every optimizer step whose loss or gradient norm is not finite on any rank, on all ranks.

    Each rank appends the samples of such a step to `bad_steps.jsonl` in the run folder. Raises TrainingError after
    `max_bad_steps` in a row.

    The host must wait for the device to do this, once per optimizer step and nowhere else. It therefore also reads the
    metrics to log, the module's `step_metrics`; they are logged as CPU tensors, so that they are not read again.
    """

    def __init__(self, max_bad_steps: int) -> None:
        self.max_bad_steps = max_bad_steps
        self._bad_in_a_row = 0
        # Since the last optimizer step; with accumulated gradients that is several batches.
        self._losses: list[Tensor] = []
        self._sample_ids: list[str] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch | list[Batch], batch_idx: int
    ) -> None:
        self._sample_ids.extend(sample_ids(batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        metrics: dict[str, Tensor] = {
            **pl_module.step_metrics,
            "train/gradient_norm": torch.nn.utils.get_total_norm(gradients),
        }
        values = torch.stack([*self._losses, *metrics.values()]).tolist()
        losses, logged = values[: len(self._losses)], dict(zip(metrics, values[len(self._losses) :], strict=True))
        for name, value in logged.items():
            pl_module.log(name, torch.tensor(value), prog_bar=name != "train/gradient_norm")
        norm = logged["train/gradient_norm"]
        # fp16's scaler searches for the largest scale that does not overflow, and itself skips the steps that do.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if trainer.strategy.reduce_boolean_decision(all(map(math.isfinite, losses if scaled else [*losses, norm]))):
            self._bad_in_a_row = 0
        else:
            # An optimizer does not update parameters without a gradient, nor their moments, nor does weight decay.
            optimizer.zero_grad(set_to_none=True)
            self._bad_in_a_row += 1
            self._report(trainer, losses, norm)
        self._losses.clear()
        self._sample_ids.clear()

    def _report(self, trainer: Trainer, losses: list[float], norm: float) -> None:
        path = Path(trainer.default_root_dir) / LOG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "step": trainer.global_step,
            "rank": trainer.global_rank,
            "loss": [_plain(loss) for loss in losses],
            "gradient_norm": _plain(norm),
            "sample_ids": self._sample_ids,
        }
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        log.warning("Step %d skipped: loss or gradient is not finite; its samples are in %s", trainer.global_step, path)
        if self._bad_in_a_row >= self.max_bad_steps:
            raise TrainingError(
                f"Stopped at step {trainer.global_step}: {self._bad_in_a_row} steps in a row had a loss or a gradient "
                f"that is not finite. Their samples are in {path}. Lower training.learning_rate, clip gradients "
                "(trainer.gradient_clip_val), or fix those samples, then resume with --ckpt_path last"
            )


def _plain(number: float) -> float | str:
    """A number, or text if JSON cannot represent it (NaN, infinity)."""
    return number if math.isfinite(number) else str(number)
