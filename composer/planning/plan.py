"""From stages to a plan: parameters, tokens, steps, operations, memory, time, and what does not fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from composer.model.multimodal import MultimodalModel
from composer.planning.build import build_meta, unstated_sizes
from composer.planning.data import SourcePlan, shortfall, sources_of, total
from composer.planning.measure import PARTS, Cost, Meter
from composer.recipe.resolve import Recipe
from composer.recipe.trainer import TrainerConfig

PEAK = {"h200": 989e12, "h100": 989e12, "a800": 312e12, "a100": 312e12}
"""Operations a second in dense bf16, by the makers' data sheets."""

MEMORY = {"h200": 141e9, "h100": 80e9, "a800": 80e9, "a100": 80e9}
"""Bytes, by the same."""

GIB = 2**30


@dataclass(frozen=True)
class Assumptions:
    """What a recipe does not say. text_tokens: of a sample's question and answer, half of them answered."""

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


@dataclass(frozen=True)
class Plan:
    """A recipe. parameters, tokens_per_frame: of the last stage's model, which is the finished one."""

    parameters: dict[str, int]
    tokens_per_frame: int
    assumptions: Assumptions
    stages: list[StagePlan] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_recipe(stages: Sequence[tuple[str, Recipe]], assumed: Assumptions) -> Plan:
    """The plan of resolved stages. Raises what building a model raises."""
    planned, parameters = [], {}
    for name, recipe in stages:
        model = build_meta(recipe.model)
        parameters = {part: sum(p.numel() for p in module.parameters()) for part, module in model.parts().items()}
        planned.append(_stage(name, recipe, model, parameters, assumed))
    return Plan(parameters | {"total": sum(parameters.values())}, planned[-1].tokens_per_frame, assumed, planned)


def backward_factor(part: str, train: Sequence[str]) -> int:
    """Backward operations as a multiple of the forward's: twice where trained (inputs and weights), once where
    gradients only pass through to a trained part before it, else none."""
    if part in train:
        return 2
    return int(any(earlier in train for earlier in PARTS[: PARTS.index(part)]))


