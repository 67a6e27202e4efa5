"""One stage's plan: parameters, tokens, steps, operations, memory, time, and what does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.model.multimodal import MultimodalModel
from composer.planning.data import SourcePlan
from composer.planning.load import Load, load_of, steps_of
from composer.planning.measure import PARTS, Meter
from composer.planning.memory import GIB, Measured, memory_of
from composer.planning.misfits import misfits_of
from composer.planning.shapes import Shapes, shapes_of
from composer.recipe.resolve import Recipe

PEAK = {"h200": 989e12, "h100": 989e12, "a800": 312e12, "a100": 312e12}
"""Operations per second in dense bf16, by the makers' data sheets."""


@dataclass(frozen=True)
class Assumptions:
    """What a recipe does not state. text_tokens: per sample, question and answer; half of them are the answer."""

    device: str = "h200"
    utilization: float = 0.4
    devices: int = 1
    text_tokens: int = 128


@dataclass(frozen=True)
class StagePlan:
    """One stage. samples: of an epoch. flops: of all epochs, backward passes included. memory_gib: of one device.

    kept_share: of a square frame's patches. flops_per_sample: of an image and of a video. If a part's forward cannot be
    measured (`misfits` names it), there are no flops, no hours, and no activations in memory_gib.
    """

    name: str
    trains: list[str]
    trained_parameters: int
    epochs: int
    peak_lr: float
    learning_rates: dict[str, float]
    batch_size: int
    keep_ratio: float
    kept_share: float
    tokens_per_frame: int
    frames: int
    visual_tokens: dict[str, int]
    longest_prompt: int
    context: int | None
    samples: int | None
    expected_samples: int | None
    sources: list[SourcePlan]
    steps: int | None
    tokens: int | None
    flops_per_sample: dict[str, float]
    flops: float | None
    memory_gib: dict[str, float]
    checkpoint_gib: float
    hours: float | None
    misfits: list[str]


def plan_stage(name: str, recipe: Recipe, model: MultimodalModel, assumed: Assumptions) -> StagePlan:
    """Plan one stage. Its model must be on the meta device; its tensors are replaced by fake ones."""
    train, trained, everything = _trained(recipe, model)
    load = load_of(recipe, assumed.devices)
    shapes = shapes_of(model, recipe.model.prompt.layout, load.frames, assumed.text_tokens)
    again = recipe.training.gradient_checkpointing
    measured, uncounted = measure(model, train, load.precision, shapes)
    per_sample = {} if uncounted else operations(measured, train, again)
    steps, epochs, passes = steps_of(load.samples, load.step, recipe.trainer)
    tokens = _all(load, passes, dict(shapes.positions))
    flops = _all(load, passes, per_sample)
    memory = memory_of(everything, trained, load, None if uncounted else measured, checkpointing=again)
    return StagePlan(
        name=name,
        trains=train,
        trained_parameters=trained,
        epochs=epochs,
        peak_lr=recipe.training.learning_rate,
        learning_rates=_learning_rates(recipe),
        batch_size=load.step,
        keep_ratio=_keep_ratio(recipe, shapes.kept_share),
        kept_share=shapes.kept_share,
        tokens_per_frame=shapes.square,
        frames=load.frames,
        visual_tokens={kind_of(frames): frames * shapes.square for frames in shapes.positions},
        longest_prompt=load.frames * shapes.wide + shapes.text,
        context=shapes.context,
        samples=load.samples,
        expected_samples=load.expected,
        sources=load.sources,
        steps=steps,
        tokens=None if tokens is None else round(tokens),
        flops_per_sample={kind_of(frames): count for frames, count in per_sample.items()},
        flops=flops,
        memory_gib=memory,
        checkpoint_gib=(everything + 2 * trained) * 4 / GIB,
        hours=_hours(flops, assumed),
        misfits=misfits_of(recipe, load, shapes, uncounted, memory["total"], assumed.device, assumed.devices),
    )


def measure(
    model: MultimodalModel, train: Sequence[str], precision: str, shapes: Shapes
) -> tuple[Measured, dict[str, str]]:
    """Measure the cost of a frame and of samples. Also returns the error of each part that cannot be measured."""
    meter = Meter(model, tuple(train), precision)
    side = model.encoder.transform.size
    frame = meter.frame(side, side, reached="encoder" in train)
    reached = "encoder" in train or "projector" in train
    rows = {frames: meter.text(length, shapes.answered, reached) for frames, length in shapes.positions.items()}
    return Measured(frame, rows, shapes.positions), meter.uncounted


def operations(measured: Measured, train: Sequence[str], checkpointing: bool) -> dict[int, float]:
    """Operations of a sample, forward and backward, by its frames; with checkpointing the forward is done twice."""
    backward = {part: backward_factor(part, train) for part in PARTS}
    factors = {part: 1 + factor + (checkpointing and factor > 0) for part, factor in backward.items()}
    a_frame = sum(cost.flops * factors[part] for part, cost in measured.frame.items())
    return {frames: float(frames * a_frame + row.flops * factors["backbone"]) for frames, row in measured.rows.items()}


def backward_factor(part: str, train: Sequence[str]) -> int:
    """Backward operations as a multiple of the forward's.

    Two if the part is trained (inputs and weights), one if gradients only pass through to a trained part before it.
    """
    if part in train:
        return 2
    return int(any(earlier in train for earlier in PARTS[: PARTS.index(part)]))


def kind_of(frames: int) -> str:
    """Kind of a sample with this number of frames: "image" or "video"."""
    return "image" if frames == 1 else "video"


def _all(load: Load, passes: float | None, of_a_sample: Mapping[int, float]) -> float | None:
    """Sum over all samples of all passes. None if the number of samples or the value per sample is unknown."""
    if passes is None or not of_a_sample:
        return None
    longest = max(of_a_sample)
    counts = [(source.samples or 0, longest if source.video else 1) for source in load.sources]
    return passes * sum(count * of_a_sample[frames] for count, frames in counts)


def _trained(recipe: Recipe, model: MultimodalModel) -> tuple[list[str], int, int]:
    """Trained parts that have parameters, the number of their parameters, and that of all parts."""
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in model.parts().items()}
    train = [str(part) for part in recipe.training.trainable if counts[part]]
    return train, sum(counts[part] for part in train), sum(counts.values())


def _learning_rates(recipe: Recipe) -> dict[str, float]:
    """Peak learning rate of each trained part."""
    training = recipe.training
    return {part: training.learning_rates.get(part, training.learning_rate) for part in training.trainable}


def _hours(flops: float | None, assumed: Assumptions) -> float | None:
    """Hours that the operations take at the assumed share of the devices' peak rate."""
    speed = PEAK[assumed.device] * assumed.utilization * assumed.devices
    return None if flops is None else flops / speed / 3600


def _keep_ratio(recipe: Recipe, share: float) -> float:
    """The option `keep_ratio` of a reducer if one has it, else the share of patches that is kept."""
    ratios = [getattr(reducer, "keep_ratio", None) for reducer in recipe.model.reducer]
    return next((ratio for ratio in ratios if ratio is not None), share)
