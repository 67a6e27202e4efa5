"""Run by test_kernels.py in its own process: fla's Triton kernels on the CPU, by Triton's interpreter.

    python -m tests.plugins.rwkv.interpreted VERSION

Prints one line of JSON: the largest distances between our calls of the kernels and our chunk form.
"""

import builtins
import json
import os
import sys

os.environ.update(TRITON_INTERPRET="1", FLA_USE_COMPILE="0")

import torch


class Count(int):
    """An int with the method that kernels call on what Triton's own range yields."""

    def to(self, _: object) -> "Count":
        return self


def patch() -> None:
    """What the interpreter needs: one configuration instead of a search on a device, and loop counters with `.to`."""
    from triton.runtime.autotuner import Autotuner

    def first_config(self: Autotuner, *args: object, **kwargs: object) -> object:
        return self.fn.run(*args, **kwargs, **self.configs[0].all_kwargs())

    Autotuner.run = first_config
    for name, module in list(sys.modules.items()):
        if name.startswith("fla.ops"):
            module.range = lambda *bounds: map(Count, builtins.range(*map(int, bounds)))  # type: ignore[attr-defined]


def main(version: str) -> None:
    import fla.ops.rwkv6
    import fla.ops.rwkv7  # noqa: F401

    from composer_plugins.rwkv import kernels
    from composer_plugins.rwkv.wkv6 import wkv6
    from composer_plugins.rwkv.wkv7 import wkv7
    from tests.plugins.rwkv.author import distance
    from tests.plugins.rwkv.operators import VERSIONS

    patch()
    ours, theirs = {"6": (wkv6, kernels.wkv6), "7": (wkv7, kernels.wkv7)}[version]
    distances = {}
    for name, cu_seqlens in {"rows": None, "packed": (0, 50, 70)}.items():
        torch.manual_seed(0)
        *inputs, state = VERSIONS[version][0]("mild", 1, 70, 1, 32)
        if version == "7":
            inputs[1] = kernels.WKV7_LOWER_BOUND * torch.rand_like(inputs[1])
        if cu_seqlens is not None:
            state = torch.randn(2, *state.shape[1:])
        results = []
        for operator in (ours, theirs):
            leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
            out, end = operator(*leaves, cu_seqlens)
            weights = torch.arange(out.numel()).view_as(out).cos(), torch.arange(end.numel()).view_as(end).sin()
            ((out * weights[0]).sum() + (end * weights[1]).sum()).backward()
            results.append([out.detach(), end.detach(), *(x.grad for x in leaves)])
        distances[name] = [distance(b, a) for a, b in zip(*results, strict=True)]
    sys.stdout.write(json.dumps(distances) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
