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
    """loss: fp32 scalar, the mean over target tokens. targets: their number. correct: int64 scalar, those got right."""

    loss: Tensor
    targets: int
    correct: Tensor


class MultimodalModel(nn.Module):
    """An encoder, reducers, a projector and a backbone as one trainable model.

    forward:
    1. encode every group of frames; a block reducer works inside the encoder's blocks
    2. pass the tokens through the remaining reducers
    3. project them to the backbone's width
    4. splice them among the text's embeddings
    5. run the backbone
    6. cross-entropy on the labeled positions alone
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
        """The parts by the names that a recipe's `training.trainable` uses."""
        return {
            "encoder": self.encoder,
            "reducer": self.reducers,
            "projector": self.projector,
            "backbone": self.backbone,
        }

    def forward(self, batch: Batch) -> Output:
        """Loss and token accuracy of a batch of whole conversations."""
        embeds = self.embed(batch)
        if batch.cu_seqlens is None:
            hidden, _ = self.backbone(embeds, batch.mask)
        else:
            hidden, _ = self.backbone(embeds, cu_seqlens=batch.cu_seqlens)
        return self._loss(hidden, batch.labels, batch.predicting)

    def prefill(self, batch: Batch) -> tuple[Tensor, State]:
        """Read a batch of prompts: the hidden state at each row's last real position [B, D], and the state there."""
        hidden, state = self.backbone(self.embed(batch), batch.mask)
        last = batch.mask.sum(dim=1) - 1
        return hidden[torch.arange(len(last), device=last.device), last], state

    def embed(self, batch: Batch) -> Tensor:
        """A batch's text and media as one sequence of embeddings [B, T, D]."""
        embeds = self.backbone.embed(batch.ids.clamp(min=0))
        if not batch.frames:
            return embeds
        visual = self.encode(batch.frames)
        check_counts(batch, [len(tokens) for tokens in visual])
        return splice(embeds, torch.cat(visual), torch.cat(batch.visual))

    def encode(self, groups: Sequence[FrameGroup]) -> list[Tensor]:
        """Each group's frames as projected tokens [V, D], frame after frame.

        Raises ComposeError if tokens have other channels than `shape` announced.
        """
        tokens = [self.reduce(group) for group in groups]
        for t in tokens:
            if t.features.shape[-1] != self.projector.in_dim:
                named = ", ".join(type(part).__name__ for part in (self.encoder, *self.reducers))
                raise ComposeError(
                    f"The encoder and reducers ({named}) gave tokens of {t.features.shape[-1]} channels, expected "
                    f"{self.projector.in_dim}. A part's `shape` disagrees with its `forward`; run the part through "
                    "composer.testing."
                )
        return [self.projector(t.features).flatten(0, 1) for t in tokens]

    def reduce(self, group: FrameGroup, *, keep_sources: bool = False) -> VisualTokens:
        """One group's tokens after the encoder and all reducers, before the projector."""
        reducers = list(self.reducers)
        inside = reducers.pop(0) if reducers and isinstance(reducers[0], BlockReducer) else None
        tokens: VisualTokens = self.encoder(group.pixels, inside, keep_sources=keep_sources)
        tokens = tokens._replace(clip=group.clip, time=group.time)
        for reducer in reducers:
            tokens = reducer(tokens)
        return tokens

    def _loss(self, hidden: Tensor, labels: Tensor, predicting: Tensor) -> Output:
        # The head runs on the predicting positions alone, since logits over a vocabulary of 65,536 are the largest
        # tensor of a training step.
        targets = labels.flatten().index_select(0, predicting + 1)
        logits = self.backbone.head(hidden.flatten(0, 1).index_select(0, predicting)).float()
        total = nn.functional.cross_entropy(logits, targets, reduction="sum")
        return Output(total / max(len(targets), 1), len(targets), (logits.argmax(dim=-1) == targets).sum())
