"""Examples and batches, the model's input. Legend: B rows, T positions, F frames of one grid, S packed sequences."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")

MEDIA_ID = -1
"""Represents one visual token in `ids`; it is not an entry of the vocabulary."""

IGNORE_LABEL = -100
"""Label of a position without loss (PyTorch's default `ignore_index`)."""


class FrameGroup(NamedTuple):
    """All frames of a batch that share one grid.

    Attributes:
        pixels: [F, 3, H, W] uint8.
        clip: [F] int64, the index of the frame's clip among the media of the batch, row by row.
        time: [F] fp32 seconds, increasing within a clip.
    """

    pixels: Tensor
    clip: Tensor
    time: Tensor


class Clip(NamedTuple):
    """One decoded and transformed image or video. pixels: [F, 3, H, W] uint8; time: [F] fp32 seconds, increasing."""

    pixels: Tensor
    time: Tensor


class Example(NamedTuple):
    """One sample, ready to be batched.

    Attributes:
        sample_id: The sample's id.
        ids: [T] int64, `MEDIA_ID` for each visual token.
        labels: [T] int64, `IGNORE_LABEL` for positions without loss.
        clips: The media, in order.
        visual: The number of visual tokens of each clip; their sum is the number of `MEDIA_ID` in `ids`.
        answer: Text of the last assistant turn if the example is a question to answer, else "".
        question_type: The question's type; "" if it has none.
    """

    sample_id: str
    ids: Tensor
    labels: Tensor
    clips: tuple[Clip, ...]
    visual: tuple[int, ...] = ()
    answer: str = ""
    question_type: str = ""


class Batch(NamedTuple):
    """B right-padded examples, or S examples packed into one row.

    It includes what a model would otherwise have to read back from its device: `visual` and `predicting`, positions in
    the flattened ids [B * T], and `cu_seqlens`.

    Attributes:
        ids: [B, T] int64, `MEDIA_ID` for each visual token, 0 at padding.
        labels: [B, T] int64, `IGNORE_LABEL` for positions without loss.
        mask: [B, T] bool, False at padding.
        frames: Frames by grid.
        visual: For each group of frames, [V] int64, the position of each of its tokens, frame after frame.
        predicting: [N] int64, the positions whose next position has a label.
        sample_ids: Id of each example.
        answers: `Example.answer` of each example.
        question_types: `Example.question_type` of each example.
        cu_seqlens: None, or the S + 1 numbers of `composer.packing`; B is then 1 and nothing is padded.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    frames: tuple[FrameGroup, ...]
    visual: tuple[Tensor, ...]
    predicting: Tensor
    sample_ids: tuple[str, ...]
    answers: tuple[str, ...]
    question_types: tuple[str, ...]
    cu_seqlens: tuple[int, ...] | None = None


def sample_ids(batch: Batch | Sequence[Batch]) -> list[str]:
    """List the samples in a batch, or in all micro-batches of an optimizer step."""
    return [name for one in ([batch] if isinstance(batch, Batch) else batch) for name in one.sample_ids]


def to_device(value: Value, device: torch.device | str) -> Value:
    """Copy a batch, or a part of one, to a device."""
    if isinstance(value, Tensor):
        return value.to(device)  # type: ignore[return-value]
    if isinstance(value, tuple):
        items = [to_device(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
