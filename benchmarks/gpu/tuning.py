"""Limit on the number of configurations that Triton tries before the first use of a kernel.

fla's kernels have dozens of configurations each. Compiling and timing all of them takes minutes on a new machine: on an
H200, 147 s were not enough for the first backward pass of one wkv operator (docs/performance.md).
"""

from typing import Any


def try_few(count: int) -> None:
    """Let Triton try at most `count` configurations per kernel: those near 4 warps, 2 stages and blocks of 64."""
    from triton.runtime.autotuner import Autotuner

    prune = Autotuner.prune_configs

    def few(self: Any, kwargs: Any) -> list[Any]:
        return sorted(prune(self, kwargs), key=_distance)[:count]

    Autotuner.prune_configs = few


def _distance(config: Any) -> int:
    blocks = sum(abs(size - 64) for name, size in config.kwargs.items() if name.startswith("B"))
    return blocks + 16 * abs(config.num_warps - 4) + 16 * abs(config.num_stages - 2)
