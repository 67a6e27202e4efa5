"""From the examples of one optimizer step to micro-batches: padded rows, or packed rows up to a budget of tokens."""

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate, chain, islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from composer.batch import IGNORE_LABEL, Batch, Example
from composer.errors import ComposerError
from composer.model.processor import collate, predicting


class StepChunks(Sampler[list[int]]):
    """A sampler's order in chunks of at most `size`, none of which crosses from one step of `step` samples to the next.

    Chunks are what data workers hand over: all workers share the decoding of one step, and none holds a complete step.
    """

    def __init__(self, sampler: Sized, step: int, size: int) -> None:
        self.sampler, self.step, self.size = sampler, step, size
        self.chunks_per_step = math.ceil(step / size)

    def __len__(self) -> int:
        return len(self.sampler) // self.step * self.chunks_per_step

    def __iter__(self) -> Iterator[list[int]]:
        order = iter(self.sampler)  # type: ignore[call-overload]
        while len(step := list(islice(order, self.step))) == self.step:
            for start in range(0, len(step), self.size):
                yield step[start : start + self.size]


class StepLoader:
    """A loader of `StepChunks`, as many at a time as one optimizer step has, joined by `join`."""

    def __init__(self, loader: DataLoader[Any], chunks_per_step: int, join: Callable[[list[Any]], Any]) -> None:
        self.loader, self.chunks_per_step, self.join = loader, chunks_per_step, join

    def __len__(self) -> int:
        return len(self.loader) // self.chunks_per_step

    def __iter__(self) -> Iterator[Any]:
        chunks = iter(self.loader)
        while len(step := list(islice(chunks, self.chunks_per_step))) == self.chunks_per_step:
            yield self.join(step)


def micro_batches(chunks: Sequence[Batch | ComposerError]) -> list[Batch] | ComposerError:
    """Padded batches whose gradients add up to one step's, or the first error that a data worker met."""
    error = next((chunk for chunk in chunks if isinstance(chunk, ComposerError)), None)
    return error or list(chunks)  # type: ignore[arg-type]


def packed_rows(chunks: Sequence[Sequence[Example | ComposerError]], max_tokens: int) -> list[Batch] | ComposerError:
    """The examples of one step as packed rows of at most `max_tokens`, whose gradients add up to the step's.

    An example that is longer has a row of its own. Or the first error that a data worker met.
    """
    good: list[Example] = []
    for example in chain.from_iterable(chunks):
        if isinstance(example, ComposerError):
            return example
        good.append(example)
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
    starts = tuple(accumulate((len(example.ids) for example in examples), initial=0))
    labels = padded.labels[padded.mask][None].clone()
    labels[0, list(starts[:-1])] = IGNORE_LABEL  # the position before it belongs to another example
    row = padded.mask.flatten().cumsum(0) - 1  # where each real position of the padded rows goes
    return padded._replace(
        ids=padded.ids[padded.mask][None],
        labels=labels,
        mask=padded.mask[padded.mask][None],
        visual=tuple(row[positions] for positions in padded.visual),
        predicting=predicting(labels),
        cu_seqlens=starts,
    )
