"""The LightningModule that trains and validates a composed model."""

import warnings
from itertools import islice
from typing import Any, Self, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from composer.batch import Batch, sample_ids
from composer.data.prefetch import ahead, start_on
from composer.errors import CheckpointError, ConfigError, TrainingError
from composer.model.checkpoint import (
    Checkpoint,
    check_architecture,
    compose_with,
    header,
    model_weights,
    read_checkpoint,
)
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel, Output
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import recorded
from composer.recipe.training import TrainingConfig
from composer.training.activation_checkpointing import checkpoint_blocks
from composer.training.guard import FiniteGuard
from composer.training.optim import RecipeAdamW, WarmupCosine, parameter_groups
from composer.training.saving import DurableCheckpointIO, RunCheckpoint
from composer.training.summary import print_parts
from composer.training.throughput import Throughput


class ComposerModule(LightningModule):
    """A composed model, trained as a recipe's `training:` section says.

    The model is built in `configure_model`, so on the device and in the precision of the trainer. The run folder is the
    trainer's `default_root_dir`. The trainer's data module has the methods of `MultimodalDataModule`: `training_step`
    logs `place_of_source()` unless it is None, and calls `trained(count)`, because checkpoints are written before
    `on_train_batch_end`; a checkpoint stores `frames`.

    Args:
        model: All options of the model.
        training: The recipe's `training:` section.
    """

    model: MultimodalModel
    step_metrics: dict[str, Tensor]
    """Metrics of the last training step, on the device; the guard reads and logs them along with the losses."""

    def __init__(self, model: ModelConfig, training: TrainingConfig) -> None:
        super().__init__()
        self.model_config = model
        self.training_config = training
        self.save_hyperparameters({"model": recorded(model), "training": training.model_dump(mode="json")})

    def setup(self, stage: str) -> None:
        check_strategy(self.trainer.strategy)
        # A plugin of the trainer may have its own checkpoint IO.
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = DurableCheckpointIO()

    def configure_model(self) -> None:
        """Build the model once, with the weights of a checkpoint if there is one, and freeze parts."""
        if "model" in self._modules:
            return
        source = self._source()
        if source is None:
            self.model = compose(self.model_config)
        else:
            self.model = compose_with(self.model_config, read_checkpoint(source), source, copy=True)
        for name, part in self.model.parts().items():
            part.requires_grad_(name in self.training_config.trainable)
        self.train()
        if self.training_config.gradient_checkpointing:
            checkpoint_blocks(self.model)

    def _source(self) -> str | None:
        """The checkpoint of the weights, if it is known before the model is built (`trainer.ckpt_path`)."""
        if self._trainer is None:
            return None
        if self.trainer.ckpt_path is not None:
            return str(self.trainer.ckpt_path)
        return self.training_config.initial_weights if self.trainer.state.fn == TrainerFn.FITTING else None

    def configure_callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = [FiniteGuard(self.training_config.max_bad_steps), Throughput()]
        if self.trainer.checkpoint_callbacks:
            # Lightning adds one without options if checkpointing is on; RunCheckpoint replaces it.
            self.trainer.callbacks = [c for c in self.trainer.callbacks if not _is_default(c)]
            callbacks.append(RunCheckpoint(self.training_config))
        return callbacks

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        total_steps = self.trainer.estimated_stepping_batches
        if total_steps == float("inf"):
            raise TrainingError(
                "trainer: got no end, expected trainer.max_steps or trainer.max_epochs, which the schedule of the "
                "learning rate needs"
            )
        groups = parameter_groups(self.model, self.training_config)
        if not groups:
            parts = ", ".join(self.training_config.trainable)
            raise TrainingError(f"training.trainable: got {parts}, which has no parameters: add a part that has some")
        optimizer = RecipeAdamW(groups, betas=self.training_config.betas)
        schedule = WarmupCosine(optimizer, int(total_steps), self.training_config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and "model" in self._modules:
            for name, part in self.model.parts().items():
                part.train(name in self.training_config.trainable)
        return self

    def on_fit_start(self) -> None:
        # Frozen parts are in evaluation mode on purpose.
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        if self.trainer.is_global_zero:
            config = self.model_config
            components = {
                "encoder": config.encoder.name,
                "reducer": ", ".join(reducer.name for reducer in config.reducer),
                "projector": config.projector.name,
                "backbone": config.backbone.name,
            }
            print_parts(self.model.parts(), components, parameter_groups(self.model, self.training_config))

    def training_step(self, batch: Batch | list[Batch], batch_idx: int) -> Tensor:
        """Run a step over a batch or micro-batches, whose gradients add up to that of the mean over all targets."""
        optimizer = self.trainer.optimizers[0]
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            optimizer.zero_grad()
        batches = [batch] if isinstance(batch, Batch) else batch
        weight = self._weight(batches)
        loss, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        moved = ahead(batches, start_on(self.device))
        for micro in islice(moved, len(batches) - 1):
            part, right = self._weigh(micro, weight)
            # Lightning divides the returned loss in the same way.
            self.trainer.strategy.backward(part / self.trainer.accumulate_grad_batches, optimizer)
            loss, correct = loss + part.detach(), correct + right
        part, right = self._weigh(next(moved), weight)  # Lightning runs the backward of the last one
        metrics = torch.stack([loss + part.detach(), correct + right])
        if self.trainer.world_size > 1:
            metrics = self.trainer.strategy.reduce(metrics, reduce_op="mean")
        self.step_metrics = dict(zip(("train/loss", "train/token_accuracy"), metrics, strict=True))
        # A tensor, because Lightning would copy a number to the device.
        self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))
        if (place := self.trainer.datamodule.place_of_source()) is not None:
            self.log("train/source", torch.tensor(float(place)))
        self.trainer.datamodule.trained(len(sample_ids(batch)))
        return part

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: object) -> None:
        """Do nothing: Lightning calls it after `training_step`, which has computed gradients of micro-batches."""

    def validation_step(self, batch: Batch) -> None:
        out: Output = self.model(batch)
        metrics = {"val/loss": out.loss, "val/token_accuracy": out.correct / max(out.targets, 1)}
        self.log_dict(metrics, batch_size=out.targets, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["composer"] = header(self.model_config, self.trainer.datamodule.frames, self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        path = self.trainer.ckpt_path
        check_architecture(self.model, model_weights(cast(Checkpoint, checkpoint)), str(path))
        before = set(checkpoint["hyper_parameters"]["training"]["trainable"])
        now = set(self.hparams["training"]["trainable"])
        if self.trainer.state.fn == TrainerFn.FITTING and before != now:
            raise CheckpointError(
                f"Checkpoint {path} does not match training.trainable: got {', '.join(sorted(now))}, expected "
                f"{', '.join(sorted(before))}, which its optimizer's state is for. To start a new stage from its "
                f"weights, remove --ckpt_path, set training.initial_weights={path} and name a new folder with "
                "--trainer.default_root_dir=DIR"
            )

    def _weight(self, batches: list[Batch]) -> Tensor:
        """Weight of one target token in the step's loss, so that the mean over ranks is that over all target tokens.

        If Lightning accumulates gradients, its batches have equal weights, whatever their number of target tokens.
        """
        targets = torch.tensor(sum(len(batch.predicting) for batch in batches))
        if self.trainer.world_size > 1:
            targets = self.trainer.strategy.reduce(targets.to(self.device, non_blocking=True), reduce_op="sum")
        return self.trainer.world_size / targets.clamp(min=1)

    def _weigh(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A micro-batch's share of the step's loss and of its token accuracy."""
        out: Output = self.model(batch)
        loss = out.loss * (out.targets * weight)
        if not loss.requires_grad or (not batch.frames and isinstance(self.trainer.strategy, DDPStrategy)):
            # A batch without media does not use the encoder. DDP waits for a gradient of every trained parameter; and
            # if only the projector is trained, the loss would depend on no trained parameter.
            loss = loss + 0 * sum(p.flatten()[0] for p in self.parameters() if p.requires_grad)
        return loss, out.correct * weight


def check_strategy(strategy: str | Strategy) -> None:
    """Raise ConfigError unless each process has the complete model. strategy: the trainer's, or its name."""
    if isinstance(strategy, str):
        name, known = strategy, strategy in ("auto", "single_device") or strategy.startswith("ddp")
    else:
        # Exactly these classes, because Lightning derives DeepSpeed's and XLA's from them.
        name, known = type(strategy).__name__, type(strategy) in (SingleDeviceStrategy, DDPStrategy)
    if not known:
        raise ConfigError(
            f"trainer.strategy: got {name}, expected auto, ddp or a variant of it such as "
            "ddp_find_unused_parameters_true. Weight decay, gradient norms and checkpoints need the complete model in "
            "every process. To save memory, set training.gradient_checkpointing=true or freeze parts "
            "(training.trainable)"
        )


def _is_default(callback: Callback) -> bool:
    return type(callback) is ModelCheckpoint and callback.dirpath is None and callback.monitor is None
