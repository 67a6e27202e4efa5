"""fla's Triton kernels for wkv6 and wkv7, on CUDA. Arguments are those of the operators.

Importing fla takes seconds and fails without a GPU, so it is imported when a kernel is first used.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from composer.packing import on_device
from composer_plugins.rwkv.traced import traced

WKV7_LOWER_BOUND = -math.exp(-0.5)
"""Lower bound of log decays in RWKV-7, which lets fla's kernel skip its protection against overflow."""


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None,
    cu_seqlens: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    if isinstance(v, FakeTensor):
        return traced([r], [k], v, [log_w, u], products=True)
    from fla.ops.rwkv6 import chunk_rwkv6

    r, k, v, log_w = (x.contiguous() for x in (r, k, v, log_w))
    return chunk_rwkv6(
        r,
        k,
        v,
        log_w,
        u,
        scale=1.0,
        initial_state=state,
        output_final_state=True,
        **_packing(cu_seqlens, v.device),
    )


def wkv7(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None,
    cu_seqlens: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    if isinstance(v, FakeTensor):
        return traced([r, a], [k, b], v, [log_w], products=False)
    from fla.ops.rwkv7 import chunk_rwkv7

    r, log_w, k, v, a, b = (x.contiguous() for x in (r, log_w, k, v, a, b))
    return chunk_rwkv7(
        r,
        log_w,
        k,
        v,
        a,
        b,
        scale=1.0,
        initial_state=state,
        output_final_state=True,
        **_packing(cu_seqlens, v.device),
        safe_gate=True,
        lower_bound=WKV7_LOWER_BOUND,
        chunk_size=64,
    )


@lru_cache(maxsize=1)
def _packing(cu_seqlens: tuple[int, ...] | None, device: torch.device) -> dict[str, Tensor]:
    """fla's arguments for packed sequences.

    All layers get the same tensors, because fla caches indices by identity. Its host code reads the copy on the CPU.
    """
    if cu_seqlens is None:
        return {}
    return {"cu_seqlens": on_device(cu_seqlens, device), "cu_seqlens_cpu": torch.tensor(cu_seqlens)}
