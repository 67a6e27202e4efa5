"""RWKV backbones: sizes, weights, state, optimizer groups."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from composer.errors import ConfigError
from composer.packing import check_packed
from composer.parameters import ParameterGroup
from composer.parts import Backbone, Resolved, check_ids
from composer.prompt import WORLD
from composer.state import State
from composer.tokenizer import Tokenizer, tokenizer_from
from composer_plugins.rwkv.initial import initialize
from composer_plugins.rwkv.model import RWKV, Block
from composer_plugins.rwkv.rwkv6 import RWKV6
from composer_plugins.rwkv.rwkv7 import RWKV7
from composer_plugins.rwkv.sequences import Sequences
from composer_plugins.rwkv.sizes import RWKV6Sizes, RWKV7Sizes, Sizes
from composer_plugins.rwkv.state import RecurrentState
from composer_plugins.rwkv.weights import check_weights, read_weights

CPU_SEGMENT = 512
"""Positions per segment on a CPU without gradients, so that intermediate values fit its caches."""

WORLD_ROWS = 65536
"""Rows of the embedding in World models: 65,530 ids and a few unused rows."""


class RWKVBackbone(Backbone):
    """An RWKV model with pretrained weights or the author's initialization.

    `model` has the author's parameter names, so `model.load_state_dict` accepts an official file.
    """

    version: ClassVar[Literal["6", "7"]]
    sizes_class: ClassVar[type[RWKV6Sizes | RWKV7Sizes]]
    model_class: ClassVar[type[RWKV]]
    decay_bias: ClassVar[str]
    """Parameter that the author trains with twice the learning rate."""

    block_classes = (Block,)
    state_class = RecurrentState
    template = WORLD

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None = None,
        pretrained: str | None = None,
        revision: str | None = None,
        context_length: int | None = None,
        segment_length: int | None = None,
        compile_decoding: bool = False,
        resolved: Resolved | None = None,
        **options: int | None,
    ) -> None:
        """Build the model.

        Args:
            tokenizer: Tokenizer; None for RWKV World's.
            pretrained: Weights; see `read_weights`. None for random weights.
            revision: Commit, tag or branch on the hub.
            context_length: Maximum length of a prompt in positions; None for no limit.
            segment_length: Positions per segment; see `RWKVConfig`.
            compile_decoding: Whether to compile the step of generation.
            resolved: Sizes from a checkpoint of composer, whose weights are loaded later.
            options: Sizes from the component's config; None for those of the checkpoint or the defaults.

        Raises:
            ConfigError: If sizes do not match each other or the checkpoint.
            CheckpointError: If the weights cannot be used.
        """
        super().__init__()
        self.tokenizer = tokenizer or tokenizer_from("world")
        self.context_length, self.segment_length = context_length, segment_length
        if resolved is not None:
            sizes = self._check_sizes(self.sizes_class(**resolved), "the checkpoint", options)
            self.model = self.model_class(sizes)
        elif pretrained is None:
            rows = WORLD_ROWS if tokenizer is None else math.ceil(tokenizer.vocab_size / 8) * 8
            sizes = self._random_sizes(rows, options)
            self.model = self.model_class(sizes)
            initialize(self.model, sizes)
        else:
            self.model, sizes = self._load(pretrained, revision, options)
        if self.tokenizer.vocab_size > sizes.vocab:
            raise ConfigError(
                f"prompt.tokenizer: got a tokenizer with {self.tokenizer.vocab_size} ids, but {pretrained} has "
                f"{sizes.vocab}: use its own tokenizer (null)"
            )
        self.sizes = sizes
        self.dim, self.vocab_size = sizes.width, sizes.vocab
        for block in self.model.modules():
            if isinstance(block, Block):
                block.compile_step = compile_decoding

    def embed(self, ids: Tensor) -> Tensor:
        try:
            return self.model.emb(ids)
        except IndexError:
            check_ids(ids, self.vocab_size)
            raise

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        assert state is None or isinstance(state, RecurrentState)
        sequences = Sequences(None if mask is None else mask[..., None])
        if cu_seqlens is not None:
            check_packed(embeds, cu_seqlens)
            if len(cu_seqlens) > 2:  # else one sequence fills the row: dense, and split into segments if it is long
                sequences = Sequences.packed(cu_seqlens, embeds.device)
        length = self.segment_length
        if length is None and embeds.device.type == "cpu" and not torch.is_grad_enabled():
            length = CPU_SEGMENT
        hidden, layers = self.model(embeds, sequences, state.layers if state else None, length)
        return hidden, RecurrentState(layers)

    def reserve(self, state: State, positions: int) -> State:
        return state.clone()

    @torch.no_grad()
    def step(self, embeds: Tensor, state: State) -> Tensor:
        assert isinstance(state, RecurrentState)
        hidden, layers = self.model(embeds, Sequences(), state.layers)
        for layer, new in zip(state.layers, layers, strict=True):
            for value, after in zip(layer, new, strict=True):
                value.copy_(after)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden)

    def resolved(self) -> Resolved:
        return asdict(self.sizes)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the author's groups: weight decay for matrices only, twice the learning rate for the decay's bias."""
        decays: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            leaf = name.rpartition(".")[2]
            if leaf == self.decay_bias:
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

    def _random_sizes(self, vocab: int, options: dict[str, int | None]) -> Sizes:
        """Sizes for random weights."""
        width, head = options.get("width") or 128, options.get("head_size") or 32
        if width % head:
            raise ConfigError(f"model.backbone: width {width} is not a multiple of head_size {head}")
        ranks = {name: value for name, value in options.items() if name.endswith("_rank")}
        return self.sizes_class.of_width(
            vocab=vocab, width=width, depth=options.get("depth") or 4, head=head, ffn=options.get("ffn_width"), **ranks
        )

    def _check_sizes(self, sizes: Sizes, source: str, options: dict[str, int | None]) -> Sizes:
        """Return the sizes of weights from `source`. Raises ConfigError if the options differ from them."""
        own = sizes.options()
        wrong = [
            f"model.backbone.{name}: got {option}, but {source} has {own[name]}: remove it"
            for name, option in options.items()
            if option not in (None, own[name])
        ]
        if wrong:
            raise ConfigError(wrong)
        return sizes

    def _load(self, pretrained: str, revision: str | None, options: dict[str, int | None]) -> tuple[RWKV, Sizes]:
        weights = read_weights(pretrained, revision, self.version)
        sizes = self._check_sizes(self.sizes_class.of_weights(weights), pretrained, options)
        with torch.device("meta"):
            model = self.model_class(sizes)
        check_weights(weights, {name: value.shape for name, value in model.state_dict().items()}, pretrained)
        dtype = torch.get_default_dtype()
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
        return model, sizes


class RWKV6Backbone(RWKVBackbone):
    """RWKV-6 "Finch"."""

    version, decay_bias = "6", "time_decay"
    sizes_class, model_class = RWKV6Sizes, RWKV6


class RWKV7Backbone(RWKVBackbone):
    """RWKV-7 "Goose"."""

    version, decay_bias = "7", "w0"
    sizes_class, model_class = RWKV7Sizes, RWKV7
