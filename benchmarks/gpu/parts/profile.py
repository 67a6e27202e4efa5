"""Profile of each stage's step and of the prefill: largest operators, kernels per step, and gaps."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.context import Context
from benchmarks.gpu.parts.inference import chunk
from benchmarks.gpu.parts.train import cases
from benchmarks.gpu.prefill import host_frames, prefill
from benchmarks.gpu.recipes import batch, build, stage
from benchmarks.gpu.timing import free
from benchmarks.gpu.training import Training

LARGEST = 15
MATMUL = re.compile(r"aten::(mm|addmm|bmm|baddbmm|_scaled_mm|mkldnn_linear|mkldnn_bf16_gemm)|mkldnn::_linear_pointwise")
PROFILERS_OWN = "Command Buffer Full"
"""Event of the profiler itself while it waits: up to two thirds of a step's time on an H200."""

ROWS = {"1-pretrain": 16, "2-vision": 16, "3-language": 2}
"""Micro-batches of the recipes."""


def run(context: Context) -> None:
    for case in cases(context):
        if not context.wants(f"{case.name}: device time per step", 20):
            continue
        training = Training(stage(case.stage, tiny=context.tiny), context.device)
        example = batch(training.model, case.frames, 1 if context.tiny else ROWS[case.stage])
        _profile(context, case.name, lambda training=training, example=example: training.step(example))
        del training
        free(context.device)
    if context.wants("prefill: device time per step", 15):
        model = build(stage("3-language", tiny=context.tiny).model, context.device, torch.bfloat16)
        pixels = host_frames(model, chunk(context.tiny), context.device)
        _profile(context, "prefill", lambda: prefill(model, pixels, 2 * len(pixels), context.device))


def _profile(context: Context, name: str, step: Callable[[], Any]) -> None:
    for _ in range(1 if context.tiny else 3):
        step()
    steps = 1 if context.tiny else 2
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if context.on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        if context.on_gpu:
            torch.cuda.synchronize()
    # An annotation, for example the optimizer's, spans kernels that are events themselves.
    events = [event for event in profiler.events() if not event.is_user_annotation and event.name != PROFILERS_OWN]
    operators, calls = _operators(events, context.on_gpu)
    total = sum(operators.values())
    for place, (operator, taken) in enumerate(operators.most_common(LARGEST), 1):
        share, count = taken / total, calls[operator] / steps
        note = f"{share:.1%} of the step's operators, {count:,.0f} calls"
        context.add(f"{name}: {place:02d} {operator[:60]}", taken / steps / 1e3, "ms", note=note)
    matmul = sum(taken for operator, taken in operators.items() if MATMUL.fullmatch(operator))
    context.add(f"{name}: share of matmul", matmul / total)
    if context.on_gpu:
        kernels = [event for event in events if event.device_type == DeviceType.CUDA]
        busy, span = _busy(kernels)
        context.add(f"{name}: kernels per step", len(kernels) / steps, note="with copies and fills")
        context.add(f"{name}: gaps", 1 - busy / span, note="share of the time in which the device is idle")
    else:
        for figure in ("kernels per step", "gaps"):
            context.missing(f"{name}: {figure}", "measured on CUDA only")
    context.add(f"{name}: device time per step", total / steps / 1e3, "ms")


def _operators(events: list[Any], on_gpu: bool) -> tuple[Counter[str], Counter[str]]:
    """Microseconds and calls by operator: of the kernels that it launched, or on the CPU without a GPU.

    Kernels that no operator launched, for example Triton's from Python, are listed by name.
    """
    taken: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    unlaunched: Counter[str] = Counter()
    for event in events:
        if event.device_type == DeviceType.CUDA:
            unlaunched[event.name] += event.time_range.elapsed_us()
            calls[event.name] += 1
            continue
        own = sum(kernel.duration for kernel in event.kernels) if on_gpu else event.self_cpu_time_total
        if own > 0:
            taken[event.name] += own
            calls[event.name] += 1
        for kernel in event.kernels:
            unlaunched[kernel.name] -= kernel.duration
    return taken + Counter({name: rest for name, rest in unlaunched.items() if rest > 1}), calls


def _busy(kernels: list[Any]) -> tuple[float, float]:
    """Microseconds with at least one running kernel, and from the first start to the last end."""
    ranges = sorted((kernel.time_range.start, kernel.time_range.end) for kernel in kernels)
    busy, until = 0.0, ranges[0][0]
    for start, end in ranges:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy, until - ranges[0][0]
