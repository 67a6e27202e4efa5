"""Measured limits of the GPU, and a check that all packages and components can be imported."""

import importlib
from collections.abc import Callable

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.timing import seconds
from composer.registry import load_registry, load_target

MATMUL, COPY = "bf16 matmul", "copy bandwidth"
IMPORTS = ("triton", "fla", "transformers", "timm", "open_clip", "lightning", "av", "jsonargparse", "pydantic")


def matmul(context: Context) -> float:
    """Measure the TFLOP/s of square matrix products in bf16, the best of several sizes."""
    best = 0.0
    for side in (256,) if context.tiny else (4096, 8192, 16384):
        a, b = torch.randn(2, side, side, device=context.device).to(torch.bfloat16)
        best = max(best, 2 * side**3 / seconds(lambda a=a, b=b: a @ b, context.device, least=0.3) / 1e12)
    return best


def copy(context: Context) -> float:
    """Measure the TB/s, read and written, of a copy that is larger than all caches."""
    count = 2**20 if context.tiny else 2**31
    source = torch.empty(count, dtype=torch.uint8, device=context.device).random_()
    target = torch.empty_like(source)
    return 2 * count / seconds(lambda: target.copy_(source), context.device, least=0.3) / 1e12


MEASURES: dict[str, Callable[[Context], float]] = {MATMUL: matmul, COPY: copy}
UNITS = {MATMUL: "TFLOP/s", COPY: "TB/s"}


def run(context: Context) -> None:
    for name, measure in MEASURES.items():
        context.add(name, measure(context), UNITS[name])
    if context.on_gpu:
        properties = torch.cuda.get_device_properties(context.device)
        context.add("memory", properties.total_memory / 2**30, "GiB")
        context.add("multiprocessors", properties.multi_processor_count)
        context.add("capability", f"{properties.major}.{properties.minor}")
    for name in IMPORTS:
        _check(context, f"import {name}", lambda name=name: importlib.import_module(name))
    registry = load_registry()
    for plugin in registry.broken:
        context.add(f"plugin {plugin.name}", "broken", note=str(plugin.problem))
    for provider in registry.providers:
        name = f"{provider.component.kind} {provider.component.name}"
        if missing := provider.missing():
            context.missing(name, f"needs {', '.join(missing)}")
        else:
            _check(context, name, lambda provider=provider: load_target(provider))


def _check(context: Context, name: str, load: Callable[[], object]) -> None:
    try:
        load()
        context.add(name, "ok")
    except Exception as error:
        context.add(name, "failed", note=f"{type(error).__name__}: {error}".splitlines()[0])
