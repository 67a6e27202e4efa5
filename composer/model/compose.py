"""Builds a model from a configuration: passes each part its neighbors' sizes and checks that the parts fit."""

from collections.abc import Mapping
from typing import Any

from composer.errors import ComposeError, ConfigError
from composer.model.multimodal import MultimodalModel
from composer.model.unfilled import unfilled_parameters
from composer.parts import BlockReducer, Encoder, Reducer, Resolved, TokenShape
from composer.plugin import Kind, SlotConfig
from composer.recipe.model import ModelConfig
from composer.registry import Registry, load_registry
from composer.tokenizer import tokenizer_from


def compose(config: ModelConfig, resolved: Mapping[str, Resolved] | None = None) -> MultimodalModel:
    """Build the model of a configuration.

    Args:
        config: Components, their options, and the prompt.
        resolved: Values of parts from a checkpoint (`Part.resolved`), by their names in the model, such as
            "reducers.0". These parts read no files, and their parameters are on the meta device until they are filled.

    Raises:
        PluginError: A part cannot be built.
        ConfigError: Its options do not fit each other.
        ComposeError: Parts do not fit together.
    """
    builder = _Builder(load_registry(), resolved or {})
    encoder = _encoder(builder, config)
    reducers, tokens = _reducers(builder, config, encoder)
    spec = config.prompt.tokenizer
    tokenizer = None if spec is None else tokenizer_from(spec)
    backbone = builder.build("backbone", "backbone", config.backbone, tokenizer=tokenizer)
    projector = builder.build("projector", "projector", config.projector, in_dim=tokens.dim, out_dim=backbone.dim)
    return MultimodalModel(encoder, reducers, projector, backbone, config.prompt.layout)


class _Builder:
    """Builds parts from a registry. Parts that a checkpoint has resolved have parameters without values."""

    def __init__(self, registry: Registry, resolved: Mapping[str, Resolved]) -> None:
        self.registry, self.resolved = registry, resolved

    def build(self, part: str, kind: Kind, config: SlotConfig, **from_neighbors: Any) -> Any:
        """Build the part of this name in the model."""
        resolved = self.resolved.get(part)
        if resolved is None:
            return self.registry.build(kind, config, **from_neighbors)
        with unfilled_parameters():
            return self.registry.build(kind, config, resolved=resolved, **from_neighbors)


def _encoder(builder: _Builder, config: ModelConfig) -> Encoder:
    prefix = "model.encoder: "
    try:
        encoder: Encoder = builder.build("encoder", "encoder", config.encoder)
    except ConfigError as error:
        raise ConfigError([prefix + problem.removeprefix(prefix) for problem in error.problems]) from error
    return encoder


def _reducers(
    builder: _Builder, config: ModelConfig, encoder: Encoder
) -> tuple[list[BlockReducer | Reducer], TokenShape]:
    """The chain of reducers, each built for the output of the previous one, and the shape of its output."""
    side = encoder.transform.size
    tokens = encoder.shape(side, side)
    reducers: list[BlockReducer | Reducer] = []
    for index, slot in enumerate(config.reducer):
        reducer = builder.build(f"reducers.{index}", "reducer", slot, dim=tokens.dim, depth=encoder.depth)
        subject = f"model.reducer.{index}: reducer {slot.name!r}"
        if isinstance(reducer, BlockReducer) and index > 0:
            raise ComposeError(f"{subject} works inside the encoder's blocks, so it must come first in the chain")
        if isinstance(reducer, Reducer) and reducer.needs_grid and tokens.grid is None:
            raise ComposeError(
                f"{subject} needs the patch grid, which {config.reducer[index - 1].name!r} before it does not keep: "
                "put it first, or remove one of the two"
            )
        tokens = reducer.shape(tokens)
        if tokens.count < 1:
            raise ComposeError(f"{subject}: got no token per {side} x {side} frame, expected at least one: reduce less")
        reducers.append(reducer)
    return reducers, tokens
