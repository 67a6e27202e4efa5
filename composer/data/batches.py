"""From the examples of one optimizer step to micro-batches: padded rows, or packed rows up to a budget of tokens."""

from collections.abc import Sequence

import torch

from composer.batch import IGNORE_LABEL, Batch, Example
from composer.errors import ComposerError
from composer.processor import collate


def micro_batches(
    examples: Sequence[Example | ComposerError], batch_size: int, max_tokens: int | None
) -> list[Batch] | ComposerError:
    """The micro-batches whose gradients add up to one step's, or the first error that a data worker met.

    Without `max_tokens`: padded batches of `batch_size` rows. With it: each a packed row of at most so many positions;
    an example that is longer has a row of its own.
    """
    good: list[Example] = []
    for example in examples:
        if isinstance(example, ComposerError):
            return example
        good.append(example)
    if max_tokens is None:
        return [collate(good[start : start + batch_size]) for start in range(0, len(good), batch_size)]
    return [packed([good[i] for i in row]) for row in first_fit([len(example.ids) for example in good], max_tokens)]


def first_fit(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Places of `lengths` in rows that sum to `limit` at most: each in the first row with room, in their order."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place, length in enumerate(lengths):
        row = next((row for row, left in enumerate(room) if length <= left), None)
        if row is None:
            rows.append([place])
            room.append(limit - length)
        else:
            rows[row].append(place)
            room[row] -= length
    return rows


def packed(examples: Sequence[Example]) -> Batch:
    """Examples one after the other in one row; `cu_seqlens` says where each starts, so that none sees another."""
    padded = collate(examples)
    lengths = padded.mask.sum(dim=1)
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    labels = padded.labels[padded.mask][None].clone()
    labels[0, starts[:-1]] = IGNORE_LABEL  # the last position before it belongs to another example
    return padded._replace(
        ids=padded.ids[padded.mask][None],
        labels=labels,
        mask=padded.mask[padded.mask][None],
        clip_rows=torch.zeros_like(padded.clip_rows),
        cu_seqlens=starts,
    )
