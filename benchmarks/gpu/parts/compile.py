"""The encoder with torch.compile per block and with ToMe, each on and off: images per second; then the vision step."""

import torch
from torch import nn

from benchmarks.gpu.context import Context
from benchmarks.gpu.recipes import batch, build, frame_group, random_pixels, stage
from benchmarks.gpu.timing import free, seconds
from benchmarks.gpu.training import Training
from composer.parts import Encoder

KEPT = {"ToMe": 0.1, "no ToMe": 1.0}


def run(context: Context) -> None:
    images, device = (2 if context.tiny else 64), context.device
    for label, keep_ratio in KEPT.items():
        for compiled in (False, True):
            name = f"encoder, {label}, {'compiled' if compiled else 'eager'}"
            if not context.wants(name, 40 if compiled else 10):
                continue
            config = stage("3-language", tiny=context.tiny, reducer={"name": "tome", "keep_ratio": keep_ratio}).model
            model = build(config, device, torch.bfloat16)
            group = frame_group(random_pixels(images, model.processor.transform.size).to(device))

            def measure(name: str = name, model: object = model, group: object = group, on: bool = compiled) -> None:
                note = _compile(model.encoder, context.tiny) if on else ""  # type: ignore[attr-defined]
                with torch.no_grad():
                    least = 0.1 if context.tiny else 1
                    taken = seconds(lambda: model.reduce(group), device, warmup=3, least=least)  # type: ignore[attr-defined]
                context.add(name, images / taken, "images/s", note=f"bf16, {images} at a time{note}")

            context.attempt(name, measure)
            del model, group
            free(device)
    for compiled in (False, True):
        name = f"vision step, {'compiled' if compiled else 'eager'}"
        if context.wants(name, 60 if compiled else 20):
            context.attempt(name, lambda name=name, compiled=compiled: _vision_step(context, name, compiled))
            free(device)


def _vision_step(context: Context, name: str, compiled: bool) -> None:
    rows = 1 if context.tiny else 16
    training = Training(stage("2-vision", tiny=context.tiny), context.device)
    note = _compile(training.model.encoder, context.tiny) if compiled else ""
    example = batch(training.model, 1, rows)
    taken = seconds(lambda: training.step(example), context.device, warmup=2, least=0 if context.tiny else 1)
    context.add(name, rows / taken, "images/s", note=f"micro-batch {rows}{note}")


def _compile(encoder: Encoder, tiny: bool) -> str:
    """Compile each block in place. If `tiny`, only trace: generating code takes a minute on a CPU."""
    backend = "eager" if tiny else "inductor"
    for block in encoder.modules():
        if isinstance(block, encoder.block_classes):
            nn.Module.compile(block, backend=backend, fullgraph=True, dynamic=True)
    return f", backend {backend}"
