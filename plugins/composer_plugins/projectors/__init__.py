"""The projectors `mlp` and `linear`, which map visual features to the backbone's width."""

from collections.abc import Iterable

from pydantic import Field

from composer.plugin import Component, ComponentConfig, hookimpl


class LinearConfig(ComponentConfig):
    """Options of the projector `linear`; it has none."""


class MLPConfig(ComponentConfig):
    """Options of the projector `mlp`."""

    depth: int = Field(2, ge=2, description="Number of linear layers, with GELU between them.")
    hidden_width: int | None = Field(None, ge=1, description="Channels between the layers; null for the output width.")


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "projector",
        "linear",
        "One linear layer.",
        LinearConfig,
        "composer_plugins.projectors.mlp:Linear",
    )
    yield Component(
        "projector",
        "mlp",
        "Linear layers with GELU between them, two by default (LLaVA-1.5, AuroraLong).",
        MLPConfig,
        "composer_plugins.projectors.mlp:MLP",
    )
