"""How often each source is learned: a pure function from a place in the mixture to a record of a source."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from composer.data.sampler import permutation

FIRST_ROUND = 2**62
"""Rounds of permutations from here on choose what a fraction holds; those below order the passes of training."""


def mixed_sizes(lengths: Sequence[int], repeats: Sequence[float]) -> tuple[int, ...]:
    """What sources of these lengths contribute: at least one record each."""
    return tuple(max(round(n * repeat), 1) for n, repeat in zip(lengths, repeats, strict=True))


class Mixture:
    """Sources one after the other, each repeated: whole copies, then for the fraction a part that the seed chooses.

    lengths, repeats: records of each source, and copies of it. sizes: what each source contributes.
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
        """The source of a place, and the record's number in it."""
        index = range(len(self))[index]
        source = bisect_right(self._ends, index)
        place = index - (self._ends[source - 1] if source else 0)
        copy, record = divmod(place, self.lengths[source])
        part = self._parts[source]
        if part is not None and copy == self.sizes[source] // self.lengths[source]:
            record = int(part[record])
        return source, record
