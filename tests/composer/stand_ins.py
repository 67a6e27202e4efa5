"""The smallest parts that keep the contract, for tests of what stands between parts."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from composer.parts import Backbone, BlockReducer, Encoder, Projector, Reducer, TokenShape, VisualTokens, check_ids
from composer.prompt import WORLD
from composer.state import State
from composer.transform import FrameTransform


class Characters:
    """One id per character; 0 ends a text."""

    vocab_size = 128
    end_id = 0

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Any) -> str:
        return "".join(chr(i) for i in ids)


class MeanEncoder(Encoder):
    """A token per patch: the mean color of the patch, in three channels."""

    def __init__(self, patch_size: int = 4) -> None:
        super().__init__()
        self.dim, self.depth, self.patch_size = 3, 1, patch_size
        self.transform = FrameTransform(8, patch_size)
        self.block_classes = ()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        pooled = nn.functional.avg_pool2d(frames.float(), self.patch_size)
        count, _, rows, columns = pooled.shape
        features = pooled.flatten(2).transpose(1, 2) * self.scale
        zeros = torch.zeros(count)
        return VisualTokens(features, torch.ones(count, rows * columns), None, (rows, columns), zeros.long(), zeros)


class FirstTokens(Reducer):
    """Keeps the first `count` tokens of a frame, and their first `channels` channels."""

    needs_grid = True

    def __init__(self, count: int, channels: int = 3, *, dim: int = 3, depth: int = 1) -> None:
        super().__init__(dim=dim, depth=depth)
        self.count, self.channels = count, channels

    def forward(self, tokens: VisualTokens) -> VisualTokens:
        features = tokens.features[:, : self.count, : self.channels]
        return tokens._replace(features=features, sizes=tokens.sizes[:, : self.count], grid=None)

    def shape(self, tokens: TokenShape) -> TokenShape:
        return TokenShape(self.count, self.channels, None)


class LinearProjector(Projector):
    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim=in_dim, out_dim=out_dim)
        self.linear = nn.Linear(in_dim, out_dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


class SumState(State):
    def __init__(self, total: Tensor) -> None:
        self.total = total

    def tensors(self) -> dict[str, Tensor]:
        return {"total": self.total}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["total"])


class SumBackbone(Backbone):
    """The hidden state is the running sum of the embeddings: causal, and its state is one vector a row."""

    state_class = SumState

    def __init__(self, dim: int = 6, context_length: int | None = 512) -> None:
        super().__init__()
        self.dim, self.vocab_size, self.context_length = dim, 128, context_length
        self.tokenizer, self.template = Characters(), WORLD
        self.block_classes = ()
        self.embedding = nn.Embedding(self.vocab_size, dim)
        self.output = nn.Linear(dim, self.vocab_size)

    def embed(self, ids: Tensor) -> Tensor:
        check_ids(ids, self.vocab_size)
        return self.embedding(ids)

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        if cu_seqlens is not None:
            return self.forward_unpacked(embeds, state, cu_seqlens)
        if mask is not None:
            embeds = embeds * mask[..., None]
        before = state.total if isinstance(state, SumState) else torch.zeros(len(embeds), self.dim)
        hidden = before[:, None] + embeds.cumsum(dim=1)
        return hidden, SumState(hidden[:, -1])

    def head(self, hidden: Tensor) -> Tensor:
        return self.output(hidden)
