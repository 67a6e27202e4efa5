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
    for part in (model.encoder, model.backbone):
        blocks = part.block_classes
        apply_activation_checkpointing(
            part,
            checkpoint_wrapper_fn=checkpoint_wrapper,
            check_fn=lambda module, blocks=blocks: isinstance(module, blocks),
        )
