"""The wkv operator of RWKV-6 (Peng et al., "Eagle and Finch", 2024, eq. 19).

    out[t] = r[t] (S[t] + diag(u) k[t]^T v[t])        S[t + 1] = diag(exp(log_w[t])) S[t] + k[t]^T v[t]

Legend: B rows, T positions, H heads, K channels of a head, N chunks, C positions of a chunk.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.packing import pack, unpack

LOG_DECAY_FLOOR = -30.0
"""exp(-30) is far below what fp32 resolves beside the new term, and keeps every kernel's exponents finite."""

MAX_EXPONENT = 32.0
"""Largest exponent of a factor in the chunk form. Not below 30, what one position may decay; above, the sum of many
log decays rounds more than the result should."""

MAX_CHUNK = 64


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
    if cu_seqlens is not None:
        rows, mask = zip(*(unpack(x, cu_seqlens) for x in (r, k, v, log_w)), strict=True)
        out, state = wkv6(*rows, u, state)
        return pack(out, mask[0]), state
    log_w = log_w.float().clamp(min=LOG_DECAY_FLOOR)
    if v.device.type == "cuda":
        return _fla(r, k, v, log_w, u, state)
    run = _step if v.shape[1] == 1 else _chunks
    with torch.autocast(v.device.type, enabled=False):
        out, state = run(r.float(), k.float(), v.float(), log_w, u.float(), state)
    return out.to(v.dtype), state


def _fla(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    # Importing fla takes seconds and fails where there is no GPU, so nothing imports it earlier.
    from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6

    kernel = fused_recurrent_rwkv6 if v.shape[1] == 1 else chunk_rwkv6
    r, k, v, log_w = (x.contiguous() for x in (r, k, v, log_w))
    return kernel(r, k, v, log_w, u, scale=1.0, initial_state=state, output_final_state=True)


def _step(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """One position, as the recurrence says it."""
    r, k, v, log_w = (x.transpose(1, 2) for x in (r, k, v, log_w))  # [B, H, 1, K]
    bonus = (r * u[:, None] * k).sum(dim=-1, keepdim=True) * v
    new = k.mT * v
    if state is None:
        return bonus.transpose(1, 2), new
    return (r @ state + bonus).transpose(1, 2), torch.addcmul(new, log_w.exp().mT, state)


def _chunks(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Chunks of C positions: attention inside a chunk, the state between them.

    With c[t] the sum of log decays up to t and m its value at the chunk's middle, the weight of position s at t > s,
    exp(c[t-1] - c[s]), is the product of exp(c[t-1] - m) and exp(m - c[s]), one factor for r and one for k. Neither
    exponent exceeds what half a chunk decays, and chunks are made short enough for `MAX_EXPONENT`: nothing overflows
    at any decay, no weight is lost, and no tensor is larger than [C, C] a head.
    """
    B, T, H, K = v.shape
    count = math.ceil(T / MAX_CHUNK)
    while True:
        C = math.ceil(T / count)
        steps = _split(log_w, count, C)  # [B, H, N, C, K]
        total = steps.cumsum(dim=-2)
        middle, end = total[..., (C - 1) // 2, None, :], total[..., -1:, :]
        steepest = torch.maximum(-middle.min(), (middle - end).max())
        if not steepest > MAX_EXPONENT:  # so put, NaN ends the loop: a diverged run must be able to say so
            break
        count *= 2
    r, k, v = (_split(x, count, C) for x in (r, k, v))
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
    out = out.permute(0, 2, 3, 1, 4).reshape(B, count * C, H, K)
    return out[:, :T], state


def _split(x: Tensor, count: int, length: int) -> Tensor:
    """[B, T, H, K] to [B, H, N, C, K]; the zeros at the end neither decay nor add."""
    B, T, H, K = x.shape
    x = F.pad(x, (0, 0, 0, 0, 0, count * length - T)) if count * length > T else x
    return x.view(B, count, length, H, K).permute(0, 3, 1, 2, 4).contiguous()
