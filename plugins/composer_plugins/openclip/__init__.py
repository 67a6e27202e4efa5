"""The encoder `openclip`: SigLIP and CLIP vision towers of open_clip."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl
from composer.transform import Resize


class OpenClipConfig(ComponentConfig):
    """Options of the encoder `openclip`. Without `model`, a tiny SigLIP with random weights."""

    model: str | None = Field(
        None, description="Name from open_clip.list_models(), for example ViT-L-16-SigLIP-384; null is a tiny SigLIP."
    )
    pretrained: str | None = Field(
        None,
        description="Tag of open_clip for the model, for example webli, or a local .safetensors, .bin or .pt file; "
        "null is random weights.",
    )
    image_size: int | None = Field(
        None,
        ge=1,
        description="Pixels of a frame's short side after resizing; null is the model's own, or 64. Pixels "
        "beyond the last complete patch are ignored.",
    )
    resize: Resize | None = Field(
        None,
        description="Resizing: keep the aspect ratio (with this short side, or at most the patches of a square of this "
        "side), or make a square by squashing, cropping or padding; null is open_clip's mode for the tag or the model, "
        "or keep-aspect without a model.",
    )
    patch_size: int | None = Field(None, ge=1, description="Pixels of a patch's side; null is the model's own, or 8.")
    width: int | None = Field(None, ge=1, description="Channels per token; null is the model's own, or 96.")
    depth: int | None = Field(None, ge=1, description="Number of blocks; null is the model's own, or 4.")
    heads: int | None = Field(
        None, ge=1, description="Attention heads, a divisor of the width; null is the model's own, or 4."
    )
    layer: int = Field(
        -1,
        le=-1,
        description="Block whose output is used, counted from the end: -1 is the last, with the final norm; -2 the one "
        "before it, as in LLaVA, without that norm. Later blocks are dropped; a reducer merges in the others.",
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "encoder",
        "openclip",
        "Vision tower of an open_clip SigLIP or CLIP model, of any size, with pretrained or random weights.",
        OpenClipConfig,
        "composer_plugins.openclip.encoder:OpenClipEncoder",
        in_blocks=True,
    )
