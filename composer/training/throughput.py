"""Logs a run's speed."""

import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from composer.batch import Batch, sample_ids


class Throughput(Callback):
    """Logs `train/samples_per_second` of all ranks, over the steps since it was last logged."""

    def __init__(self) -> None:
        self._samples = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._samples, self._since = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch | list[Batch], batch_idx: int
    ) -> None:
        self._samples += len(sample_ids(batch)) * trainer.world_size
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:
            now = time.monotonic()
            rate = self._samples / max(now - self._since, 1e-9)
            pl_module.log("train/samples_per_second", torch.tensor(rate), prog_bar=True)
            self._samples, self._since = 0, now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Time of validation between two steps does not count.
        self._samples, self._since = 0, time.monotonic()
