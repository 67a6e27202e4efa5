"""The contract between parts: what each slot of a model takes and gives.

    frames -> Encoder (+ BlockReducer inside its blocks) -> Reducer ... -> Projector -> splice -> Backbone -> text

Legend: F frames of one grid, P patches of a frame, N tokens of a frame, D channels, B rows, T positions, V vocabulary.
Nothing behind the encoder may assume a square grid, a class token, or a fixed count of tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from composer.packing import check_packed, lengths_of, on_device, pack, unpack
from composer.prompt import Template
from composer.state import State, Unkept
from composer.tokenizer import Tokenizer
from composer.transform import FrameTransform

Modality = Literal["image", "video", "audio"]
Grid = tuple[int, int]
Resolved = dict[str, Any]


class VisualTokens(NamedTuple):
    """Tokens of F frames of one grid, on their way from the encoder to the projector.

    features: [F, N, D] in the encoder's dtype.
    sizes: [F, N] fp32, the patches that each token stands for; each row sums to P.
    sources: [F, P] int64, the token that each patch went to, or None when nobody asked.
    grid: (rows, columns) while tokens still lie on the patch grid in raster order, else None.
    clip: [F] int64, which clip of the batch a frame belongs to; time: [F] fp32, seconds from the clip's start.
    """

    features: Tensor
    sizes: Tensor
    sources: Tensor | None
    grid: Grid | None
    clip: Tensor
    time: Tensor


class TokenShape(NamedTuple):
    """What is known of one frame's tokens before any pixel is read."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    dim: int
    grid: Grid | None


class BlockTokens(NamedTuple):
    """Tokens between two blocks of an encoder. Prefix tokens (class, registers) come first and are never merged.

    x: [F, prefix + N, D]; sizes: [F, prefix + N] int32 (1 for a prefix token), None before the first merge;
    sources: [F, P] int64 or None, counted without the prefix.

    A block constructs what it returns: torch 2.11 compiles no block that returns `tokens._replace(...)`.
    """

    x: Tensor
    sizes: Tensor | None  # integers, because bf16 cannot count to 257
    sources: Tensor | None


class Part(nn.Module):
    """Base of all parts of a model."""

    def resolved(self) -> Resolved | None:
        """Plain values and tensors, no weights, that with the options build this part again without any file.

        A checkpoint stores them; the part is restored as `target(**options, resolved=...)` with parameters without
        values (docs/plugins.md). None: as in training, so its files are needed again, and weights are then copied.
        """
        return None


class BlockReducer(Part, ABC):
    """A reducer that merges tokens between attention and MLP of every block of an encoder (ToMe).

    An encoder hosts one by running its blocks through `composer.blocks.run_blocks`. Each block then calls, between its
    attention and its MLP and with its own keys, `tokens = reducer.merge(tokens, keys, r, prefix)`.
    """

    proportional: bool = True
    """Whether the encoder adds log sizes to every key's attention logit (ToMe, eq. 1 of AuroraLong's supplement)."""

    needs_sources: bool = False
    """Whether `finish` needs `VisualTokens.sources`."""

    def __init__(self, *, dim: int, depth: int) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth

    @abstractmethod
    def schedule(self, patches: int) -> tuple[int, ...]:
        """Tokens to merge away in each of the `depth` blocks for a frame of `patches` patches. Pure."""

    @abstractmethod
    def plan(self, metric: Tensor, r: int) -> Tensor:
        """Where each token goes: [F, N, C] similarity features -> [F, N] int64 indices into N - r new tokens."""

    @abstractmethod
    def finish(self, tokens: VisualTokens) -> VisualTokens:
        """Order the encoder's output tokens."""

    def shape(self, tokens: TokenShape) -> TokenShape:
        """What becomes of a frame's tokens. Pure: reads no pixel and no parameter."""
        merged = sum(self.schedule(tokens.count))
        return tokens._replace(count=tokens.count - merged, grid=None if merged else tokens.grid)

    def merge(self, tokens: BlockTokens, metric: Tensor, r: int, prefix: int = 0) -> BlockTokens:
        """Merge `r` of the tokens: features averaged by size in fp32, sizes added, sources followed through the plan.

        metric: [F, prefix + N, C], for ToMe the keys averaged over heads.
        """
        if r == 0:
            return tokens
        x, sizes, sources = tokens
        if sizes is None:
            sizes = torch.ones(x.shape[:2], dtype=torch.int32, device=x.device)
        target = self.plan(metric[:, prefix:], r)  # [F, N]
        merged_sizes = sizes.new_zeros(x.shape[0], x.shape[1] - prefix - r)
        merged_sizes = merged_sizes.scatter_add(1, target, sizes[:, prefix:])
        weighted = x[:, prefix:].float() * sizes[:, prefix:, None]
        merged = weighted.new_zeros(*merged_sizes.shape, x.shape[2])
        merged = merged.scatter_add(1, target[..., None].expand_as(weighted), weighted) / merged_sizes[..., None]
        return BlockTokens(
            torch.cat([x[:, :prefix], merged.to(x.dtype)], dim=1),
            torch.cat([sizes[:, :prefix], merged_sizes], dim=1),
            None if sources is None else target.gather(1, sources),
        )


class Reducer(Part, ABC):
    """A reducer that works on an encoder's finished tokens (pooling, resampling, sorting)."""

    needs_grid: ClassVar[bool] = False
    """Whether tokens must still lie on the patch grid."""

    def __init__(self, *, dim: int, depth: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, tokens: VisualTokens) -> VisualTokens: ...

    @abstractmethod
    def shape(self, tokens: TokenShape) -> TokenShape:
        """What becomes of a frame's tokens. Pure: reads no pixel and no parameter. `dim` may change."""


