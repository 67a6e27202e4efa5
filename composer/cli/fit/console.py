"""What `composer fit` shows: progress and notes on stderr, and what to do next on stdout."""

import logging
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from composer.cli.fit.job import FitJob
from composer.training.saving import RunCheckpoint

NOISE = re.compile(r"Tip: For|(GPU|TPU|HPU|IPU) available: |LOCAL_RANK: \d+ - CUDA_VISIBLE_DEVICES: ")
"""Lines of Lightning that no user can act on: advertising, and devices, which the recipe names."""


class ProgressBar(TQDMProgressBar):
    """Lightning's bar on stderr, without one for the batches that are validated before training.

    rich's bar takes many lines at 80 columns and says nothing in a pipe before the end; a pipe gets fewer updates.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 20)

    def init_sanity_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def init_train_tqdm(self) -> Tqdm:
        return _on_stderr(super().init_train_tqdm)

    def init_validation_tqdm(self) -> Tqdm:
        return _on_stderr(super().init_validation_tqdm)


def quieten() -> None:
    """Hide what no user can act on: lines of `NOISE`, a deprecation inside Lightning, loggers that share a folder."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).addFilter(_is_useful)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    # Said again, with the remedy, by `composer plot`.
    warnings.filterwarnings("ignore", message="The number of training batches", module="lightning.pytorch.loops")


def print_ending(job: FitJob, trainer: Trainer) -> None:
    """Print the run's folder, its newest checkpoint, and the command that comes next."""
    if not trainer.is_global_zero:
        return
    saved = next((c.newest for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)), None)
    saved = saved or job.checkpoint  # a run that was complete already
    lines = [f"Run folder: {job.folder}", f"Checkpoint: {saved or 'none was saved'}"]
    if saved is not None:
        ask = shlex.join(("composer", "ask", str(job.folder), "QUESTION", "--video", "FILE"))
        lines.append(f"Next: {job.typed('test') if job.recipe.data.test else ask}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def print_interrupted(job: FitJob, trainer: Trainer) -> None:
    """Say on stderr how an interrupted run is resumed."""
    if trainer.is_global_zero:
        sys.stderr.write(f"composer: interrupted. To resume: {job.typed(job.command)}\n")


def _on_stderr(make: Callable[[], Tqdm]) -> Tqdm:
    with redirect_stdout(sys.stderr):
        return make()


def _is_useful(record: logging.LogRecord) -> bool:
    return NOISE.search(record.getMessage()) is None
