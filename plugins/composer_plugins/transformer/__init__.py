"""The backbone `transformer`: any causal language model that transformers knows."""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

RANDOM_ONLY = ("architecture", "width", "depth", "heads", "kv_heads", "ffn_width", "context_length", "config")


class TransformerConfig(ComponentConfig):
    """Options of the backbone `transformer`. Without `pretrained`, a small Llama with random weights."""

    pretrained: str | None = Field(
        None, description="A model on the hub or a local folder with safetensors; null is random weights."
    )
    revision: str | None = Field(None, description="Commit, tag or branch on the hub.")
    trust_remote_code: bool = Field(False, description="Whether the code in the model's repository may run.")
    architecture: str = Field("llama", description="With random weights: a model_type of transformers, such as qwen3.")
    width: int | None = Field(None, ge=1, description="With random weights: channels of a position; null is 128.")
    depth: int | None = Field(None, ge=1, description="With random weights: number of blocks; null is 4.")
    heads: int | None = Field(
        None, ge=1, description="With random weights: attention heads, a divisor of the width; null is width / 32."
    )
    kv_heads: int | None = Field(
        None, ge=1, description="With random weights: heads of keys and values; null is as many as heads."
    )
    ffn_width: int | None = Field(
        None, ge=1, description="With random weights: hidden channels of the feed-forward network; null is 3.5 x width."
    )
    context_length: int | None = Field(
        None, ge=1, description="With random weights: longest sequence in positions; null is 4096."
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="With random weights: further entries of the architecture's own config."
    )

    @model_validator(mode="after")
    def _sizes_come_from_one_place(self) -> Self:
        fields = type(self).model_fields
        chosen = {name: getattr(self, name) for name in RANDOM_ONLY}
        given = [name for name, value in chosen.items() if value and value != fields[name].default]
        if self.pretrained is not None and given:
            raise ValueError(f"pretrained weights bring their own sizes: leave out {', '.join(given)}")
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "backbone",
        "transformer",
        "Any causal language model of transformers: pretrained, or of any size with random weights.",
        TransformerConfig,
        "composer_plugins.transformer.backbone:TransformerBackbone",
    )
