"""Optimizer step of a stage, with the same parts as `composer fit`."""

import torch
from torch.utils._pytree import tree_map_only

from benchmarks.gpu.recipes import Stage, build
from composer.batch import Batch
from composer.training.activation_checkpointing import checkpoint_blocks
from composer.training.optim import RecipeAdamW, parameter_groups

CLIP = 1.0


class Training:
    """Model and optimizer of a stage in bf16-mixed precision, without Lightning's loop."""

    def __init__(self, stage: Stage, device: torch.device) -> None:
        self.device = device
        self.model = build(stage.model, device)
        for name, part in self.model.parts().items():
            part.requires_grad_(name in stage.training.trainable)
            part.train(name in stage.training.trainable)
        if stage.training.gradient_checkpointing:
            checkpoint_blocks(self.model)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = RecipeAdamW(parameter_groups(self.model, stage.training), betas=stage.training.betas)

    def step(self, batch: Batch) -> torch.Tensor:
        """Run a step on one micro-batch, which is copied to the device first. Returns the loss on the device."""
        batch = tree_map_only(torch.Tensor, lambda x: x.to(self.device, non_blocking=True), batch)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.model(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        return loss.detach()

    def release(self) -> None:
        """Release the gradients, so that only weights and optimizer state remain."""
        self.optimizer.zero_grad(set_to_none=True)
