"""The reducer `tome`: token merging inside the encoder's blocks."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from composer.plugin import Component, ComponentConfig, hookimpl

Order = Literal["ascending", "descending", "none", "raster"]


class TomeConfig(ComponentConfig):
    """Options of the reducer `tome`. How much to merge is given once: as `keep_ratio`, `r` or `target_tokens`."""

    renamed: ClassVar[Mapping[str, str]] = {"ratio": "keep_ratio"}

    keep_ratio: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of a frame's patches to keep, roughly: in each block, floor((1 - keep_ratio) * patches / "
        "blocks) tokens are merged away.",
    )
    r: int | None = Field(None, ge=0, description="Tokens to merge away in each block.")
    target_tokens: int | None = Field(None, ge=1, description="Tokens of a frame after the last block.")
    order: Order = Field(
        "ascending",
        description="Tokens that leave the encoder: by size, as merging leaves them (none), or by their first patch.",
    )
    proportional: bool = Field(
        True, description="Whether attention weighs each key by its token's size (off for weights trained without)."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_gives_way(cls, options: Any) -> Any:
        if isinstance(options, dict) and "keep_ratio" not in options:
            other = any(options.get(key) is not None for key in ("r", "target_tokens"))
            return {**options, "keep_ratio": None} if other else options
        return options

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        amounts = {"keep_ratio": self.keep_ratio, "r": self.r, "target_tokens": self.target_tokens}
        given = [name for name, value in amounts.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of keep_ratio, r and target_tokens (the others null); got {', '.join(given) or 'none'}"
            )
        return self


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reducer",
        "tome",
        "Token merging (ToMe): similar tokens become one in every block of the encoder.",
        TomeConfig,
        "composer_plugins.tome.reducer:Tome",
        in_blocks=True,
    )
