"""Batches on their way to the device while the ones before them are computed with."""

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
"""Gives the batch on the device, once it is needed there."""

Start = Callable[[Batch], Arrive]
"""Begins a batch's way to the device."""


def start_on(device: torch.device) -> Start:
    """A `Start` to this device: on CUDA by a stream of its own, which the host does not wait for."""
    if device.type != "cuda":
        return lambda batch: partial(move_data_to_device, batch, device)
    return partial(_start, torch.cuda.Stream(device))


def ahead(batches: Iterable[Batch], start: Start) -> Iterator[Batch]:
    """The batches on the device, each started before the one before it is handed over."""
    return (arrive() for arrive in _one_ahead(map(start, batches)))


class Prefetcher:
    """A loader's steps. The first batch of each is started before the step before it is handed over.

    The other micro-batches of a step stay where they are: together they may not fit on the device.
    """

    def __init__(self, loader: Any, start: Start) -> None:
        self.loader, self.start = loader, start

    def __len__(self) -> int:
        loader: Sized = self.loader
        return len(loader)

    def __iter__(self) -> Iterator[Any]:
        for step, arrive in _one_ahead(map(self._started, self.loader)):
            if arrive is None:
                yield step
            else:
                yield [arrive(), *step[1:]] if isinstance(step, list) else arrive()

    def _started(self, step: list[Batch] | Batch | ComposerError) -> tuple[Any, Arrive | None]:
        if isinstance(step, ComposerError):
            return step, None
        return step, self.start(step[0] if isinstance(step, list) else step)


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each taken before the one before it is handed over."""
    taken: deque[T] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > 1:
            yield taken.popleft()
    yield from taken


def _start(stream: torch.cuda.Stream, batch: Batch) -> Arrive:
    def copy(tensor: Tensor) -> Tensor:
        pinned = tensor if tensor.is_cuda or tensor.is_pinned() else tensor.pin_memory()  # a packed row is not yet
        return pinned.to(stream.device, non_blocking=True)

    with torch.cuda.stream(stream):
        copied = tree_map_only(Tensor, copy, batch)
    return partial(_arrive, copied, stream.record_event())


def _arrive(batch: Batch, copied: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    tree_map_only(Tensor, lambda tensor: tensor.record_stream(current), batch)  # its memory is not the side stream's
    return batch
