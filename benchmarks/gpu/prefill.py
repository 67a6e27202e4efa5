"""Reading a long video chunk by chunk, with any of composer's models."""

import torch
from torch import Tensor

from benchmarks.gpu.recipes import Stage, frame_group, random_pixels
from composer.model.multimodal import MultimodalModel
from composer.planning.build import build_meta
from composer.planning.measure import Meter
from composer.state import State


def host_frames(model: MultimodalModel, count: int, device: torch.device) -> Tensor:
    """Random frames of the model's size, uint8 in the host's memory, pinned if the device is a GPU."""
    pixels = random_pixels(count, model.processor.transform.size)
    return pixels.pin_memory() if device.type == "cuda" else pixels


@torch.no_grad()
def prefill(model: MultimodalModel, chunk: Tensor, frames: int, device: torch.device) -> tuple[Tensor, State]:
    """Read `frames` frames: the last hidden state [1, D] and the state after it.

    chunk: `host_frames`, read again and again, each time copied to the device, until there are `frames`.
    """
    state, hidden = None, torch.empty(0)
    for first in range(0, frames, len(chunk)):
        part = chunk[: min(len(chunk), frames - first)].to(device, non_blocking=True)
        (visual,) = model.encode([frame_group(part, first)])
        hidden, state = model.backbone(visual[None].to(_dtype(model)), None, state)
    assert state is not None
    model.backbone.head(hidden[:, -1])
    return hidden[:, -1], state


def operations_per_frame(part: Stage) -> float:
    """Of one frame's forward: encoder with reducers, projector, and the backbone on its tokens."""
    model = build_meta(part.model)
    side = model.encoder.transform.size
    meter = Meter(model, ())
    tokens = model.processor.shape(side, side).count
    frame = meter.frame(side, side, reached=False)
    return sum(cost.flops for cost in frame.values()) + meter.text(tokens, 1, False).flops


def _dtype(model: MultimodalModel) -> torch.dtype:
    return next(model.backbone.parameters()).dtype
