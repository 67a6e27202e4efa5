"""Interfaces of a model's parts: input and output of each slot.

    frames -> Encoder (+ BlockReducer inside its blocks) -> Reducer ... -> Projector -> splice -> Backbone -> text

Legend: F frames of one grid, P patches per frame, N tokens per frame, D channels, B rows, T positions, V vocabulary.
Nothing after the encoder may assume a square grid, a class token, or a fixed number of tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from composer.merging import merge_by_size
from composer.packing import forward_as_rows
from composer.parameters import ParameterGroup, decay_groups
from composer.prompt import Template
from composer.state import State
from composer.tokenizer import Tokenizer
from composer.transform import FrameTransform

Modality = Literal["image", "video", "audio"]
Grid = tuple[int, int]
Resolved = dict[str, Any]
"""Plain values and tensors of a part that a checkpoint stores, by name."""


class VisualTokens(NamedTuple):
    """Tokens of F frames of one grid, between the encoder and the projector.

    Attributes:
        features: [F, N, D] in the encoder's dtype.
        sizes: [F, N] fp32, the number of patches that each token represents; each row sums to P.
        sources: [F, P] int64, the index of the token that contains each patch; None if not requested.
        grid: (rows, columns) if the tokens are still the patch grid in raster order, else None.
        clip: [F] int64, the index of the frame's clip in the batch.
        time: [F] fp32, seconds from the start of the clip.
    """

    features: Tensor
    sizes: Tensor
    sources: Tensor | None
    grid: Grid | None
    clip: Tensor
    time: Tensor


class TokenShape(NamedTuple):
    """Shape of one frame's tokens, known before any pixel is read; `grid` as in `VisualTokens`."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here
    dim: int
    grid: Grid | None


class BlockTokens(NamedTuple):
    """Tokens between two blocks of an encoder. Prefix tokens (class, registers) come first and are never merged.

    A block must construct its return value: torch 2.11 cannot compile a block that returns `tokens._replace(...)`.

    Attributes:
        x: [F, prefix + N, D].
        sizes: [F, prefix + N] int32 (1 for a prefix token); None before the first merge.
        sources: [F, P] int64 indices that do not count the prefix, or None.
    """

    x: Tensor
    sizes: Tensor | None  # integers, because bf16 cannot count to 257
    sources: Tensor | None


class Part(nn.Module):
    """Base of all parts of a model."""

    def resolved(self) -> Resolved | None:
        """Plain values and tensors (no weights) from which, with the options, the part is rebuilt without other files.

        A checkpoint stores them. The part is restored with `target(**options, resolved=...)`, its parameters on the
        meta device (docs/plugins.md). If None, it is rebuilt from its files as in training, and weights are copied.
        """
        return None


class BlockReducer(Part, ABC):
    """A reducer that merges tokens between attention and MLP in every block of an encoder (ToMe).

    dim: channels of the encoder's tokens. depth: number of its blocks.

    An encoder supports one by running its blocks with `composer.blocks.run_blocks`. Each block then calls
    `tokens = reducer.merge(tokens, keys, r, prefix)` with its own keys, between its attention and its MLP.
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
        """Number of tokens to merge in each of the `depth` blocks for a frame of `patches` patches. Pure."""

    @abstractmethod
    def plan(self, metric: Tensor, r: int) -> Tensor:
        """Map features whose similarity decides, [F, N, C], to each token's index [F, N] in the N - r new tokens."""

    @abstractmethod
    def finish(self, tokens: VisualTokens) -> VisualTokens:
        """Sort the encoder's output tokens."""

    def shape(self, tokens: TokenShape) -> TokenShape:
        """Shape of a frame's tokens after the reducer. Pure: depends on no pixel and no parameter."""
        merged = sum(self.schedule(tokens.count))
        return tokens._replace(count=tokens.count - merged, grid=None if merged else tokens.grid)

    def merge(self, tokens: BlockTokens, metric: Tensor, r: int, prefix: int = 0) -> BlockTokens:
        """Merge `r` tokens: average features weighted by size in fp32, add sizes, update sources.

        Args:
            tokens: Tokens of a block, after its attention.
            metric: [F, prefix + N, C] features for `plan`; for ToMe the mean of the keys over heads.
            r: Number of tokens to merge.
            prefix: Number of prefix tokens, which are not merged.
        """
        if r == 0:
            return tokens
        x, sizes, sources = tokens
        if sizes is None:
            sizes = torch.ones(x.shape[:2], dtype=torch.int32, device=x.device)
        target = self.plan(metric[:, prefix:], r)  # [F, N]
        merged, merged_sizes = merge_by_size(x[:, prefix:], sizes[:, prefix:], target, x.shape[1] - prefix - r)
        return BlockTokens(
            torch.cat([x[:, :prefix], merged], dim=1),
            torch.cat([sizes[:, :prefix], merged_sizes], dim=1),
            None if sources is None else target.gather(1, sources),
        )


