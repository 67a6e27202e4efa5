"""Division of samples into steps, batches and devices by a recipe's `data:` and `trainer:` sections."""

import math
from dataclasses import dataclass

from composer.planning.data import SourcePlan, sources_of, total
from composer.recipe.resolve import Recipe
from composer.recipe.trainer import TrainerConfig


@dataclass(frozen=True)
class Load:
    """Samples of a stage and their batches.

    Attributes:
        sources: Sources that are trained on.
        samples: Samples per epoch; None if a source does not state its number.
        expected: The number of samples that the recipe expects.
        frames: Frames of the longest sample.
        step: Samples per optimizer step.
        loaded: Samples in one batch of all devices, before `accumulate_grad_batches`.
        share: Samples of one device in `loaded`.
        batch: Samples in one forward on a device, without packing.
        max_tokens: Positions of a packed row, which is one forward; None without packing.
        precision: Lightning's name of the precision.
    """

    sources: list[SourcePlan]
    samples: int | None
    expected: int | None
    frames: int
    step: int
    loaded: int
    share: int
    batch: int
    max_tokens: int | None
    precision: str

    def at_once(self, positions: int) -> int:
        """Number of samples in one forward on a device, if each has this many positions."""
        return min(self.share, max(1, self.max_tokens // positions) if self.max_tokens else self.batch)

    def accumulates(self, at_once: int) -> bool:
        """Whether an optimizer step has several forwards of `at_once` samples, so gradients are kept between them."""
        return self.step > self.loaded or self.share > at_once


def load_of(recipe: Recipe, devices: int) -> Load:
    """Compute the load of a stage on this number of devices."""
    data, trainer = recipe.data, recipe.trainer
    loaded = data.global_batch_size or data.batch_size * devices
    sources = sources_of(data)
    return Load(
        sources=sources,
        samples=total(sources),
        expected=data.expected_samples,
        frames=data.frames if any(source.video for source in sources) else 1,
        step=loaded * trainer.accumulate_grad_batches,
        loaded=loaded,
        share=math.ceil(loaded / devices),
        batch=data.batch_size,
        max_tokens=data.max_tokens,
        precision=str(trainer.precision or "32-true"),
    )


def steps_of(samples: int | None, batch: int, trainer: TrainerConfig) -> tuple[int | None, int, float | None]:
    """Optimizer steps of a stage, its epochs, and the passes over its data that these steps are.

    Lightning's rules apply: 1,000 epochs by default, and no limit of epochs if `max_steps` is set. Samples that remain
    after an epoch's last complete batch start the next epoch.
    """
    limit, epochs = None if trainer.max_steps < 0 else trainer.max_steps, trainer.max_epochs
    if epochs is None:
        epochs = 1000 if limit is None else -1
    if samples is None:
        return limit, max(epochs, 1), None
    each = max(samples // batch, 1)
    ends = [end for end in (limit, each * epochs if epochs >= 0 else None) if end is not None]
    if not ends:
        return None, epochs, None
    steps = min(ends)
    return steps, epochs if epochs >= 0 else math.ceil(steps / each), steps / each
