"""The wkv operator of RWKV-7 (Peng et al., 2025): a decaying state in which each position replaces what a key holds.

    S[t] = diag(exp(log_w[t])) S[t - 1] + b[t] (a[t]^T S[t - 1]) + k[t] v[t]^T        out[t] = r[t]^T S[t]

Legend: B rows, T positions, H heads, K channels of a head.
"""

import torch
from torch import Tensor

from composer.packing import pack, unpack

LOG_DECAY_FLOOR = -30.0


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
    """Run the recurrence over T positions from `state`, computed in fp32.

    r, log_w, k, v, a, b: [B, T, H, K]; state: [B, H, K (key), K (value)] fp32, None for zeros.
    Returns out [B, T, H, K] in v's dtype and the new state. With cu_seqlens [S + 1], B = 1 and the states have S rows.
    """
    if cu_seqlens is not None:
        rows, mask = zip(*(unpack(x, cu_seqlens) for x in (r, log_w, k, v, a, b)), strict=True)
        out, state = wkv7(*rows, state)
        return pack(out, mask[0]), state
    with torch.autocast(v.device.type, enabled=False):
        log_w = log_w.float().clamp(min=LOG_DECAY_FLOOR)
        out, state = _loop(r.float(), log_w, k.float(), v.float(), a.float(), b.float(), state)
    return out.to(v.dtype), state


def _loop(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Position by position."""
    B, T, H, K = v.shape
    state = v.new_zeros(B, H, K, K) if state is None else state
    out = []
    for t in range(T):
        removed = b[:, t, :, :, None] * (a[:, t, :, None] @ state)
        state = log_w[:, t, :, :, None].exp() * state + removed + k[:, t, :, :, None] * v[:, t, :, None]
        out.append((r[:, t, :, None] @ state).squeeze(-2))
    return torch.stack(out, dim=1), state
