"""Messages about what does not fit in a plan, each with its remedy."""

from collections.abc import Mapping

from composer.planning.build import unstated_sizes
from composer.planning.data import shortfall
from composer.planning.load import Load
from composer.planning.memory import GIB
from composer.planning.shapes import Shapes
from composer.recipe.resolve import Recipe

MEMORY = {"h200": 141e9, "h100": 80e9, "a800": 80e9, "a100": 80e9}
"""Bytes, by the makers' data sheets."""


def misfits_of(
    recipe: Recipe,
    load: Load,
    shapes: Shapes,
    uncounted: Mapping[str, str],
    total: float,
    device: str,
    devices: int,
) -> list[str]:
    """Messages, one for each misfit. total: GiB on one device."""
    missing = shortfall(load.samples, load.expected)
    return [
        *unstated_sizes(recipe.model),
        *_uncounted(recipe, uncounted),
        *_too_long(shapes, load.frames),
        *([] if missing is None else [missing]),
        *_uneven(load.loaded, devices),
        *_too_large(total, device),
    ]


def _too_long(shapes: Shapes, frames: int) -> list[str]:
    remedy = {"16:9": ", make frames square (model.encoder.resize)", "square": ""}
    counts = {"square": shapes.square, "16:9": shapes.wide}
    return [
        f"prompt: {frames} {shape} frames of {count} tokens and {shapes.text} of text are "
        f"{frames * count + shapes.text:,} positions and the backbone's context is {shapes.context:,}: use fewer "
        f"frames (data.frames){remedy[shape]} or reduce more tokens (model.reducer)"
        for shape, count in counts.items()
        if shapes.context is not None and frames * count + shapes.text > shapes.context
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
    return [f"data.global_batch_size: got {batch}, expected a multiple of the {devices} devices: change one of them"]


def _too_large(total: float, device: str) -> list[str]:
    room = MEMORY[device] / GIB
    if total <= room:
        return []
    return [
        f"memory: {total:.1f} GiB, and {device} has {room:.1f}: make data.batch_size or data.max_tokens smaller, or "
        "set training.gradient_checkpointing"
    ]