def _stage(
    name: str,
    recipe: Recipe,
    model: MultimodalModel,
    parameters: Mapping[str, int],
    assumed: Assumptions,
) -> StagePlan:
    data, trainer, training = recipe.data, recipe.trainer, recipe.training
    train = [str(part) for part in training.trainable if parameters[part]]
    micro = data.batch_size
    loaded = data.global_batch_size or micro * assumed.devices
    batch, share = loaded * trainer.accumulate_grad_batches, math.ceil(loaded / assumed.devices)
    max_tokens, frames = data.max_tokens, data.frames
    sources = sources_of(data)
    longest = frames if any(source.video for source in sources) else 1

    transform, processor = model.encoder.transform, model.processor
    square = processor.shape(transform.size, transform.size)
    wide = processor.shape(*transform.size_of(720, 1280))
    patches = model.encoder.shape(transform.size, transform.size).count
    # A sandwich has the question twice.
    text = assumed.text_tokens * 3 // 2 if recipe.model.prompt.layout == "sandwich" else assumed.text_tokens
    answered = max(1, assumed.text_tokens // 2)

    meter = Meter(model, tuple(train))
    reached = {part: backward_factor(part, train) > 0 for part in PARTS}
    frame = meter.frame(transform.size, transform.size, reached="encoder" in train)
    into_backbone = "encoder" in train or "projector" in train
    positions = {n: n * square.count + text for n in sorted({1, longest})}
    rows = {n: meter.text(length, answered, into_backbone) for n, length in positions.items()}
    packed = {n: max(1, (max_tokens or 0) // length) for n, length in positions.items()}
    at_once = {n: min(share, packed[n] if max_tokens else micro) for n in rows}

    again = int(training.gradient_checkpointing)
    factors = {part: 1 + backward_factor(part, train) + again * reached[part] for part in PARTS}
    flops = {
        n: float(n * sum(frame[p].flops * factors[p] for p in frame) + rows[n].flops * factors["backbone"])
        for n in ([] if meter.uncounted else rows)
    }
    samples = total(sources)
    steps, epochs, passes = _steps(samples, batch, trainer)
    all_flops = tokens = None
    if passes is not None:
        a_pass = [(source.samples or 0, longest if source.video else 1) for source in sources]
        all_flops = passes * sum(count * flops[n] for count, n in a_pass) if flops else None
        tokens = round(passes * sum(count * positions[n] for count, n in a_pass))
    trained = sum(parameters[part] for part in train)
    memory = _memory(sum(parameters.values()), trained, str(trainer.precision), at_once, frame, rows, bool(again))
    if meter.uncounted:
        memory = {what: memory[what] for what in ("weights", "gradients", "optimizer")}
        memory["total"] = sum(memory.values())
    expected = data.expected_samples
    context = processor.context_length
    peak = PEAK[assumed.device] * assumed.utilization * assumed.devices
    return StagePlan(
        name=name,
        trains=train,
        trained_parameters=trained,
        epochs=epochs,
        peak_lr=training.learning_rate,
        learning_rates={p: training.learning_rates.get(p, training.learning_rate) for p in training.trainable},
        batch_size=batch,
        keep_ratio=_keep_ratio(recipe, square.count / patches),
        kept_share=square.count / patches,
        tokens_per_frame=square.count,
        frames=longest,
        visual_tokens={"image": square.count, "video": longest * square.count}
        if longest > 1
        else {"image": square.count},
        longest_prompt=longest * wide.count + text,
        context=context,
        samples=samples,
        expected_samples=expected,
        sources=sources,
        steps=steps,
        tokens=tokens,
        flops_per_sample={"image" if n == 1 else "video": value for n, value in flops.items()},
        flops=all_flops,
        memory_gib=memory,
        checkpoint_gib=(sum(parameters.values()) + 2 * trained) * 4 / GIB,
        hours=None if all_flops is None else all_flops / peak / 3600,
        misfits=[
            *unstated_sizes(recipe.model),
            *_uncounted(recipe, meter.uncounted),
            *_too_long(context, longest, {"square": square.count, "16:9": wide.count}, text),
            *([said] if (said := shortfall(samples, expected)) else []),
            *_uneven(loaded, assumed.devices),
            *_too_large(memory["total"], assumed.device),
        ],
    )


def _steps(samples: int | None, batch: int, trainer: TrainerConfig) -> tuple[int | None, int, float | None]:
    """Optimizer steps of a stage, its epochs, and the passes over its data that the steps are.

    By Lightning's rules: 1,000 epochs where nothing is said, and no end of epochs beside `max_steps`. What an epoch's
    last whole batch leaves over opens the next epoch.
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


def _keep_ratio(recipe: Recipe, share: float) -> float:
    """What a reducer's option `keep_ratio` asks to keep, else what is kept."""
    asked = [getattr(reducer, "keep_ratio", None) for reducer in recipe.model.reducer]
    return next((ratio for ratio in asked if ratio is not None), share)


def _memory(
    parameters: int,
    trained: int,
    precision: str,
    at_once: Mapping[int, int],
    frame: Mapping[str, Cost],
    rows: Mapping[int, Cost],
    checkpointing: bool,
) -> dict[str, float]:
    """GiB on one device that holds everything. at_once: samples of a batch, by their frames, as `rows` is.

    Mixed precision keeps fp32 weights and casts them; `bf16-true` has two bytes each. Activations are those of the path
    without fused kernels: an upper bound.
    """
    size = 2 if precision.endswith("-true") else 4
    held = {n: row.kept if checkpointing else row.saved for n, row in rows.items()}
    a_frame = sum(cost.kept if checkpointing else cost.saved for cost in frame.values())
    activations = max(at_once[n] * (n * a_frame + held[n]) for n in rows)
    casts = sum(cost.casts for cost in (*frame.values(), rows[max(rows)]))
    found = {
        "weights": parameters * size / GIB,
        "gradients": trained * size / GIB,
        "optimizer": 2 * trained * size / GIB,
        "casts": casts / GIB,
        "activations": activations / GIB,
    }
    return found | {"total": sum(found.values())}


def _too_long(context: int | None, frames: int, counts: Mapping[str, int], text: int) -> list[str]:
    square = {"16:9": ", make frames square (model.encoder.resize)"}
    return [
        f"prompt: {frames} {shape} frames of {count} tokens and {text} of text are {frames * count + text:,} positions "
        f"and the backbone's context is {context:,}: use fewer frames (data.frames){square.get(shape, '')} or reduce "
        "more tokens (model.reducer)."
        for shape, count in counts.items()
        if context is not None and frames * count + text > context
    ]


def _uncounted(recipe: Recipe, errors: Mapping[str, str]) -> list[str]:
    return [
        f"model.{part}: operations, activations and hours are not counted: the forward of "
        f"{getattr(recipe.model, part).name!r} fails on tensors without values ({error}); memory is that of weights, "
        "gradients and optimizer alone"
        for part, error in errors.items()
    ]


def _uneven(batch: int, devices: int) -> list[str]:
    if batch % devices == 0:
        return []
    return [f"data.global_batch_size: got {batch}, expected a multiple of the {devices} devices: change one of them."]


def _too_large(total: float, device: str) -> list[str]:
    room = MEMORY[device] / GIB
    if total <= room:
        return []
    return [
        f"memory: up to {total:.1f} GiB, and {device} has {room:.1f}: where it runs out, make data.batch_size or "
        "data.max_tokens smaller, or set training.gradient_checkpointing."
    ]
