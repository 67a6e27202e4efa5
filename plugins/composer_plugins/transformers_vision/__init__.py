"""The encoder `transformers-vision`: vision towers of transformers."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl
from composer.transform import Resize

FamilyName = Literal["siglip", "siglip2", "clip", "dinov2", "dinov2-registers"]


class TransformersVisionConfig(ComponentConfig):
    """Options of the encoder `transformers-vision`. By default, the tower is a tiny SigLIP with random weights."""

    pretrained: str | None = Field(
        None,
        description="Name on the hub, for example google/siglip-large-patch16-384, or local folder, with safetensors; "
        "null is random weights.",
    )
    family: FamilyName | None = Field(
        None, description="Architecture of random weights; null is siglip, or that of `pretrained`."
    )
    image_size: int | None = Field(
        None,
        ge=1,
        description="Pixels of a frame's short side after resizing; null is the checkpoint's own, or 64. Pixels "
        "beyond the last complete patch are ignored.",
    )
    resize: Resize | None = Field(
        None,
        description="Resizing: keep the aspect ratio (with this short side, or at most the patches of a square of this "
        "side), or make a square by squashing, cropping or padding; null is the mode of the checkpoint's "
        "preprocessor_config.json, or keep-aspect.",
    )
    patch_size: int | None = Field(
        None, ge=1, description="Pixels of a patch's side, for random weights; null is the checkpoint's own, or 8."
    )
    width: int | None = Field(
        None, ge=1, description="Channels per token, for random weights; null is the checkpoint's own, or 96."
    )
    depth: int | None = Field(
        None, ge=1, description="Number of blocks, for random weights; null is the checkpoint's own, or 4."
    )
    heads: int | None = Field(
        None, ge=1, description="Attention heads, for random weights; null is the checkpoint's own, or 4."
    )
    layer: int = Field(
        -1,
        le=-1,
        description="Block whose output is used, counted from the end: -1 is the last, with the final norm; -2 the one "
        "before it, as in LLaVA, without that norm. Later blocks are dropped; a reducer merges in the others.",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        shape = {"family": self.family, "patch_size": self.patch_size, "width": self.width, "depth": self.depth}
        names = [name for name, value in (shape | {"heads": self.heads}).items() if value is not None]
        if self.pretrained is not None and names:
            raise ValueError(f"pretrained weights determine the sizes: remove {', '.join(names)}")
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "encoder",
        "transformers-vision",
        "Vision tower of transformers: SigLIP, SigLIP2, CLIP, DINOv2, with pretrained or random weights.",
        TransformersVisionConfig,
        "composer_plugins.transformers_vision.encoder:TransformersVisionEncoder",
        in_blocks=True,
    )
