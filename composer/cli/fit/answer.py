"""`composer test` and `predict`: a recipe's options for `composer.evaluation.heldout`, which needs no Lightning."""

import os
import sys
from typing import Any

from composer.atomic import writing
from composer.cli.fit.job import FitJob
from composer.data.open_sources import open_sources
from composer.errors import ConfigError
from composer.evaluation.accuracy import accuracy_table
from composer.evaluation.heldout import HeldOut, load_for_answers, measure_accuracy, predict_answers
from composer.evaluation.share import Share
from composer.figures.tables import print_table
from composer.inference.device import device_of
from composer.recipe.resolve import Recipe
from composer.recipe.trainer import TrainerConfig


def answer(job: FitJob) -> int:
    """Answer the test or predict questions of a recipe and print the result.

    Raises ConfigError for options of the trainer that answering questions cannot follow.
    """
    recipe, is_test = job.recipe, job.command == "test"
    data = recipe.data
    _refuse_bounds(job.command, recipe.trainer)
    share = Share.of_this_process(data.eval_batch_size or data.batch_size, data.num_workers)
    device = device_of(device_name(recipe.trainer, share.world), "trainer.accelerator")
    sources = open_sources(data.sources_of("test" if is_test else "predict"))
    loaded = load_for_answers(recipe.model, job.checkpoint, device, _initial_seed(recipe))
    held_out = HeldOut(
        sources,
        data.frames,
        recipe.training.max_new_tokens,
        data.conditions if is_test else ("normal",),
        data.seed,
        recipe.trainer.precision,
    )
    quiet = recipe.trainer.enable_progress_bar is False
    with writing(job.folder):
        if is_test:
            accuracy = measure_accuracy(loaded, held_out, job.folder, share, quiet=quiet)
            if accuracy is not None:
                print_table(accuracy_table(accuracy))
        else:
            path = predict_answers(loaded, held_out, job.folder, share, quiet=quiet)
            if path is not None:
                sys.stdout.write(f"{path}\n")
    return 0


def device_name(trainer: TrainerConfig, world: int) -> str:
    """The device of this process, of `world`. Raises ConfigError for options that cannot be followed."""
    indices = _indices(trainer.devices)
    if world == 1 and len(indices) > 1:
        raise ConfigError(
            f"trainer.devices: got {trainer.devices}, expected 1: start a process for each device with "
            f"`torchrun --nproc-per-node={len(indices)} --no-python composer ...`, or give --trainer.devices=1"
        )
    accelerator = trainer.accelerator
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        raise ConfigError(f"trainer.accelerator: got {accelerator}, expected auto, cpu, gpu, cuda or mps")
    if accelerator in ("cpu", "mps") or (accelerator == "auto" and indices[0] == 0):
        return str(accelerator)
    return f"cuda:{os.environ.get('LOCAL_RANK', '0') if world > 1 else indices[0]}"


def _indices(devices: Any) -> list[int]:
    """The devices that Lightning's option stands for: a number of them, or their indices as a list or `0,1`."""
    if isinstance(devices, str) and "," in devices:
        devices = [int(index) for index in devices.split(",") if index.strip()]
    if isinstance(devices, list | tuple):
        return [int(index) for index in devices]
    return list(range(max(1, int(devices)))) if str(devices).isdigit() else [0]


def _refuse_bounds(command: str, trainer: TrainerConfig) -> None:
    """Raise ConfigError for options that would ask a part of the questions only."""
    bounds = {name: getattr(trainer, name) for name in ("fast_dev_run", f"limit_{command}_batches")}
    problems = [
        f"trainer.{name}: got {value}, expected null: every question is asked"
        for name, value in bounds.items()
        if value and not (isinstance(value, float) and value == 1)
    ]
    if problems:
        raise ConfigError(problems)


def _initial_seed(recipe: Recipe) -> int | None:
    """The seed of initial weights; None for one that differs in every run."""
    return None if isinstance(recipe.seed, bool) else recipe.seed
