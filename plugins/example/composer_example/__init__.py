"""Components of this plugin. Does not import torch: composer imports this module to list components."""

from collections.abc import Iterable

from pydantic import Field

from composer.plugin import Component, ComponentConfig, hookimpl


class ConvConfig(ComponentConfig):
    """Options of the encoder `conv`."""

    width: int = Field(64, ge=1, description="Channels per token.")
    depth: int = Field(3, ge=1, description="Number of blocks.")
    patch_size: int = Field(8, ge=1, description="Pixels of a patch's side.")
    image_size: int = Field(64, ge=1, description="Pixels of a frame's short side after resizing.")


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "encoder",
        "conv",
        "Patches mixed by depthwise convolutions.",
        ConvConfig,
        "composer_example.encoder:ConvEncoder",
    )
