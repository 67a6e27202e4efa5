"""Prefill of a long video in chunks, with any model of composer."""

import torch
from torch import Tensor

from benchmarks.gpu.recipes import Stage, frame_group, random_pixels
from composer.model.multimodal import MultimodalModel
from composer.planning.build import build_meta
from composer.planning.measure import Meter
from composer.state import State


def host_frames(model: MultimodalModel, count: int, device: torch.device) -> Tensor:
    """Create random frames of the model's size, uint8 in host memory, pinned if the device is a GPU."""
    pixels = random_pixels(count, model.processor.transform.size)
    return pixels.pin_memory() if device.type == "cuda" else pixels


@torch.no_grad()
def prefill(model: MultimodalModel, chunk: Tensor, frames: int, device: torch.device) -> tuple[Tensor, State]:
    """Prefill a video.

    Args:
        model: The model.
        chunk: Frames from `host_frames`, repeated as often as needed and copied to the device each time.
        frames: Number of frames of the video.
        device: Device of the model.

    Returns:
        Hidden state of the last position [1, D], and the state after it.
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
    """Return the FLOPs of one frame's forward: encoder with reducers, projector, and backbone on its tokens."""
    model = build_meta(part.model)
    side = model.encoder.transform.size
    meter = Meter(model, ())
    tokens = model.processor.shape(side, side).count
    frame = meter.frame(side, side, reached=False)
    return sum(cost.flops for cost in frame.values()) + meter.text(tokens, 1, False).flops


def _dtype(model: MultimodalModel) -> torch.dtype:
    return next(model.backbone.parameters()).dtype