class Encoder(Part, ABC):
    """Frames to tokens. Sets, in its `__init__`, the attributes below.

    dim: channels of its tokens. depth: its blocks. patch_size: pixels of a patch's side.
    transform: how a decoded frame becomes its input; runs in data workers, so it holds no tensor and pickles small.
    block_classes: the modules that activation checkpointing wraps.
    """

    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    dim: int
    depth: int
    patch_size: int
    transform: FrameTransform
    block_classes: tuple[type[nn.Module], ...]

    def shape(self, height: int, width: int) -> TokenShape:
        """Tokens of one frame of `height` x `width` pixels *after* `transform`, before any reducer. Pure."""
        rows, columns = height // self.patch_size, width // self.patch_size
        return TokenShape(rows * columns, self.dim, (rows, columns))

    @abstractmethod
    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        """[F, 3, H, W] uint8, normalized here, to tokens after the last norm; prefix tokens and pooling head are gone.

        `clip` and `time` are zeros: composer fills them in. An encoder whose component is not `in_blocks` is never
        given a reducer.
        """


class Projector(Part, ABC):
    """Visual features to the backbone's width."""

    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """[..., in_dim] to [..., out_dim]."""


class Backbone(Part, ABC):
    """A causal language model over embeddings. Sets, in its `__init__`, the attributes below.

    dim: width of its embeddings. vocab_size: rows of its head. context_length: trained positions, None if unknown.
    tokenizer, template: how text becomes ids, and how a conversation becomes text.
    state_class: what `forward` returns beside the hidden states.
    block_classes: the modules that activation checkpointing wraps.
    """

    dim: int
    vocab_size: int
    context_length: int | None
    tokenizer: Tokenizer
    template: Template
    state_class: type[State]
    block_classes: tuple[type[nn.Module], ...]

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """[B, T] int64 to [B, T, dim]. Raises ValueError (`check_ids`) on ids beyond the vocabulary."""

    @abstractmethod
    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        """Embeddings to hidden states after the last norm, and the state after each row's last real position.

        embeds: [B, T, dim]; mask: [B, T] bool, False at padding (left or right; each row equals the row alone);
        state: what came before, as an earlier call returned it; it is not modified. Returns ([B, T, dim], State).

        With cu_seqlens, S + 1 numbers (`composer.packing`), embeds [1, T, dim] hold S sequences one after the other,
        there is no mask, and the states before and after have S rows (while gradients are recorded, the one after may
        be `Unkept`). Raises ValueError if the two do not fit.

        In training it reads no value of a tensor back to the host (`item`, `tolist`, `if tensor`, boolean indices):
        the host would wait for the device.
        """

    def forward_unpacked(self, embeds: Tensor, state: State | None, cu_seqlens: Sequence[int]) -> tuple[Tensor, State]:
        """`forward` with `cu_seqlens` for a backbone without kernels for packed sequences: through padded rows.

        Sequences of similar length go together, so that none is padded to twice its length. While gradients are
        recorded the state is `Unkept`: joined, all its rows would be as long as the longest.
        """
        check_packed(embeds, cu_seqlens)
        lengths = lengths_of(cu_seqlens)
        pieces = embeds[0].split(lengths)
        similar: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            similar.setdefault(length.bit_length(), []).append(place)
        hidden: list[Tensor] = [*pieces]
        states: list[State] = []
        for places in similar.values():
            starts = list(accumulate((lengths[place] for place in places), initial=0))
            rows, mask = unpack(torch.cat([pieces[place] for place in places])[None], starts)
            before = None if state is None else state.select(on_device(places, embeds.device))
            out, after = self(rows, mask, before)
            for place, piece in zip(places, pack(out, starts)[0].split(lengths_of(starts)), strict=True):
                hidden[place] = piece
            if not torch.is_grad_enabled():
                states.append(after)
        whole = torch.cat(hidden)[None]
        if torch.is_grad_enabled():
            return whole, Unkept()
        order = on_device([place for places in similar.values() for place in places], embeds.device)
        return whole, self.state_class.cat(states).select(order.argsort())

    def reserve(self, state: State, positions: int) -> State | None:
        """A copy of `state` that `step` can update `positions` times, shapes unchanged; None if there is no `step`."""
        return None

    def step(self, embeds: Tensor, state: State) -> Tensor:
        """`forward` of one position per row, [B, 1, dim], that updates `state` (of `reserve`) in place.

        On CUDA it is captured as a graph with `embed` and `head`, if none of them depends on a tensor's value.
        """
        raise NotImplementedError(f"{type(self).__name__} reserves states but has no step: implement Backbone.step")

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """[..., dim] to logits [..., vocab_size]."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups: `params`, and where they differ from the recipe, `weight_decay` and `lr_scale`.

        Default: weight decay on all of two dimensions or more. Every trainable parameter is in exactly one group.
        """
        return decay_groups(self)


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError where an id is no row of the embedding; for `embed`, when the lookup raised an IndexError."""
    wrong = ids[(ids < 0) | (ids >= vocab_size)].unique().tolist()
    if wrong:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}; got {wrong[:5]}: were they made by this tokenizer?")


def decay_groups(module: nn.Module) -> list[dict[str, Any]]:
    """A module's trainable parameters as two optimizer groups: those of two dimensions or more, which decay, and the
    rest, norms and biases, which do not. As transformers' Trainer has it, embeddings and position tables decay too."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
