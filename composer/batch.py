"""What travels from the data to the model. Legend: B rows, T positions, F frames of one grid, S packed sequences."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")

MEDIA_ID = -1
"""Stands in `ids` for one visual token; it is no vocabulary entry."""

IGNORE_LABEL = -100
"""Stands in `labels` where there is no loss (PyTorch's default `ignore_index`)."""


class FrameGroup(NamedTuple):
    """All frames of a batch that share one grid.

    pixels: [F, 3, H, W] uint8. clip: [F] int64, the clip's place among the media of the whole batch, row by row.
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
    """One sample, ready to be batched. ids, labels: [T] int64 with `MEDIA_ID` / `IGNORE_LABEL`; clips in their order.

    visual: the visual tokens of each clip, which add up to the `MEDIA_ID` in `ids`.
    answer: the last assistant turn's text if the example is a question to be answered, else "".
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

    ids: [B, T] int64, `MEDIA_ID` at every visual token, 0 at padding; labels: [B, T] int64; mask: [B, T] bool, True
    where real. sample_ids, answers, question_types: one entry per example.

    What a model would have to read back from its device to know, the batch brings along. Positions are those of the
    flattened ids, [B * T]:

    visual: for each group of frames, [V] int64, the position of each of its tokens, frame after frame.
    predicting: [N] int64, the positions whose next one has a label.
    cu_seqlens: None, or the S + 1 numbers of `composer.packing`: B is 1 and nothing is padded.
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
    """The samples in a batch, or in all micro-batches of one optimizer step."""
    return [name for one in ([batch] if isinstance(batch, Batch) else batch) for name in one.sample_ids]


def to_device(value: Value, device: torch.device | str) -> Value:
    """A batch, or a part of one, with all its tensors on this device."""
    if isinstance(value, Tensor):
        return value.to(device)  # type: ignore[return-value]
    if isinstance(value, tuple):
        items = [to_device(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
