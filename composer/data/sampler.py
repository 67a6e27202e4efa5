"""The order of training: a pure function of the seed and of how many samples are trained already."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate

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

    `sizes` cuts the data into parts that are learned in turn: pass p goes over part p, and all further passes over the
    last part. One part, the default, is all of the data. Sample i of pass p is `permutation(seed, p, size)[i]`, counted
    from the part's first sample. An iterator goes on where training stands, from sample `consumed()` of the stream, and
    takes every `world`-th: any number of ranks sees each sample once, in the same order. What an epoch's last
    incomplete batch would leave out opens the next one.

    It is a DistributedSampler so that Lightning takes it as it is.
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
        start, pass_at_hand, order = self.consumed(), -1, np.empty(0, np.int64)
        for k in range(start + self.rank, start + self.batches * self.batch_size * self.world, self.world):
            number, part, i = self._place(k)
            if number != pass_at_hand:
                pass_at_hand = number
                order = sum(self.sizes[:part]) + permutation(self.seed, number, self.sizes[part])
            yield int(order[i])

    def _place(self, k: int) -> tuple[int, int, int]:
        """The pass that sample k of the stream is in, the part that it goes over, and the sample's place in it."""
        starts = list(accumulate(self.sizes[:-1], initial=0))
        part = bisect_right(starts, k) - 1
        repeats, i = divmod(k - starts[part], self.sizes[part])
        return part + repeats, part, i
