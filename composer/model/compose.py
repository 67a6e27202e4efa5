"""A model from a configuration: build each part, pass it what follows from its neighbours, check that they fit."""

from composer.errors import ComposeError, ConfigError
from composer.model.multimodal import MultimodalModel
from composer.parts import BlockReducer, Encoder, Reducer, TokenShape
from composer.recipe.model import ModelConfig
from composer.registry import Registry, load_registry
from composer.tokenizer import tokenizer_from


def compose(config: ModelConfig) -> MultimodalModel:
    """Build the model that `config` names.

    Raises PluginError where a part cannot be built, ConfigError where its options do not fit each other, ComposeError
    where parts do not fit together.
    """
    registry = load_registry()
    encoder = _encoder(registry, config)
    reducers, tokens = _reducers(registry, config, encoder)
    spec = config.prompt.tokenizer
    tokenizer = None if spec is None else tokenizer_from(spec)
    backbone = registry.build("backbone", config.backbone, tokenizer=tokenizer)
    projector = registry.build("projector", config.projector, in_dim=tokens.dim, out_dim=backbone.dim)
    return MultimodalModel(encoder, reducers, projector, backbone, config.prompt.layout)


def _encoder(registry: Registry, config: ModelConfig) -> Encoder:
    where = "model.encoder: "
    try:
        encoder: Encoder = registry.build("encoder", config.encoder)
    except ConfigError as error:
        raise ConfigError([where + problem.removeprefix(where) for problem in error.problems]) from error
    return encoder


def _reducers(
    registry: Registry, config: ModelConfig, encoder: Encoder
) -> tuple[list[BlockReducer | Reducer], TokenShape]:
    """The chain of reducers, each built for the tokens that the one before it gives, and the tokens at its end."""
    side = encoder.transform.size
    tokens = encoder.shape(side, side)
    reducers: list[BlockReducer | Reducer] = []
    for place, chosen in enumerate(config.reducer):
        reducer = registry.build("reducer", chosen, dim=tokens.dim, depth=encoder.depth)
        where = f"model.reducer.{place}: reducer {chosen.name!r}"
        if isinstance(reducer, BlockReducer) and place > 0:
            raise ComposeError(f"{where} works inside the encoder's blocks, so it must come first in the chain.")
        if isinstance(reducer, Reducer) and reducer.needs_grid and tokens.grid is None:
            raise ComposeError(
                f"{where} needs tokens that lie on the patch grid, and {config.reducer[place - 1].name!r} before it "
                "takes them off it: put it first, or leave one of the two out."
            )
        tokens = reducer.shape(tokens)
        if tokens.count < 1:
            raise ComposeError(f"{where} leaves no token of a {side} x {side} frame: reduce less.")
        reducers.append(reducer)
    return reducers, tokens
