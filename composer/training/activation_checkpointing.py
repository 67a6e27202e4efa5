"""Activation checkpointing of a model's blocks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from composer.errors import ComposeError
from composer.model.multimodal import MultimodalModel


def checkpoint_blocks(model: MultimodalModel) -> None:
    """Make every block of encoder and backbone (`block_classes`) recompute its activations in the backward pass.

    Non-reentrant checkpoints, in place; state-dict keys do not change. A block whose recomputation fails raises
    ComposeError in the backward pass.
    """
    blocks = (*model.encoder.block_classes, *model.backbone.block_classes)
    apply_activation_checkpointing(
        model, checkpoint_wrapper_fn=_wrap, check_fn=lambda module: isinstance(module, blocks)
    )


def _wrap(block: nn.Module) -> nn.Module:
    return checkpoint_wrapper(block, context_fn=partial(_contexts, type(block).__name__))


def _contexts(block: str) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a block's forward and of its recomputation."""
    return nullcontext(), _recomputation(block)


@contextmanager
def _recomputation(block: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__ == "torch.utils.checkpoint":  # it stops recomputation early with an exception
            raise
        raise ComposeError(not_repeatable(f"block {block} fails when its forward is repeated", error)) from error


def not_repeatable(problem: str, error: Exception) -> str:
    """Make the message for a model whose blocks cannot be checkpointed."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return (
        f"training.gradient_checkpointing: {problem} ({reason}): it changes its input, such as a cache. Set it to "
        "false, or report it to the authors of the plugin (composer.testing checks it)"
    )
