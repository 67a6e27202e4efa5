"""Converts the examples of an optimizer step to micro-batches: padded rows, or packed rows of limited length."""

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate, chain, islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from composer.batch import IGNORE_LABEL, Batch, Example
from composer.errors import ComposerError
from composer.model.processor import collate, predicting


class StepChunks(Sampler[list[int]]):
    """A sampler's order in chunks of at most `size` samples, each of which is in one step of `step` samples.

    Data workers return chunks, so that all of them decode one step and none has a complete step in memory.
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
    """A loader of `StepChunks` whose chunks of each optimizer step are joined by `join`."""

    def __init__(self, loader: DataLoader[Any], chunks_per_step: int, join: Callable[[list[Any]], Any]) -> None:
        self.loader, self.chunks_per_step, self.join = loader, chunks_per_step, join

    def __len__(self) -> int:
        return len(self.loader) // self.chunks_per_step

    def __iter__(self) -> Iterator[Any]:
        chunks = iter(self.loader)
        while len(step := list(islice(chunks, self.chunks_per_step))) == self.chunks_per_step:
            yield self.join(step)


def micro_batches(chunks: Sequence[Batch | ComposerError]) -> list[Batch] | ComposerError:
    """List the padded batches of a step, whose gradients add up, or return the first error of a data worker."""
    error = next((chunk for chunk in chunks if isinstance(chunk, ComposerError)), None)
    return error or list(chunks)  # type: ignore[arg-type]


def packed_rows(chunks: Sequence[Sequence[Example | ComposerError]], max_tokens: int) -> list[Batch] | ComposerError:
    """Pack the examples of a step into rows, whose gradients add up, or return the first error of a data worker.

    max_tokens: maximum length of a row; a longer example has its own row.
    """
    good: list[Example] = []
    for example in chain.from_iterable(chunks):
        if isinstance(example, ComposerError):
            return example
        good.append(example)
    return [pack_row([good[i] for i in row]) for row in first_fit([len(example.ids) for example in good], max_tokens)]


def first_fit(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Assign the indices of `lengths` to rows whose sums are at most `limit`: each to the first row with room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index, length in enumerate(lengths):
        row = next((row for row, space in enumerate(room) if length <= space), None)
        if row is None:
            rows.append([index])
            room.append(limit - length)
        else:
            rows[row].append(index)
            room[row] -= length
    return rows


def pack_row(examples: Sequence[Example]) -> Batch:
    """Join examples to one row; `cu_seqlens` has the start of each, so that they do not affect each other."""
    padded = collate(examples)
    starts = tuple(accumulate((len(example.ids) for example in examples), initial=0))
    labels = padded.labels[padded.mask][None].clone()
    labels[0, list(starts[:-1])] = IGNORE_LABEL  # the position before it belongs to another example
    row = padded.mask.flatten().cumsum(0) - 1  # index in the packed row of each real position of the padded rows
    return padded._replace(
        ids=padded.ids[padded.mask][None],
        labels=labels,
        mask=padded.mask[padded.mask][None],
        visual=tuple(row[positions] for positions in padded.visual),
        predicting=predicting(labels),
        cu_seqlens=starts,
    )
