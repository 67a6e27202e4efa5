"""The composed model. Legend: B rows, T positions, F frames of one grid, V visual tokens, D the backbone's width."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from composer.batch import Batch, FrameGroup
from composer.errors import ComposeError
from composer.model.processor import Processor
from composer.model.splice import check_counts, splice
from composer.parts import Backbone, BlockReducer, Encoder, Projector, Reducer, VisualTokens
from composer.prompt import Layout
from composer.state import State


class Output(NamedTuple):
    """Result of a training or validation step.

    Attributes:
        loss: fp32 scalar, the mean over target tokens.
        targets: Number of target tokens.
        correct: int64 scalar, number of correctly predicted target tokens.
    """

    loss: Tensor
    targets: int
    correct: Tensor


class MultimodalModel(nn.Module):
    """An encoder, reducers, a projector and a backbone as one trainable model.

    The forward pass
    1. encodes every group of frames, with a block reducer inside the encoder's blocks
    2. runs the other reducers
    3. projects the tokens to the backbone's width
    4. inserts them into the text's embeddings
    5. runs the backbone
    6. computes the cross-entropy on the labeled positions
    """

    def __init__(
        self,
        encoder: Encoder,
        reducers: Sequence[BlockReducer | Reducer],
        projector: Projector,
        backbone: Backbone,
        layout: Layout,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.reducers = nn.ModuleList(reducers)
        self.projector = projector
        self.backbone = backbone
        self.processor = Processor.of(encoder, reducers, backbone, layout)

    def parts(self) -> dict[str, nn.Module]:
        """List the parts by their names in a recipe's `training.trainable`."""
        return {
            "encoder": self.encoder,
            "reducer": self.reducers,
            "projector": self.projector,
            "backbone": self.backbone,
        }

    def forward(self, batch: Batch) -> Output:
        """Compute loss and token accuracy of a batch of conversations."""
        embeds = self.embed(batch)
        if batch.cu_seqlens is None:
            hidden, _ = self.backbone(embeds, batch.mask)
        else:
            hidden, _ = self.backbone(embeds, cu_seqlens=batch.cu_seqlens)
        return self._loss(hidden, batch.labels, batch.predicting)

    def prefill(self, batch: Batch) -> tuple[Tensor, State]:
        """Run prompts. Returns hidden states [B, D] and the backbone's state after each row's last real position."""
        hidden, state = self.backbone(self.embed(batch), batch.mask)
        last = batch.mask.sum(dim=1) - 1
        return hidden[torch.arange(len(last), device=last.device), last], state

    def embed(self, batch: Batch) -> Tensor:
        """Embed a batch's text and media as one sequence [B, T, D]."""
        embeds = self.backbone.embed(batch.ids.clamp(min=0))
        if not batch.frames:
            return embeds
        visual = self.encode(batch.frames)
        check_counts(batch, [len(tokens) for tokens in visual])
        return splice(embeds, torch.cat(visual), torch.cat(batch.visual))

    def encode(self, groups: Sequence[FrameGroup]) -> list[Tensor]:
        """Encode each group's frames to projected tokens [V, D], frame after frame.

        Raises:
            ComposeError: The number of channels differs from that of `shape`.
        """
        tokens = [self.reduce(group) for group in groups]
        for t in tokens:
            if t.features.shape[-1] != self.projector.in_dim:
                names = ", ".join(type(part).__name__ for part in (self.encoder, *self.reducers))
                raise ComposeError(
                    f"The encoder and reducers ({names}) gave tokens of {t.features.shape[-1]} channels, expected "
                    f"{self.projector.in_dim}. A part's `shape` does not match its `forward`; check the part with "
                    "composer.testing"
                )
        return [self.projector(t.features).flatten(0, 1) for t in tokens]

    def reduce(self, group: FrameGroup, *, keep_sources: bool = False) -> VisualTokens:
        """Run the encoder and all reducers on one group, without the projector."""
        reducers = list(self.reducers)
        in_blocks = reducers.pop(0) if reducers and isinstance(reducers[0], BlockReducer) else None
        tokens: VisualTokens = self.encoder(group.pixels, in_blocks, keep_sources=keep_sources)
        tokens = tokens._replace(clip=group.clip, time=group.time)
        for reducer in reducers:
            tokens = reducer(tokens)
        return tokens

    def _loss(self, hidden: Tensor, labels: Tensor, predicting: Tensor) -> Output:
        # The head runs only on the predicting positions, because logits over a vocabulary of 65,536 are the largest
        # tensor of a training step.
        targets = labels.flatten().index_select(0, predicting + 1)
        logits = self.backbone.head(hidden.flatten(0, 1).index_select(0, predicting)).float()
        total = nn.functional.cross_entropy(logits, targets, reduction="sum")
        return Output(total / max(len(targets), 1), len(targets), (logits.argmax(dim=-1) == targets).sum())
