"""Bytes on one device, which holds all of the model."""

from collections.abc import Mapping
from dataclasses import dataclass

from composer.planning.load import Load
from composer.planning.measure import PARTS, Cost

GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """Costs of a stage: of each part on one frame (encoder, projector), and of the backbone on samples by frames.

    positions: of those samples.
    """

    frame: Mapping[str, Cost]
    rows: Mapping[int, Cost]
    positions: Mapping[int, int]


def memory_of(
    parameters: int, trained: int, load: Load, measured: Measured | None, *, checkpointing: bool
) -> dict[str, float]:
    """GiB by what they hold, and their total at the step's most expensive moment.

    Args:
        parameters: of all parts.
        trained: those of them that are trained.
        load: batches and precision. Mixed precision keeps fp32 weights and casts them; "-true" has two bytes each.
        measured: None if a part could not be measured: then casts and activations are missing.
        checkpointing: whether blocks compute their activations again in the backward pass.
    """
    size = 2 if load.precision in ("bf16-true", "16-true") else 4
    held = {"weights": parameters * size, "gradients": trained * size, "optimizer": 2 * trained * size}
    least = sum(held.values())
    if measured is None:
        return {what: count / GIB for what, count in held.items()} | {"total": least / GIB}
    costs = (*measured.frame.values(), measured.rows[max(measured.rows)])
    casts = sum(cost.kept_casts if checkpointing else cost.casts for cost in costs)
    samples = {frames: load.at_once(measured.positions[frames]) for frames in measured.rows}
    needed = {frames: activations(measured, frames, count, checkpointing) for frames, count in samples.items()}
    largest = max(needed, key=lambda frames: needed[frames])
    total = least + casts + needed[largest]
    if not load.accumulates(samples[largest]):
        # Gradients take the place of the activations that they are computed from.
        total -= min(held["gradients"], casts + needed[largest])
    held |= {"casts": casts, "activations": needed[largest], "total": total}
    return {what: count / GIB for what, count in held.items()}


def activations(measured: Measured, frames: int, samples: int, checkpointing: bool) -> int:
    """Bytes that a forward of `samples` samples needs besides weights, and keeps for the backward pass, at most.

    Part after part adds what it saves to what those before it saved, and needs more than that for a moment; with
    checkpointing the backward pass then computes one block's activations again, next to all inputs of blocks.
    """
    before, most, again = 0, 0, 0
    costs = {**measured.frame, "backbone": measured.rows[frames]}
    for part in PARTS:
        cost, count = costs[part], samples if part == "backbone" else samples * frames
        saved = count * (cost.kept if checkpointing else cost.saved)
        most = max(most, before + saved + count * cost.extra)
        again = max(again, count * cost.block if checkpointing else 0)
        before += saved
    return max(most, before + again)
