"""A run that is killed and started again ends as if nothing had happened, bit for bit."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composer.model.checkpoint import newest, read_checkpoint
from tests.composer.training.tiny import TinyData, module, trainer

STEPS = 15  # two and a half epochs of six steps


def fit(run: Path) -> None:
    """What `composer fit --ckpt_path last` does."""
    model = module(save_every_steps=1, weight_decay=0.1, warmup_ratio=0.2)
    trainer(run, max_steps=STEPS).fit(model, TinyData(), ckpt_path=newest(run))


def start(run: Path) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=fit, args=(run,))
    process.start()
    return process


def flat(value: object, key: str = "") -> dict[str, object]:
    """The leaves of nested dicts and lists."""
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in flat(part, f"{key}.{name}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{key}.{i}").items()}
    return {key: value}


def assert_same(a: Path, b: Path) -> None:
    first, second = (flat({k: read_checkpoint(p)[k] for k in KEPT}) for p in (a, b))
    assert first.keys() == second.keys()
    for key, value in first.items():
        other = second[key]
        same = torch.equal(value, other) if isinstance(value, Tensor) else value == other
        assert same, key


KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "TinyData", "global_step", "epoch")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole")
    process = start(run)
    process.join()
    last = newest(run)
    assert last is not None
    assert last.name == f"step-{STEPS:08d}.ckpt"
    return last


def reached(run: Path, step: int) -> bool:
    """Whether a checkpoint of this step or a later one is there: on a fast machine earlier ones are gone by now."""
    return any(path.stem >= f"step-{step:08d}" for path in (run / "checkpoints").glob("step-*.ckpt"))


def test_killed_at_random_moments_it_ends_the_same(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    kills = 0
    for step in (1, 2, 4, 5, 6, 7, 9, 11, 12, 13):  # in mid-epoch, and on both sides of an epoch's end
        process = start(tmp_path)
        while not reached(tmp_path, step) and process.is_alive():
            time.sleep(0.0005)
        time.sleep(chance.random() * 0.02)
        process.kill()  # SIGKILL; it may have ended in the meantime
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 7
    start(tmp_path).join()
    last = newest(tmp_path)
    assert last is not None
    assert_same(whole, last)
