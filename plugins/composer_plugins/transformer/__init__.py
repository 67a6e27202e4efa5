"""The backbone `transformer`: any causal language model of transformers."""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

RANDOM_ONLY = ("architecture", "width", "depth", "heads", "kv_heads", "ffn_width", "context_length", "config")


class TransformerConfig(ComponentConfig):
    """Options of the backbone `transformer`. Without `pretrained`, the model is a small Llama with random weights."""

    pretrained: str | None = Field(
        None, description="A model on the hub or a local folder with safetensors; null is random weights."
    )
    revision: str | None = Field(None, description="Commit, tag or branch on the hub.")
    trust_remote_code: bool = Field(False, description="Whether to run code from the model's repository.")
    architecture: str = Field(
        "llama", description="With random weights: a model_type of transformers, for example qwen3."
    )
    width: int | None = Field(None, ge=1, description="With random weights: channels per position; null is 128.")
    depth: int | None = Field(None, ge=1, description="With random weights: number of blocks; null is 4.")
    heads: int | None = Field(
        None, ge=1, description="With random weights: attention heads, a divisor of the width; null is width / 32."
    )
    kv_heads: int | None = Field(
        None, ge=1, description="With random weights: heads of keys and values; null is the number of heads."
    )
    ffn_width: int | None = Field(
        None, ge=1, description="With random weights: hidden channels of the feed-forward network; null is 3.5 x width."
    )
    context_length: int | None = Field(
        None, ge=1, description="With random weights: maximum sequence length in positions; null is 4096."
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="With random weights: additional entries of the architecture's config."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in RANDOM_ONLY}
        names = [name for name, value in values.items() if value and value != fields[name].default]
        if self.pretrained is not None and names:
            raise ValueError(f"pretrained weights determine the sizes: remove {', '.join(names)}")
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
