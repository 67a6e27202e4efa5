"""`benchmarks.gpu.tuning`: a few configurations of each kernel instead of all."""

from typing import Any

import pytest
import triton
from triton.runtime.autotuner import Autotuner

from benchmarks.gpu.tuning import try_few


def test_configurations_near_the_usual_one_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Autotuner, "prune_configs", Autotuner.prune_configs)
    configs = [
        triton.Config({"BK": block, "BV": block}, num_warps=warps, num_stages=stages)
        for block in (32, 64, 128)
        for warps in (1, 2, 4, 8)
        for stages in (2, 3, 4)
    ]
    kernel: Any = triton.autotune(configs, key=[])(triton.jit(_kernel))
    assert len(kernel.prune_configs({})) == 36
    try_few(3)
    tried = [(config.kwargs["BK"], config.num_warps, config.num_stages) for config in kernel.prune_configs({})]
    assert set(tried) == {(64, 4, 2), (64, 4, 3), (64, 2, 2)}
    assert tried[0] == (64, 4, 2)


def _kernel() -> None: ...
