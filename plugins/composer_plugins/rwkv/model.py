"""Common structure of all versions of RWKV, with the author's parameter names, so that official files load directly.

A version defines a time mixer (instead of attention) and a channel mixer (the feed-forward network):

    mixer(x [B, T, D] normalized, value0, sequences, shift [S, D], wkv [S, H, K, K] | None) -> (out, value0, wkv)
    channels(x [B, T, D] normalized, sequences, shift [S, D]) -> out

`value0` is the value of the first block, which RWKV-7 mixes into those of later blocks. Legend: B rows, S sequences,
T positions, D width, H heads, K channels per head.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from composer_plugins.rwkv.linear import Linear
from composer_plugins.rwkv.sequences import Sequences
from composer_plugins.rwkv.sizes import Sizes

GROUP_NORM_EPS = 64e-5
"""The author divides by 8 before a norm with eps 1e-5; many implementations omit this and differ by 5e-3."""


class LayerState(NamedTuple):
    """State of one block.

    Attributes:
        shift: Last input of the time mixer [S, D].
        ffn_shift: Last input of the channel mixer [S, D].
        wkv: State of the recurrence [S, H, K (key), K (value)] fp32.
    """

    shift: Tensor
    ffn_shift: Tensor
    wkv: Tensor


class Block(nn.Module):
    """Time mixing, then channel mixing; the first block contains the model's input norm, as in official files."""

    att: Any
    ffn: Any
    compile_step = False

    def __init__(self, att: nn.Module, ffn: nn.Module, width: int, first: bool) -> None:
        super().__init__()
        self.ln0 = nn.LayerNorm(width) if first else None
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.att, self.ffn = att, ffn

    def forward(
        self, x: Tensor, value0: Tensor | None, sequences: Sequences, state: LayerState | None
    ) -> tuple[Tensor, Tensor | None, LayerState]:
        """Run the block.

        Args:
            x: Positions [B, T, D].
            value0: Value of the first block; None in the first block.
            sequences: Sequences in the rows of `x`.
            state: State before the first position; None for the start of the text.

        Returns:
            Positions [B, T, D], value of the first block, and state after the last position.
        """
        if self.ln0 is not None:
            x = self.ln0(x)
        if state is not None and x.shape[1] == 1 and sequences.dense and not torch.is_grad_enabled():
            step = _compiled_step() if self.compile_step else Block.step
            return step(self, x, value0, state)
        if state is None:
            zeros = x.new_zeros(sequences.count(x), x.shape[2])
            shift, ffn_shift, wkv = zeros, zeros, None
        else:
            shift, ffn_shift, wkv = state
        normed = sequences.fill_padding(self.ln1(x), shift)
        mixed, value0, wkv = self.att(normed, value0, sequences, shift, wkv)
        x = x + mixed
        ffn_normed = sequences.fill_padding(self.ln2(x), ffn_shift)
        x = x + self.ffn(ffn_normed, sequences, ffn_shift)
        return x, value0, LayerState(sequences.last(normed), sequences.last(ffn_normed), wkv)

    def step(self, x: Tensor, value0: Tensor | None, state: LayerState) -> tuple[Tensor, Tensor | None, LayerState]:
        """Run the block for one position without gradients, with few operations: their number dominates the cost."""
        x = x.squeeze(1)
        normed = self.ln1(x)
        mixed, value0, wkv = self.att.step(normed, value0, state.shift, state.wkv)
        x = x + mixed
        ffn_normed = self.ln2(x)
        x = x + self.ffn.step(ffn_normed, state.ffn_shift)
        return x[:, None], value0, LayerState(normed, ffn_normed, wkv)


@cache
def _compiled_step() -> Any:
    """Compiled step, the same function for all blocks."""
    return torch.compile(Block.step)


class RWKV(nn.Module):
    """Embedding, blocks, final norm and head, with the module names of official files."""

    time_mix: ClassVar[type[nn.Module]]
    channel_mix: ClassVar[type[nn.Module]]

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        # The constructor of nn.Embedding initializes it, which on the meta device costs seconds of imports.
        self.emb = nn.Embedding.from_pretrained(torch.empty(sizes.vocab, sizes.width), freeze=False)
        self.blocks = nn.ModuleList(
            Block(self.time_mix(sizes, layer), self.channel_mix(sizes), sizes.width, first=layer == 0)
            for layer in range(sizes.depth)
        )
        self.ln_out = nn.LayerNorm(sizes.width)
        self.head = Linear(sizes.width, sizes.vocab)

    def forward(
        self,
        embeds: Tensor,
        sequences: Sequences,
        states: tuple[LayerState, ...] | None,
        segment_length: int | None = None,
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Run all blocks, on long rows one segment after another.

        Intermediate values exist for one segment at a time; so does recomputation with activation checkpointing.

        Args:
            embeds: Embeddings [B, T, D].
            sequences: Sequences in the rows of `embeds`.
            states: State of each block before the first position; None for the start of the text.
            segment_length: Positions per segment; None for no limit.

        Returns:
            Hidden states [B, T, D] after the final norm, and the state of each block.
        """
        hidden: list[Tensor] = []
        after: list[LayerState] = []
        before: Sequence[LayerState | None] = states or [None] * len(self.blocks)
        for piece, part in sequences.segments(embeds, segment_length):
            x, value0, after = piece, None, []
            for block, state in zip(self.blocks, before, strict=True):
                x, value0, new = block(x, value0, part, state)
                after.append(new)
            before = after
            hidden.append(x)
        return self.ln_out(hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1)), tuple(after)