class Reducer(Part, ABC):
    """A reducer of an encoder's output tokens (pooling, resampling, sorting); `dim` is their number of channels."""

    needs_grid: ClassVar[bool] = False
    """Whether its input tokens must be a grid in raster order."""

    def __init__(self, *, dim: int, depth: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        """Reduce the tokens of F frames of one grid."""

    @abstractmethod
    def shape(self, tokens: TokenShape) -> TokenShape:
        """Shape of a frame's tokens after the reducer. Pure: depends on no pixel and no parameter. `dim` may change."""


class Encoder(Part, ABC):
    """Converts frames to tokens. `__init__` sets the attributes.

    Attributes:
        modalities: Media that it supports.
        dim: Channels of its tokens.
        depth: Number of its blocks.
        patch_size: Side of a patch in pixels.
        transform: Converts a decoded frame to its input. Runs in data workers, so it has no tensors.
        block_classes: Modules that activation checkpointing wraps.
    """

    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    dim: int
    depth: int
    patch_size: int
    transform: FrameTransform
    block_classes: tuple[type[nn.Module], ...]

    def shape(self, height: int, width: int) -> TokenShape:
        """Shape of the tokens of one frame of `height` x `width` pixels *after* `transform`, before reducers. Pure."""
        rows, columns = height // self.patch_size, width // self.patch_size
        return TokenShape(rows * columns, self.dim, (rows, columns))

    @abstractmethod
    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        """Encode frames of one size.

        Args:
            frames: [F, 3, H, W] uint8; the encoder normalizes them.
            reducer: Reducer to run in the blocks; always None if the encoder's component is not `in_blocks`.
            keep_sources: True to return `VisualTokens.sources`.

        Returns:
            Tokens after the last norm, without prefix tokens and pooling head. `clip` and `time` are zeros; composer
            sets them.
        """


class Projector(Part, ABC):
    """Maps visual features of `in_dim` channels to the backbone's width, `out_dim`."""

    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map [..., in_dim] to [..., out_dim]."""


class Backbone(Part, ABC):
    """A causal language model over embeddings. `__init__` sets the attributes.

    Attributes:
        dim: Width of its embeddings.
        vocab_size: Rows of its head.
        context_length: Number of positions it was trained on; None if unknown.
        tokenizer: Converts text to ids.
        template: Converts a conversation to text.
        state_class: Class of the state that `forward` returns.
        block_classes: Modules that activation checkpointing wraps.
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
        """Embed ids: [B, T] int64 to [B, T, dim]. Raises ValueError (`check_ids`) for ids outside the vocabulary."""

    @abstractmethod
    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        """Compute hidden states and the state after each row's last real position.

        In training it must not read a tensor's value on the host (`item`, `tolist`, `if tensor`, boolean indices),
        because the host would wait for the device.

        Args:
            embeds: [B, T, dim]; with `cu_seqlens` [1, T, dim], S sequences one after the other.
            mask: [B, T] bool, False at padding on either side, which changes no result; None if there is no padding,
                as with `cu_seqlens`.
            state: State of the preceding positions, from an earlier call; it is not modified.
            cu_seqlens: S + 1 numbers (`composer.packing`). Both states then have S rows; while gradients are recorded,
                the returned one may be `Unkept`.

        Returns:
            Hidden states after the last norm, [B, T, dim], and the state.

        Raises:
            ValueError: If `cu_seqlens` does not match `embeds`.
        """

    def forward_unpacked(self, embeds: Tensor, state: State | None, cu_seqlens: Sequence[int]) -> tuple[Tensor, State]:
        """`forward` with `cu_seqlens` for a backbone without kernels for packed sequences."""
        return forward_as_rows(self, self.state_class, embeds, state, cu_seqlens)

    def reserve(self, state: State, positions: int) -> State | None:
        """Copy `state` so that `step` can update it `positions` times in fixed shapes. None if there is no `step`."""
        return None

    def step(self, embeds: Tensor, state: State) -> Tensor:
        """Run `forward` for one position per row, [B, 1, dim], and update `state` (from `reserve`) in place.

        On CUDA it is captured as a graph with `embed` and `head`, if none of them depends on a tensor's value.
        """
        raise NotImplementedError(f"{type(self).__name__} reserves states but has no step: implement Backbone.step")

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Compute logits: [..., dim] to [..., vocab_size]."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Optimizer groups; each trainable parameter is in exactly one. By default those of `decay_groups`."""
        return decay_groups(self)


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError if an id is not a row of the embedding. For `embed`, after an IndexError of the lookup."""
    wrong = ids[(ids < 0) | (ids >= vocab_size)].unique().tolist()
    if wrong:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}; got {wrong[:5]}: were they made by this tokenizer?")
