"""Mixture of sources by passes per epoch: a pure function from an index to a record of a source."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from composer.data.sampler import permutation

FIRST_ROUND = 2**62
"""First round of the permutations that select records for fractions; lower rounds order the passes of training."""


def mixed_sizes(lengths: Sequence[int], repeats: Sequence[float]) -> tuple[int, ...]:
    """Compute the number of records that each source contributes, at least one."""
    return tuple(max(round(n * repeat), 1) for n, repeat in zip(lengths, repeats, strict=True))


class Mixture:
    """Concatenation of sources, each repeated: complete copies, then a random part for the fraction.

    Args:
        lengths: Number of records of each source.
        repeats: Copies of each source.
        seed: Seed of the random parts.
    """

    def __init__(self, lengths: Sequence[int], repeats: Sequence[float], seed: int) -> None:
        self.lengths = tuple(lengths)
        self.sizes = mixed_sizes(lengths, repeats)
        self._ends = list(accumulate(self.sizes))
        self._parts = [
            permutation(seed, FIRST_ROUND + source, n)[: size % n] if size % n else None
            for source, (n, size) in enumerate(zip(self.lengths, self.sizes, strict=True))
        ]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Source and record number of an index."""
        index = range(len(self))[index]
        source = bisect_right(self._ends, index)
        offset = index - (self._ends[source - 1] if source else 0)
        copy, record = divmod(offset, self.lengths[source])
        part = self._parts[source]
        if part is not None and copy == self.sizes[source] // self.lengths[source]:
            record = int(part[record])
        return source, record
