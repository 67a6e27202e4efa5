"""Activation checkpointing of a model's blocks."""

from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from composer.model import MultimodalModel


def checkpoint_blocks(model: MultimodalModel) -> None:
    """Make every block that encoder and backbone name compute its activations again in the backward pass.

    Non-reentrant checkpoints, in place; state-dict keys stay as they are.
    """
    blocks = (*model.encoder.block_classes, *model.backbone.block_classes)
    apply_activation_checkpointing(
        model, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=lambda module: isinstance(module, blocks)
    )
