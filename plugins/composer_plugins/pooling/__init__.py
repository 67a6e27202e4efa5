"""The reducer `pooling`: averages of neighbouring tokens."""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Sides = PositiveInt | tuple[PositiveInt, PositiveInt]


class PoolingConfig(ComponentConfig):
    """Options of the reducer `pooling`: a window of fixed size, or a grid of fixed size."""

    window: Sides | None = Field(
        2, description="Patches that become one token: a side, or [rows, columns]. Windows at the edges may be smaller."
    )
    output: Sides | None = Field(
        None, description="Tokens of a frame, whatever its grid: a side, or [rows, columns]; replaces `window`."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_window_gives_way(cls, options: Any) -> Any:
        if isinstance(options, dict) and options.get("output") is not None and "window" not in options:
            return {**options, "window": None}
        return options

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.window is None) == (self.output is None):
            got = "neither" if self.window is None else "both"
            raise ValueError(f"give one of window and output (the other null); got {got}")
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reducer",
        "pooling",
        "Average pooling over windows of patches, or to a grid of fixed size.",
        PoolingConfig,
        "composer_plugins.pooling.reducer:Pooling",
    )
