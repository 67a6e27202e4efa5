"""The backbones `rwkv6` and `rwkv7`: RWKV, a recurrent language model whose state has constant size."""

from collections.abc import Iterable

from pydantic import Field

from composer.plugin import Component, ComponentConfig, Converter, hookimpl


class RWKVConfig(ComponentConfig):
    """Options of both versions. Without `pretrained`, the model is small and has the author's random initialization."""

    pretrained: str | None = Field(
        None,
        description="Weights in the author's, fla's or the Hugging Face layout: a local .pth or .safetensors file or "
        "folder, or on the hub 'owner/repo:file' or 'owner/repo'; they determine the sizes. null is random weights.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch on the hub.")
    width: int | None = Field(None, ge=1, description="Channels per position; null is the checkpoint's own, or 128.")
    depth: int | None = Field(None, ge=1, description="Number of blocks; null is the checkpoint's own, or 4.")
    head_size: int | None = Field(
        None, ge=1, description="Channels per head, a divisor of the width; null is the checkpoint's own, or 32."
    )
    context_length: int | None = Field(
        None, ge=1, description="Longest prompt in positions; null is no limit: the state has constant size."
    )
    segment_length: int | None = Field(
        None,
        ge=1,
        description="Positions per segment; segments run through the blocks in sequence and pass on the state. Limits "
        "the memory for long rows, in training together with activation checkpointing. A multiple of 64 is fastest; "
        "null is no limit (512 on a CPU without gradients). Rows packed from several samples are not split; "
        "data.max_tokens limits them.",
    )
    compile_decoding: bool = Field(
        False, description="Compile the step of generation (torch.compile) at its first use, which takes seconds once."
    )


class RWKV6Config(RWKVConfig):
    """Options of the backbone `rwkv6`."""

    ffn_width: int | None = Field(
        None, ge=1, description="Hidden channels of channel mixing; null is the checkpoint's own, or 3.5 x width."
    )
    mix_rank: int | None = Field(
        None, ge=1, description="Rank of the data-dependent token shift; null is the checkpoint's own, or width / 8."
    )
    decay_rank: int | None = Field(
        None, ge=1, description="Rank of the data-dependent decay; null is the checkpoint's own, or width / 4."
    )


class RWKV7Config(RWKVConfig):
    """Options of the backbone `rwkv7`."""

    ffn_width: int | None = Field(
        None, ge=1, description="Hidden channels of channel mixing; null is the checkpoint's own, or 4 x width."
    )
    decay_rank: int | None = Field(
        None, ge=1, description="Rank of the decay; null is the checkpoint's own, or 1.8 sqrt(width)."
    )
    rate_rank: int | None = Field(
        None, ge=1, description="Rank of the in-context learning rate; null is the checkpoint's, or 1.8 sqrt(width)."
    )
    value_rank: int | None = Field(
        None, ge=1, description="Rank of the value residual; null is the checkpoint's own, or 1.3 sqrt(width)."
    )
    gate_rank: int | None = Field(
        None, ge=1, description="Rank of the gate; null is the checkpoint's own, or 0.6 width^0.8."
    )


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "backbone",
        "rwkv6",
        "RWKV-6 (Finch): recurrent, its state has constant size at any length; pretrained or random weights.",
        RWKV6Config,
        "composer_plugins.rwkv.backbone:RWKV6Backbone",
        converter=Converter("composer_plugins.rwkv.convert:convert_rwkv6", ("official", "safetensors", "fla", "hf")),
    )
    yield Component(
        "backbone",
        "rwkv7",
        "RWKV-7 (Goose): recurrent, its state has constant size at any length; pretrained or random weights.",
        RWKV7Config,
        "composer_plugins.rwkv.backbone:RWKV7Backbone",
        converter=Converter("composer_plugins.rwkv.convert:convert_rwkv7", ("official", "safetensors", "fla")),
    )
