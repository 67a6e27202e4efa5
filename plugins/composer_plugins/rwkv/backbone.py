"""RWKV-6 behind composer's contract: sizes, weights, state, optimizer groups."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from composer.errors import CheckpointError, ConfigError
from composer.parts import Backbone, check_ids
from composer.prompt import WORLD
from composer.state import State
from composer.tokenizer import Tokenizer, tokenizer_from
from composer_plugins.rwkv.initial import initialise
from composer_plugins.rwkv.rwkv6 import RWKV6, Block, LayerState, Sizes
from composer_plugins.rwkv.weights import read_weights, sizes_of

WORLD_ROWS = 65536
"""Rows of every World model's embedding: the 65,530 ids and a few that are never used."""


@dataclass(frozen=True)
class RecurrentState(State):
    """Each block's state; its size does not depend on how much has been read."""

    layers: tuple[LayerState, ...]

    def tensors(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": part for i, layer in enumerate(self.layers) for name, part in layer._asdict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        depth = len(tensors) // len(LayerState._fields)
        return cls(tuple(LayerState(*(tensors[f"{i}.{name}"] for name in LayerState._fields)) for i in range(depth)))


class RWKV6Backbone(Backbone):
    """RWKV-6 from the author's weights or his initialisation.

    `model` holds the author's parameter names, so `model.load_state_dict` takes an official file.
    """

    state_class = RecurrentState
    block_classes = (Block,)
    template = WORLD

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None = None,
        pretrained: str | None = None,
        revision: str | None = None,
        context_length: int | None = None,
        **options: int | None,
    ) -> None:
        """options: the sizes of `RWKV6Config`, None where they follow from the checkpoint or the defaults.

        Raises ConfigError on sizes that do not fit together, CheckpointError on weights that cannot be used.
        """
        super().__init__()
        self.tokenizer = tokenizer or tokenizer_from("world")
        self.context_length = context_length
        if pretrained is None:
            rows = WORLD_ROWS if tokenizer is None else math.ceil(tokenizer.vocab_size / 8) * 8
            sizes = _sizes(rows, **options)
            self.model = RWKV6(sizes)
            initialise(self.model, sizes)
        else:
            self.model, sizes = _load(pretrained, revision, options)
        if self.tokenizer.vocab_size > sizes.vocab:
            raise ConfigError(
                f"prompt.tokenizer: its {self.tokenizer.vocab_size} ids are more than the {sizes.vocab} rows of "
                f"{pretrained}: use its own tokenizer (null)."
            )
        self.dim, self.vocab_size = sizes.width, sizes.vocab

    def embed(self, ids: Tensor) -> Tensor:
        check_ids(ids, self.vocab_size)
        return self.model.emb(ids)

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        if cu_seqlens is not None:
            return self.forward_unpacked(embeds, state, cu_seqlens)
        assert state is None or isinstance(state, RecurrentState)
        hidden, layers = self.model(embeds, mask, state.layers if state else None)
        return hidden, RecurrentState(layers)

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The author's rules: weight decay on linear and embedding layers alone, the decay's bias at twice the rate."""
        decays: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            leaf = name.rpartition(".")[2]
            if leaf == "time_decay":
                decays.append(parameter)
            elif leaf == "weight" and parameter.ndim == 2:
                matrices.append(parameter)
            else:
                rest.append(parameter)
        return [
            {"params": matrices},
            {"params": rest, "weight_decay": 0.0},
            {"params": decays, "weight_decay": 0.0, "lr_scale": 2.0},
        ]


def _sizes(
    vocab: int,
    width: int | None = None,
    depth: int | None = None,
    head_size: int | None = None,
    ffn_width: int | None = None,
    mix_rank: int | None = None,
    decay_rank: int | None = None,
) -> Sizes:
    """Sizes of a model with random weights. The author's ranks are 32 and 64, and 64 and 128 from 4,096 channels on."""
    width, head = width or 128, head_size or 32
    if width % head:
        raise ConfigError(f"model.backbone: width {width} is not a multiple of head_size {head}.")
    rank = 64 if width >= 4096 else max(4, min(32, width // 8))
    ffn = ffn_width or max(32, int(3.5 * width) // 32 * 32)
    return Sizes(vocab, width, depth or 4, head, ffn, mix_rank or rank, decay_rank or 2 * rank)


def _load(pretrained: str, revision: str | None, options: dict[str, int | None]) -> tuple[RWKV6, Sizes]:
    weights = read_weights(pretrained, revision)
    sizes = sizes_of(weights)
    own = {
        "width": sizes.width,
        "depth": sizes.depth,
        "head_size": sizes.head,
        "ffn_width": sizes.ffn,
        "mix_rank": sizes.mix_rank,
        "decay_rank": sizes.decay_rank,
    }
    wrong = [
        f"model.backbone.{name}: got {options[name]}, but {pretrained} has {value}: leave it out."
        for name, value in own.items()
        if options.get(name) not in (None, value)
    ]
    if wrong:
        raise ConfigError(wrong)
    with torch.device("meta"):
        model = RWKV6(sizes)
    dtype = torch.get_default_dtype()
    try:
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{pretrained}: {error}") from error
    return model, sizes
