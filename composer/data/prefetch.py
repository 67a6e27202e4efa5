"""Copies batches to the device while the previous ones are computed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from typing import Any, TypeVar

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils._pytree import tree_map_only

from composer.batch import Batch
from composer.errors import ComposerError

T = TypeVar("T")
Arrive = Callable[[], Batch]
"""Returns the batch on the device, when it is needed."""

Start = Callable[[Batch], Arrive]
"""Starts to copy a batch to the device."""

Step = list[Batch] | Batch | ComposerError
"""The micro-batches of a step, its only batch, or an error of a data worker."""


def start_on(device: torch.device) -> Start:
    """Make a `Start` to a device; on CUDA it copies in a separate stream, which the host does not wait for."""
    if device.type != "cuda":
        return lambda batch: partial(move_data_to_device, batch, device)
    return partial(_start, torch.cuda.Stream(device))


def ahead(batches: Iterable[Batch], start: Start) -> Iterator[Batch]:
    """Move batches to the device, starting each copy before the previous batch is returned."""
    return (arrive() for arrive in _one_ahead(map(start, batches)))


class Prefetcher:
    """A loader's steps. The copy of a step's first batch starts before the previous step is returned.

    The other micro-batches of a step are not moved: together they may not fit on the device.
    """

    def __init__(self, loader: Any, start: Start) -> None:
        self.loader, self.start = loader, start

    def __len__(self) -> int:
        loader: Sized = self.loader
        return len(loader)

    def __iter__(self) -> Iterator[Step]:
        for step, arrive in _one_ahead(map(self._start_first, self.loader)):
            if arrive is None:
                yield step
            else:
                yield [arrive(), *step[1:]] if isinstance(step, list) else arrive()

    def _start_first(self, step: Step) -> tuple[Step, Arrive | None]:
        if isinstance(step, ComposerError):
            return step, None
        return step, self.start(step[0] if isinstance(step, list) else step)


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each taken before the previous one is returned."""
    queue: deque[T] = deque()
    for item in items:
        queue.append(item)
        if len(queue) > 1:
            yield queue.popleft()
    yield from queue


def _start(stream: torch.cuda.Stream, batch: Batch) -> Arrive:
    def copy(tensor: Tensor) -> Tensor:
        pinned = tensor if tensor.is_cuda or tensor.is_pinned() else tensor.pin_memory()  # packed rows are not
        return pinned.to(stream.device, non_blocking=True)

    with torch.cuda.stream(stream):
        copied = tree_map_only(Tensor, copy, batch)
    return partial(_arrive, copied, stream.record_event())


def _arrive(batch: Batch, copied: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    tree_map_only(Tensor, lambda tensor: tensor.record_stream(current), batch)  # not to be reused by the side stream
    return batch
