"""The wkv operator of RWKV-6 (Peng et al., "Eagle and Finch", 2024, eq. 19).

    out[t] = r[t] (S[t] + diag(u) k[t]^T v[t])        S[t + 1] = diag(exp(log_w[t])) S[t] + k[t]^T v[t]

Legend: B rows, T positions, H heads, K channels per head, N chunks, C positions per chunk.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.packing import pack, unpack
from composer_plugins.rwkv import kernels
from composer_plugins.rwkv.chunks import LOG_DECAY_FLOOR, join, split, split_decays
from composer_plugins.rwkv.compiled import OPERATORS, wkv_node


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None,
    cu_seqlens: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the recurrence over T positions in fp32.

    Args:
        r: Receptance [B, T, H, K].
        k: Keys [B, T, H, K].
        v: Values [B, T, H, K].
        log_w: Log decay [B, T, H, K], not positive, clamped at -30.
        u: Bonus of the current position [H, K].
        state: State before the first position, [B, H, K (key), K (value)] fp32; None for zeros.
        cu_seqlens: Boundaries of S packed sequences (`composer.packing`); then B = 1 and states have S rows.

    Returns:
        Output [B, T, H, K] in the dtype of `v`, and the state after the last position.
    """
    if torch.compiler.is_compiling():
        return wkv_node(6, (r, k, v, log_w, u), state, cu_seqlens)
    log_w = log_w.float().clamp(min=LOG_DECAY_FLOOR)
    if v.device.type == "cuda":
        return kernels.wkv6(r, k, v, log_w, u, state, cu_seqlens)
    with torch.autocast(v.device.type, enabled=False):
        r, k, values = r.float(), k.float(), v.float()
        if cu_seqlens is not None:
            r, k, values, log_w = (unpack(x, cu_seqlens)[0] for x in (r, k, values, log_w))
        out, state = (_step if values.shape[1] == 1 else _chunks)(r, k, values, log_w, u.float(), state)
        out = out if cu_seqlens is None else pack(out, cu_seqlens)
    return out.to(v.dtype), state


OPERATORS[6] = wkv6


def _step(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute the recurrence for one position."""
    r, k, v, log_w = (x.transpose(1, 2) for x in (r, k, v, log_w))  # [B, H, 1, K]
    bonus = (r * u[:, None] * k).sum(dim=-1, keepdim=True) * v
    new = k.mT * v
    if state is None:
        return bonus.transpose(1, 2), new
    return (r @ state + bonus).transpose(1, 2), torch.addcmul(new, log_w.exp().mT, state)


def _chunks(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute chunks: attention inside each chunk, a state between them (see `composer_plugins.rwkv.chunks`)."""
    B, T, H, K = v.shape
    chunks = split_decays(log_w)
    # The factors come first: an elementwise result has the memory format of its first operand.
    r_decayed = chunks.before * split(r, chunks.count, chunks.length)
    k_decayed = chunks.after.reciprocal() * split(k, chunks.count, chunks.length)
    values = split(v, chunks.count, chunks.length).contiguous()
    out = (r_decayed @ k_decayed.mT).tril_(-1) @ values

    # The state in the loop is multiplied by exp(m), as its chunk needs it.
    start = chunks.start.reciprocal().mT
    state = v.new_zeros(B, H, K, K) if state is None else state * start[:, :, 0]
    added = k_decayed.mT @ values  # [B, H, N, K, K]
    kept = chunks.end.mT * F.pad(start[:, :, 1:], (0, 0, 0, 0, 0, 1), value=1.0)
    before = []
    # unbind: the backward of indexing would fill a tensor of all chunks for each chunk.
    for new, factor in zip(added.unbind(dim=2), kept.unbind(dim=2), strict=True):
        before.append(state)
        state = (state + new) * factor
    out += r_decayed @ torch.stack(before, dim=2)
    return join(out, T).addcmul_((r * u * k).sum(dim=-1, keepdim=True), v), state
