"""A resolved recipe's `model:` section. The resolver makes it, `compose` builds it, checkpoints contain its dump."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from composer.plugin import SlotConfig
from composer.prompt import Layout


class PromptConfig(BaseModel):
    """Conversion of conversations to prompts; the chat template is the backbone's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Layout = Field(
        default="media-first",
        description="Position of a user turn's media: before its text, between two copies of it, or inside it.",
    )
    tokenizer: Literal["bytes", "world"] | tuple[str, ...] | None = Field(
        default=None,
        description="The backbone's own (null), bytes, the RWKV World vocabulary, or bytes plus these words.",
    )


class ModelConfig(BaseModel):
    """One selected component per slot, and the prompt.

    The concrete class of each slot has the selected component's own options, so that `model_dump(mode="json")` has all
    of them and `composer.recipe.resolve.model_config` reads them back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: SerializeAsAny[SlotConfig] = Field(description="Frames to tokens.")
    reducer: tuple[SerializeAsAny[SlotConfig], ...] = Field(
        default=(), description="Token reducers, one after another."
    )
    projector: SerializeAsAny[SlotConfig] = Field(description="Visual features to the backbone's width.")
    backbone: SerializeAsAny[SlotConfig] = Field(description="The causal language model.")
    prompt: PromptConfig = Field(default=PromptConfig(), description="Layout and tokenizer.")

    def without_pretrained(self) -> Self:
        """Copy the configuration with random weights, so that nothing is read or downloaded."""
        return self.model_copy(
            update={
                "encoder": self.encoder.without_pretrained(),
                "reducer": tuple(reducer.without_pretrained() for reducer in self.reducer),
                "projector": self.projector.without_pretrained(),
                "backbone": self.backbone.without_pretrained(),
            }
        )
