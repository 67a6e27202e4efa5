"""The reducer `tome`: token merging inside the encoder's blocks."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Order = Literal["ascending", "descending", "none", "raster"]


class TomeConfig(ComponentConfig):
    """Options of the reducer `tome`. One of `keep_ratio`, `r` and `target_tokens` sets the amount of merging."""

    renamed: ClassVar[Mapping[str, str]] = {"ratio": "keep_ratio"}

    keep_ratio: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="Approximate fraction of a frame's patches to keep: each block merges "
        "floor((1 - keep_ratio) * patches / blocks) tokens.",
    )
    r: int | None = Field(None, ge=0, description="Number of tokens to merge in each block.")
    target_tokens: int | None = Field(None, ge=1, description="Tokens per frame after the last block.")
    order: Order = Field(
        "ascending",
        description="Order of tokens: by size (ascending, descending), by first patch (raster), or unsorted (none).",
    )
    proportional: bool = Field(True, description="Whether attention weights each key by the size of its token.")

    @model_validator(mode="before")
    @classmethod
    def _drop_default(cls, options: object) -> object:
        if isinstance(options, dict) and "keep_ratio" not in options:
            other = any(options.get(key) is not None for key in ("r", "target_tokens"))
            return {**options, "keep_ratio": None} if other else options
        return options

    @model_validator(mode="after")
    def _check_amount(self) -> Self:
        amounts = {"keep_ratio": self.keep_ratio, "r": self.r, "target_tokens": self.target_tokens}
        names = [name for name, value in amounts.items() if value is not None]
        if len(names) != 1:
            raise ValueError(
                f"got {', '.join(names) or 'none'}, expected one of keep_ratio, r and target_tokens: set others to null"
            )
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reducer",
        "tome",
        "Token merging (ToMe): merges similar tokens in every block of the encoder.",
        TomeConfig,
        "composer_plugins.tome.reducer:Tome",
        in_blocks=True,
    )
