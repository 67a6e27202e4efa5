"""Saves a run's checkpoints, and resumes it exactly."""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NotRequired, TypedDict, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from composer.errors import TrainingError
from composer.model.checkpoint import SUFFIX, read_checkpoint, write_checkpoint
from composer.recipe.training import TrainingConfig

log = logging.getLogger(__name__)

FOLDER = "checkpoints"


class RandomState(TypedDict):
    """State of the random generators; `cuda` only if there is a GPU."""

    cpu: Tensor
    cuda: NotRequired[Tensor]


class RunState(TypedDict):
    """State of `RunCheckpoint` in a checkpoint. saved: names of the run's remaining checkpoints, oldest first."""

    saved: list[str]
    random_state: RandomState


class DurableCheckpointIO(TorchCheckpointIO):
    """Reads and writes Lightning's checkpoints with `composer.model.checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: object = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Path | str, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return dict(read_checkpoint(path))


class RunCheckpoint(Checkpoint):
    """Saves `checkpoints/step-N.ckpt` in the run folder, and keeps the run's newest `keep_checkpoints`.

    It saves every `save_every_steps` and `save_every_minutes`, at the end of each epoch and of the run, and, on SIGTERM
    and Ctrl-C, after the current step; a second Ctrl-C stops at once. On one device it also restores the random
    generators. Raises TrainingError instead of saving weights that are not finite.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._saved: list[str] = []
        self._random_state: RandomState | None = None
        self._step = self._saved_step = 0
        self._saved_at = 0.0
        self._interrupted = False
        self._handler: Callable[[int, FrameType | None], object] | int | None = None
        self.newest: Path | None = None
        """The file that this process saved last."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = self._saved_step = trainer.global_step
        self._saved_at = time.monotonic()
        if self._random_state and trainer.world_size == 1:
            _set_random_state(self._random_state)
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        # A checkpoint between two optimizer steps would lose the gradients accumulated so far.
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        due = stepped and (self._interrupted or trainer.received_sigterm or self._is_due(trainer.global_step))
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save(trainer, pl_module)
            if self._interrupted:
                raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)
        self._release_interrupt()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release_interrupt()

    def state_dict(self) -> dict[str, object]:
        random_state: RandomState = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random_state["cuda"] = torch.cuda.get_rng_state()
        return dict(RunState(saved=self._saved, random_state=random_state))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = cast(RunState, state_dict)
        self._saved, self._random_state = list(state["saved"]), state["random_state"]

    def _is_due(self, step: int) -> bool:
        every = self.config.save_every_steps
        waited = time.monotonic() - self._saved_at
        return (every is not None and step % every == 0) or waited >= 60 * self.config.save_every_minutes

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        if step == self._saved_step or trainer.fast_dev_run:
            return
        folder = Path(trainer.default_root_dir) / FOLDER
        largest = torch.nn.utils.get_total_norm([p.detach() for p in pl_module.parameters()], norm_type=math.inf)
        if not largest.isfinite():
            raise TrainingError(
                f"Weights are not finite after step {step}, so they were not saved. Resume from the previous "
                f"checkpoint in {folder} (--ckpt_path last) with a lower training.learning_rate"
            )
        self._saved.append(f"step-{step:08d}{SUFFIX}")
        trainer.save_checkpoint(folder / self._saved[-1], weights_only=False)
        self.newest = folder / self._saved[-1]
        while len(self._saved) > self.config.keep_checkpoints:
            trainer.strategy.remove_checkpoint(folder / self._saved.pop(0))
        self._saved_step, self._saved_at = step, time.monotonic()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        log.warning("Interrupted: saving after this step; interrupt again to stop at once")

    def _release_interrupt(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None


def _set_random_state(state: RandomState) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
