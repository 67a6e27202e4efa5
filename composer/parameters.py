"""Optimizer groups of a module's parameters."""

from typing import NotRequired, TypedDict

from torch import nn


class ParameterGroup(TypedDict):
    """Parameters of an optimizer group, and its options that differ from the recipe's.

    lr_scale: factor of the recipe's learning rate.
    """

    params: list[nn.Parameter]
    weight_decay: NotRequired[float]
    lr_scale: NotRequired[float]


def decay_groups(module: nn.Module) -> list[ParameterGroup]:
    """Split a module's trainable parameters into two optimizer groups, with and without weight decay.

    Parameters of two dimensions or more decay, embeddings and position tables included, as in transformers' Trainer;
    norms and biases do not.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
