"""The stream: each pass holds every sample once, whoever reads it and wherever it was stopped."""

from collections import Counter
from itertools import chain, zip_longest

import numpy as np
import pytest

from composer.data.sampler import StreamSampler, permutation


def stream(size: int, count: int, seed: int = 3) -> list[int]:
    """The first samples of the stream, by its definition."""
    return [int(permutation(seed, k // size, size)[k % size]) for k in range(count)]


def sampler(size: int, batch_size: int, consumed: int = 0, rank: int = 0, world: int = 1) -> StreamSampler:
    return StreamSampler(range(size), lambda: consumed, batch_size=batch_size, seed=3, rank=rank, world=world)


def test_a_permutation_holds_everything_once_and_stays() -> None:
    assert sorted(permutation(0, 0, 1000)) == list(range(1000))
    assert permutation(7, 2, 8).tolist() == [6, 7, 4, 0, 1, 5, 3, 2]  # a resumed run needs the order of the first
    assert not np.array_equal(permutation(0, 0, 100), permutation(0, 1, 100))
    assert not np.array_equal(permutation(0, 0, 100), permutation(1, 0, 100))


def test_places_are_uniform() -> None:
    first = Counter(int(permutation(seed, 0, 5)[0]) for seed in range(2000))
    assert all(320 < first[i] < 480 for i in range(5))  # 400 expected, 18 is a standard deviation


def test_an_epoch_is_whole_batches_and_leaves_nothing_out() -> None:
    size, batch_size = 10, 4
    consumed, seen = 0, []
    for _ in range(5):
        part = sampler(size, batch_size, consumed)
        assert len(part) == 8
        seen += list(part)
        consumed += 8
    assert seen == stream(size, 40)
    assert set(Counter(seen).values()) == {4}


def test_fewer_samples_than_a_batch() -> None:
    assert list(sampler(3, 8)) == stream(3, 8)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("consumed", [0, 6, 12, 13])
def test_ranks_share_the_stream(world: int, consumed: int) -> None:
    parts = [list(sampler(20, 2, consumed, rank, world)) for rank in range(world)]
    assert {len(part) for part in parts} == {20 // (2 * world) * 2}
    together = [index for index in chain(*zip_longest(*parts)) if index is not None]
    assert together == stream(20, consumed + len(together))[consumed:]


def test_where_training_stands_is_asked_when_an_epoch_starts() -> None:
    position = [0]
    part = StreamSampler(range(10), lambda: position[0], batch_size=5, seed=3, rank=0, world=1)
    first = list(part)
    position[0] = 10
    assert first + list(part) == stream(10, 20)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("consumed", [0, 2, 3, 8, 20])
def test_parts_in_turn_then_the_last_part_again_and_again(world: int, consumed: int) -> None:
    sizes = (3, 5, 4)
    parts = [
        StreamSampler(range(12), lambda: consumed, batch_size=2, seed=3, rank=rank, world=world, sizes=sizes)
        for rank in range(world)
    ]
    together = [index for index in chain(*zip_longest(*map(list, parts))) if index is not None]
    whole: list[int] = []
    for number, part in enumerate((0, 1, 2, 2, 2, 2, 2, 2)):
        whole += [int(i) + sum(sizes[:part]) for i in permutation(3, number, sizes[part])]
    assert together == whole[consumed : consumed + 12]
