"""What travels from the data to the model. Legend: B rows, T positions, F frames of one grid."""

from typing import NamedTuple

from torch import Tensor

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

    answer: the last assistant turn's text where the example is a question to be answered, else "".
    """

    sample_id: str
    ids: Tensor
    labels: Tensor
    clips: tuple[Clip, ...]
    answer: str = ""
    question_type: str = ""


class Batch(NamedTuple):
    """B right-padded examples.

    ids: [B, T] int64, `MEDIA_ID` at every visual token, 0 at padding; labels: [B, T] int64; mask: [B, T] bool, True
    where real. clip_rows: [K] int64, the row of each of the batch's K clips. The rest: one entry per row, as in
    `Example`.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    frames: tuple[FrameGroup, ...]
    clip_rows: Tensor
    sample_ids: tuple[str, ...]
    answers: tuple[str, ...]
    question_types: tuple[str, ...]
