"""Prefill of short and very long videos, and three variants of decoding, with stage 3's model in bf16."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.context import Context
from benchmarks.gpu.parts.ceilings import COPY, MATMUL
from benchmarks.gpu.prefill import host_frames, operations_per_frame, prefill
from benchmarks.gpu.recipes import build, stage
from benchmarks.gpu.timing import clock, free, peak_gib, reset_peak, seconds
from composer.inference.decoding import Decoding, Growing, Reserved
from composer.model.multimodal import MultimodalModel

CHUNK = 64
FRAMES = (48, 256, 1_024, 4_096, 16_384)
DECODED = 64


def frame_counts(tiny: bool) -> tuple[int, ...]:
    """Return the numbers of frames of the videos, which other parts use too."""
    return (4, 6) if tiny else FRAMES


def chunk(tiny: bool) -> int:
    """Return the number of frames per chunk."""
    return 4 if tiny else CHUNK


def run(context: Context) -> None:
    part = stage("3-language", tiny=context.tiny)
    model = build(part.model, context.device, torch.bfloat16)
    floor = operations_per_frame(part) / (context.ceiling(MATMUL) * 1e12)
    context.add("weights", sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30, "GiB")
    _decoding(context, model, "decode, eager", Growing)
    measure_prefill(context, model, floor)
    _decoding(context, model, "decode, CUDA graph", Reserved)
    if context.wants("decode, compiled", 30):
        del model
        free(context.device)
        backbone = {"name": part.model.backbone.name, "compile_decoding": True}
        compiled = stage("3-language", tiny=context.tiny, backbone=backbone)
        model = build(compiled.model, context.device, torch.bfloat16)
        with torch.compiler.set_stance("force_eager" if context.tiny else "default"):
            _decoding(context, model, "decode, compiled", Growing)
            _decoding(context, model, "decode, compiled, CUDA graph", Reserved)


def measure_prefill(
    context: Context, model: MultimodalModel, floor: float, label: str = "prefill", most: float = float("inf")
) -> None:
    """Measure frames per second and peak memory of each length. floor: minimum seconds per frame, from FLOPs."""
    device, expected = context.device, 0.0
    pixels = host_frames(model, chunk(context.tiny), device)
    prefill(model, pixels, len(pixels), device)  # compiles and tunes
    for frames in frame_counts(context.tiny):
        name = f"{label}, {frames:,} frames"
        if frames > most or not context.wants(name, max(5, 1.5 * expected)):
            continue

        def measure(frames: int = frames, name: str = name) -> None:
            nonlocal expected
            reset_peak(device)
            run = lambda: prefill(model, pixels, frames, device)  # noqa: E731
            taken = clock(run, device)
            if taken < 2 and not context.tiny:
                taken = seconds(run, device, warmup=1)
            expected = 4.5 * taken
            note = f"{frames / taken:,.1f} frames/s, {chunk(context.tiny)} at a time"
            context.add(name, taken, "s", limit=frames * floor, higher_is_better=False, note=note)
            context.add(f"{name}: rate", frames / taken, "frames/s")
            memory = peak_gib(device)
            if memory is None:
                context.missing(f"{name}: peak memory", "memory is counted on CUDA only")
            else:
                context.add(f"{name}: peak memory", memory, "GiB")

        context.attempt(name, measure)


def _decoding(context: Context, model: MultimodalModel, name: str, kind: type[Growing | Reserved]) -> None:
    """Measure tokens per second after a short video; the backbone's state must have constant size, like RWKV's."""
    if kind is Reserved and not context.on_gpu:
        context.missing(name, "a CPU has no CUDA graphs")
    elif context.wants(name, 5):

        def measure() -> None:
            _, state = prefill(model, host_frames(model, 2, context.device), 2, context.device)
            decoding = kind(model.backbone, model.backbone.reserve(state, 0) if kind is Reserved else state)
            run = partial(decode, decoding, torch.zeros(1, dtype=torch.int64, device=context.device))
            taken = seconds(run, context.device, least=0.1 if context.tiny else 1)
            _add_rate(context, model, name, taken / DECODED)

        context.attempt(name, measure)


@torch.no_grad()
def decode(decoding: Decoding, ids: Tensor) -> Tensor:
    """Decode greedily after `ids` [B] without synchronization with the host; returns [B, DECODED]."""
    tokens = []
    for _ in range(DECODED):
        ids = decoding(ids).argmax(dim=-1)
        tokens.append(ids)
    return torch.stack(tokens, dim=1)


def _add_rate(context: Context, model: MultimodalModel, name: str, taken: float) -> None:
    """Add the tokens per second of one row. The limit is reading all weights except the embedding once per token."""
    read = sum(p.numel() * p.element_size() for p in model.backbone.parameters())
    read -= model.backbone.vocab_size * model.backbone.dim * next(model.backbone.parameters()).element_size()
    limit = context.ceiling(COPY) * 1e12 / read
    note = "limit: weights read once"
    context.add(name, 1 / taken, "tokens/s", limit=limit, higher_is_better=True, note=note)
