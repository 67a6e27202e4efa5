"""Measurement of time and memory on a device."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

GIB = 2**30


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(run: Callable[[], Any], device: torch.device) -> float:
    """Measure the seconds of one run, including work on the device."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def seconds(run: Callable[[], Any], device: torch.device, *, warmup: int = 2, least: float = 0.5) -> float:
    """Measure the median seconds of one run, after `warmup` runs for compilation and tuning.

    Runs are measured in groups of a twentieth of `least` seconds, for about `least` seconds, with at least 3 groups.
    """
    for _ in range(warmup):
        once = clock(run, device)
    group = max(1, round(least / 20 / max(once, 1e-6)))

    def runs() -> None:
        for _ in range(group):
            run()

    repeats = min(20, max(3, round(least / max(once * group, 1e-6))))
    return statistics.median(clock(runs, device) / group for _ in range(repeats))


def free(device: torch.device) -> None:
    """Release unused memory of a GPU."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def reset_peak(device: torch.device) -> None:
    """Reset the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    """Return the peak memory of tensors since `reset_peak`; None on a CPU, where it is not counted."""
    return torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None
