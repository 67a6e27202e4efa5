"""The order of training: a pure function of the seed and of how many samples are trained already."""

from collections.abc import Callable, Iterator, Sized

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler


def permutation(seed: int, round: int, size: int) -> NDArray[np.int64]:
    """The order of one pass over `size` samples: the same on every machine and with every NumPy.

    Philox's stream is guaranteed to stay (NEP 19), `Generator.permutation` is not: hence the sort of raw numbers.
    """
    return np.random.Philox(key=[seed, round]).random_raw(size).argsort(kind="stable")


class StreamSampler(DistributedSampler[int]):
    """An infinite stream of samples, pass after pass, cut into epochs of whole global batches.

    Sample k of the stream is `permutation(seed, k // size)[k % size]`. An iterator goes on where training stands, from
    k = `consumed()`, and takes every `world`-th sample: any number of ranks sees each sample once, in the same order.
    What an epoch's last incomplete batch would leave out opens the next one.

    It is a DistributedSampler so that Lightning takes it as it is.
    """

    def __init__(
        self, data: Sized, consumed: Callable[[], int], *, batch_size: int, seed: int, rank: int, world: int
    ) -> None:
        super().__init__(data, num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.size, self.consumed, self.world = len(data), consumed, world
        self.batches = max(self.size // (batch_size * world), 1)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        start, round, order = self.consumed(), -1, np.empty(0, np.int64)
        for k in range(start + self.rank, start + self.batches * self.batch_size * self.world, self.world):
            if k // self.size != round:
                round = k // self.size
                order = permutation(self.seed, round, self.size)
            yield int(order[k % self.size])
