"""The backbone `rwkv6`: RWKV-6 "Finch", a recurrent language model whose state has constant size."""

from collections.abc import Iterable

from pydantic import Field

from composer.plugin import Component, ComponentConfig, hookimpl


class RWKV6Config(ComponentConfig):
    """Options of the backbone `rwkv6`. Without `pretrained`, a small model with the author's random initialisation."""

    pretrained: str | None = Field(
        None,
        description="Weights in the author's layout: a local .pth or .safetensors file, or on the hub "
        "'owner/repo:file'; null is random weights. Sizes then come from the file.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch on the hub.")
    width: int | None = Field(None, ge=1, description="Channels of a position; null is the checkpoint's own, or 128.")
    depth: int | None = Field(None, ge=1, description="Number of blocks; null is the checkpoint's own, or 4.")
    head_size: int | None = Field(
        None, ge=1, description="Channels of a head, a divisor of the width; null is the checkpoint's own, or 32."
    )
    ffn_width: int | None = Field(
        None, ge=1, description="Hidden channels of channel mixing; null is the checkpoint's own, or 3.5 x width."
    )
    mix_rank: int | None = Field(
        None, ge=1, description="Rank of the data-dependent token shift; null is the checkpoint's own, or width / 8."
    )
    decay_rank: int | None = Field(
        None, ge=1, description="Rank of the data-dependent decay; null is the checkpoint's own, or width / 4."
    )
    context_length: int | None = Field(
        None, ge=1, description="Longest prompt in positions; null is no limit: the state has constant size."
    )


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "backbone",
        "rwkv6",
        "RWKV-6 (Finch): recurrent, its state has constant size at any length; pretrained or random weights.",
        RWKV6Config,
        "composer_plugins.rwkv.backbone:RWKV6Backbone",
    )
