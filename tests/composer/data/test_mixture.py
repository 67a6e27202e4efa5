"""Mixtures against a list that is written out."""

from collections import Counter
from itertools import product

import pytest

from composer.data.mixture import FIRST_ROUND, Mixture, mixed_sizes
from composer.data.sampler import permutation

LENGTHS = (1, 2, 5, 7)
REPEATS = (0.1, 0.5, 1.0, 1.4, 2.0, 3.7)


def written_out(lengths: tuple[int, ...], repeats: tuple[float, ...], seed: int) -> list[tuple[int, int]]:
    places = []
    for source, (length, repeat) in enumerate(zip(lengths, repeats, strict=True)):
        size = max(1, round(length * repeat))
        order = permutation(seed, FIRST_ROUND + source, length).tolist()
        while size >= length:
            places += [(source, record) for record in range(length)]
            size -= length
        places += [(source, record) for record in order[:size]]
    return places


@pytest.mark.parametrize("seed", [0, 3])
def test_every_place(seed: int) -> None:
    for lengths in product(LENGTHS, repeat=2):
        for repeats in product(REPEATS, repeat=2):
            mixture = Mixture(lengths, repeats, seed)
            expected = written_out(lengths, repeats, seed)
            assert [mixture[i] for i in range(len(mixture))] == expected
            assert len(mixture) == len(expected) == sum(mixture.sizes)
            counts = Counter(expected)
            for source, repeat in enumerate(repeats):
                each = [counts[source, record] for record in range(lengths[source])]
                assert max(each) - min(each) <= 1
                assert mixture.sizes[source] == max(1, round(lengths[source] * repeat))


def test_fractions_differ_between_sources_and_seeds_and_stay() -> None:
    def part(seed: int, source: int) -> list[int]:
        mixture = Mixture((100, 100), (0.3, 0.3), seed)
        return [record for s, record in (mixture[i] for i in range(60)) if s == source]

    assert part(0, 0) == part(0, 0)
    assert len(set(part(0, 0))) == 30
    assert part(0, 0) != part(0, 1)
    assert part(0, 0) != part(1, 0)
    longer = Mixture((100,), (0.5,), 0)
    assert [longer[i][1] for i in range(30)] == part(0, 0)  # a larger fraction holds the smaller one


def test_ends() -> None:
    mixture = Mixture((3, 4), (1.0, 2.0), 0)
    assert mixture[-1] == (1, 3)
    with pytest.raises(IndexError):
        mixture[11]
    assert mixed_sizes((), ()) == ()
