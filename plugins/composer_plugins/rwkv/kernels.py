"""fla's Triton kernels for wkv6 and wkv7, on CUDA. Shapes and values as in the modules of the operators.

Importing fla takes seconds and fails where there is no GPU, so nothing imports it before a tensor on one arrives.
"""

import math

from torch import Tensor

WKV7_LOWER_BOUND = -math.exp(-0.5)
"""The strongest log decay that RWKV-7 can have; with it, fla's kernel needs no guard against overflow."""


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    from fla.ops.rwkv6 import chunk_rwkv6

    r, k, v, log_w = (x.contiguous() for x in (r, k, v, log_w))
    return chunk_rwkv6(
        r, k, v, log_w, u, scale=1.0, initial_state=state, output_final_state=True, cu_seqlens=cu_seqlens
    )


def wkv7(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
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
        cu_seqlens=cu_seqlens,
        safe_gate=True,
        lower_bound=WKV7_LOWER_BOUND,
        chunk_size=64,
    )
