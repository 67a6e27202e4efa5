"""Converts samples and decoded media to batches. Runs in data workers, without the model's weights."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from composer.batch import IGNORE_LABEL, MEDIA_ID, Batch, Clip, Example, FrameGroup
from composer.errors import ContextLengthError, DataError
from composer.parts import Backbone, BlockReducer, Encoder, Reducer, TokenShape
from composer.prompt import Layout, Template, pieces, split_question
from composer.sample import Sample
from composer.tokenizer import Tokenizer, encode_pieces
from composer.transform import FrameTransform

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Processor:
    """Converts samples to a model's input.

    Attributes:
        encoder: Copy on the meta device, for shapes.
        reducers: Copies on the meta device, for shapes.
        tokenizer: The backbone's tokenizer.
        template: The backbone's chat template.
        layout: Position of media in a user turn.
        context_length: The backbone's context in tokens; None if unknown.
    """

    encoder: Encoder
    reducers: tuple[BlockReducer | Reducer, ...]
    tokenizer: Tokenizer
    template: Template
    layout: Layout
    context_length: int | None

    @classmethod
    def of(
        cls, encoder: Encoder, reducers: Sequence[BlockReducer | Reducer], backbone: Backbone, layout: Layout
    ) -> Self:
        """Make the processor of a model."""
        return cls(
            _skeleton(encoder),
            tuple(_skeleton(reducer) for reducer in reducers),
            backbone.tokenizer,
            backbone.template,
            layout,
            backbone.context_length,
        )

    @property
    def transform(self) -> FrameTransform:
        """Converts a decoded frame to the encoder's input."""
        return self.encoder.transform

    def shape(self, height: int, width: int) -> TokenShape:
        """Shape of a frame's tokens at the projector. height, width: in pixels, after `transform`."""
        shape = self.encoder.shape(height, width)
        for reducer in self.reducers:
            shape = reducer.shape(shape)
        return shape

    def encode(self, sample: Sample, clips: Sequence[Clip], *, answer: bool = False, opening: str = "") -> Example:
        """Convert a sample to ids and labels, with a run of `MEDIA_ID` for each media item.

        Args:
            sample: The sample.
            clips: A clip for each of `sample.media`, in order.
            answer: False for the complete conversation with loss on the assistant's text (training). True for the
                prompt without the last assistant turn, whose text is `Example.answer` (generation).
            opening: Text at the end of the prompt that the answer starts with.

        Raises:
            DataError: The number of clips differs from that of the media.
            ContextLengthError: The prompt exceeds the context.
        """
        if len(clips) != len(sample.media):
            raise DataError(
                f"{sample.source}: sample {sample.id!r}: got {len(clips)} clips, expected {len(sample.media)}, one for "
                "each media item"
            )
        prompt, expected = split_question(sample) if answer else (sample, "")
        ids: list[int] = []
        labels: list[int] = []
        visual: list[int] = []
        parts = pieces(prompt, self.layout, self.template, answer=answer, opening=opening)
        for piece, run in zip(parts, encode_pieces(self.tokenizer, parts), strict=True):
            if not isinstance(piece.content, str):
                pixels = clips[len(visual)].pixels
                visual.append(len(pixels) * self.shape(*pixels.shape[-2:]).count)
                run = [MEDIA_ID] * visual[-1]
            ids += run
            labels += run if piece.loss else [IGNORE_LABEL] * len(run)
        if self.context_length is not None and len(ids) > self.context_length:
            raise ContextLengthError(
                f"{sample.source}: sample {sample.id!r} is {len(ids):,} tokens long ({ids.count(MEDIA_ID):,} visual); "
                f"the backbone's context is {self.context_length:,}: use fewer frames, reduce more tokens "
                "(model.reducer), or shorten the text"
            )
        return Example(
            sample.id,
            torch.tensor(ids),
            torch.tensor(labels),
            tuple(clips),
            tuple(visual),
            self.template.content(expected),  # as it would have been trained on
            str(sample.meta.get("question_type", "")),
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Make a batch of examples: right-padded ids, and frames grouped by size."""
    clips = [clip for example in examples for clip in example.clips]
    counts = [count for example in examples for count in example.visual]
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, clip in enumerate(clips):
        height, width = clip.pixels.shape[-2:]
        buckets.setdefault((height, width), []).append(index)
    lengths = torch.tensor([len(example.ids) for example in examples])
    ids = _pad([example.ids for example in examples], 0)
    labels = _pad([example.labels for example in examples], IGNORE_LABEL)
    visual = (ids.flatten() == MEDIA_ID).nonzero().flatten().split(counts)
    return Batch(
        ids=ids,
        labels=labels,
        mask=torch.arange(int(lengths.max()))[None] < lengths[:, None],
        frames=tuple(_group(clips, members) for members in buckets.values()),
        visual=tuple(torch.cat([visual[i] for i in members]) for members in buckets.values()),
        predicting=predicting(labels),
        sample_ids=tuple(example.sample_id for example in examples),
        answers=tuple(example.answer for example in examples),
        question_types=tuple(example.question_type for example in examples),
    )


def predicting(labels: Tensor) -> Tensor:
    """Find the positions in the flattened labels [B, T] whose next position has a label."""
    row, position = (labels[:, 1:] != IGNORE_LABEL).nonzero().unbind(1)
    return row * labels.shape[1] + position


def _group(clips: Sequence[Clip], members: Sequence[int]) -> FrameGroup:
    counts = torch.tensor([len(clips[i].pixels) for i in members])
    return FrameGroup(
        torch.cat([clips[i].pixels for i in members]),
        torch.tensor(members).repeat_interleave(counts),
        torch.cat([clips[i].time for i in members]),
    )


def _pad(rows: Sequence[Tensor], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _skeleton(module: Module) -> Module:
    """A copy whose parameters and buffers are on the meta device; the weights themselves are never copied."""
    memo: dict[int, Tensor] = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    memo |= {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in module.parameters()}
    return copy.deepcopy(module, memo)
