"""The wkv operator of RWKV-6 (Peng et al., "Eagle and Finch", 2024, eq. 19).

    out[t] = r[t] (S[t] + diag(u) k[t]^T v[t])        S[t + 1] = diag(exp(log_w[t])) S[t] + k[t]^T v[t]

Legend: B rows, T positions, H heads, K channels of a head, N chunks, C positions of a chunk.
"""

import torch
from torch import Tensor

from composer.packing import pack, unpack
from composer_plugins.rwkv import kernels
from composer_plugins.rwkv.chunks import LOG_DECAY_FLOOR, chunked, joined, split


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over T positions from `state`, computed in fp32.

    r, k, v: [B, T, H, K]; log_w: [B, T, H, K], logarithm of the decay, not positive, clamped at -30; u: [H, K];
    state: [B, H, K, K] fp32 (key channel, value channel), None for zeros.
    Returns out [B, T, H, K] in v's dtype and the new state. With cu_seqlens [S + 1], B = 1 and the states have S rows.
    """
    log_w = log_w.float().clamp(min=LOG_DECAY_FLOOR)
    if v.device.type == "cuda":
        return kernels.wkv6(r, k, v, log_w, u, state, cu_seqlens)
    with torch.autocast(v.device.type, enabled=False):
        mask = None
        r, k, values = r.float(), k.float(), v.float()
        if cu_seqlens is not None:
            (r, mask), (k, _), (values, _), (log_w, _) = (unpack(x, cu_seqlens) for x in (r, k, values, log_w))
        out, state = (_step if values.shape[1] == 1 else _chunks)(r, k, values, log_w, u.float(), state)
        out = out if mask is None else pack(out, mask)
    return out.to(v.dtype), state


def _step(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """One position, as the recurrence says it."""
    r, k, v, log_w = (x.transpose(1, 2) for x in (r, k, v, log_w))  # [B, H, 1, K]
    bonus = (r * u[:, None] * k).sum(dim=-1, keepdim=True) * v
    new = k.mT * v
    if state is None:
        return bonus.transpose(1, 2), new
    return (r @ state + bonus).transpose(1, 2), torch.addcmul(new, log_w.exp().mT, state)


def _chunks(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Chunks of C positions: attention inside a chunk, the state between them (`composer_plugins.rwkv.chunks`)."""
    B, T, H, K = v.shape
    count, length, steps, total, middle, end = chunked(log_w)
    r, k, v = (split(x, count, length) for x in (r, k, v))
    r_decayed = r * (total - steps - middle).exp()
    k_decayed = k * (middle - total).exp()
    scores = (r_decayed @ k_decayed.mT).tril_(-1)
    out = scores @ v + (r * k * u[:, None, None]).sum(dim=-1, keepdim=True) * v

    state = v.new_zeros(B, H, K, K) if state is None else state
    added = (k_decayed.mT @ v) * (end - middle).mT.exp()  # [B, H, N, K, K]
    kept = end.mT.exp()
    before = []
    # unbind, because the backward of indexing fills a tensor of all chunks for each of them.
    for new, factor in zip(added.unbind(dim=2), kept.unbind(dim=2), strict=True):
        before.append(state)
        state = torch.addcmul(new, factor, state)
    out = out + r_decayed @ (torch.stack(before, dim=2) * middle.mT.exp())
    return joined(out, T), state
