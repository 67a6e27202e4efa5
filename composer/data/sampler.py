"""Order of training samples: a pure function of the seed and the number of trained samples."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler


def permutation(seed: int, round: int, size: int) -> NDArray[np.int64]:
    """Make the order of one pass over `size` samples, the same on every machine and with every version of NumPy.

    It sorts raw numbers, because NumPy guarantees Philox's stream (NEP 19), but not `Generator.permutation`.
    """
    return np.random.Philox(key=[seed, round]).random_raw(size).argsort(kind="stable")


class StreamSampler(DistributedSampler[int]):
    """An infinite stream of samples, pass after pass, split into epochs of complete global batches.

    Sample i of pass p is `permutation(seed, p, size)[i]`. An iterator starts at sample `consumed()` of the stream and
    takes every `world`-th: any number of ranks sees each sample once, in the same order. Samples of an epoch's last,
    incomplete batch are the first of the next epoch.

    It is a DistributedSampler so that Lightning does not replace it.

    Args:
        data: The data set.
        consumed: Returns the number of trained samples, over all ranks.
        batch_size: Samples per step and rank.
        seed: Seed of the order.
        rank: Number of this process.
        world: Number of processes.
        sizes: Sizes of parts of the data that are trained on in turn: pass p is over part p, and all further passes
            over the last part. One part with all data if empty.
    """

    def __init__(
        self,
        data: Sized,
        consumed: Callable[[], int],
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__(data, num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.size, self.consumed, self.world = len(data), consumed, world
        self.sizes = tuple(sizes) or (self.size,)
        self.batches = max(self.size // (batch_size * world), 1)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        start, current, order = self.consumed(), -1, np.empty(0, np.int64)
        for k in range(start + self.rank, start + self.batches * self.batch_size * self.world, self.world):
            number, part, i = self._locate(k)
            if number != current:
                current = number
                order = sum(self.sizes[:part]) + permutation(self.seed, number, self.sizes[part])
            yield int(order[i])

    def _locate(self, k: int) -> tuple[int, int, int]:
        """Pass, part and index in the part of sample k of the stream."""
        starts = list(accumulate(self.sizes[:-1], initial=0))
        part = bisect_right(starts, k) - 1
        repeats, i = divmod(k - starts[part], self.sizes[part])
        return part + repeats, part, i
