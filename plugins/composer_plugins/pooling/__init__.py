"""The reducer `pooling`: averages of adjacent tokens."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Sides = PositiveInt | tuple[PositiveInt, PositiveInt]


class PoolingConfig(ComponentConfig):
    """Options of the reducer `pooling`: a fixed window, or a fixed output grid."""

    window: Sides | None = Field(
        2, description="Patches per token: a side, or [rows, columns]. Windows at the edges may be smaller."
    )
    output: Sides | None = Field(
        None, description="Tokens per frame for any input grid: a side, or [rows, columns]; replaces `window`."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_default_window(cls, options: object) -> object:
        if isinstance(options, dict) and options.get("output") is not None and "window" not in options:
            return {**options, "window": None}
        return options

    @model_validator(mode="after")
    def _check_one_size(self) -> Self:
        if (self.window is None) == (self.output is None):
            got = "neither" if self.window is None else "both"
            raise ValueError(f"got {got} of window and output, expected one of them; set the other to null")
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reducer",
        "pooling",
        "Average pooling over windows of patches, or to a fixed output grid.",
        PoolingConfig,
        "composer_plugins.pooling.reducer:Pooling",
    )
