"""Prefetching changes when a batch is started on its way, and nothing else."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from composer.batch import Batch
from composer.data.prefetch import Prefetcher, ahead, start_on
from composer.errors import DataError


def batch(number: int) -> Batch:
    ids = torch.tensor([[number]])
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(ids, ids, ids > 0, (), (), none, (str(number),), ("",), ("",), (0, 1))


class Log:
    """Starts batches and says in which order they were started, arrived and were used."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, one: Batch) -> Callable[[], Batch]:
        self.lines.append(f"start {one.sample_ids[0]}")
        return partial(self._arrive, one)

    def _arrive(self, one: Batch) -> Batch:
        self.lines.append(f"arrive {one.sample_ids[0]}")
        return one


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_each_batch_is_started_before_the_one_before_it_is_used(count: int) -> None:
    log, batches = Log(), [batch(number) for number in range(count)]
    for one in ahead(batches, log.start):
        log.lines.append(f"use {one.sample_ids[0]}")
    expected = {
        0: [],
        1: ["start 0", "arrive 0", "use 0"],
        2: ["start 0", "start 1", "arrive 0", "use 0", "arrive 1", "use 1"],
        3: ["start 0", "start 1", "arrive 0", "use 0", "start 2", "arrive 1", "use 1", "arrive 2", "use 2"],
    }
    assert log.lines == expected[count]


def test_of_each_step_the_first_batch_is_started_ahead_and_errors_keep_their_place() -> None:
    error = DataError("bad")
    steps = [[batch(0), batch(1)], batch(2), error, [batch(3)]]
    log = Log()
    prefetcher = Prefetcher(steps, log.start)
    assert len(prefetcher) == 4
    for given, step in zip(prefetcher, steps, strict=True):
        assert given == step or given is step
        log.lines.append("step")
    assert log.lines == [
        *("start 0", "start 2", "arrive 0", "step"),
        *("arrive 2", "step"),
        *("start 3", "step"),
        *("arrive 3", "step"),
    ]


def test_on_the_cpu_a_batch_arrives_as_it_is() -> None:
    given = batch(7)
    (got,) = ahead([given], start_on(torch.device("cpu")))
    assert got == given


@pytest.mark.gpu
def test_on_a_gpu_batches_arrive_with_their_numbers() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    arrived = list(ahead([batch(number) for number in range(9)], start_on(device)))
    assert [one.ids.item() for one in arrived] == list(range(9))
    assert all(one.ids.device == device and one.cu_seqlens == (0, 1) for one in arrived)
