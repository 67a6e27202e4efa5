"""The wkv operator of RWKV-7 (Peng et al., 2025): a decaying state with a delta rule.

    S[t] = diag(exp(log_w[t])) S[t - 1] + b[t] (a[t]^T S[t - 1]) + k[t] v[t]^T        out[t] = r[t]^T S[t]

Legend: B rows, T positions, H heads, K channels per head, N chunks, C positions per chunk.
"""

import torch
from torch import Tensor

from composer.packing import pack, unpack
from composer_plugins.rwkv import kernels
from composer_plugins.rwkv.chunks import LOG_DECAY_FLOOR, join, split, split_decays
from composer_plugins.rwkv.compiled import OPERATORS, wkv_node


def wkv7(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None,
    cu_seqlens: tuple[int, ...] | None = None,
    *,
    strongest: float = LOG_DECAY_FLOOR,
) -> tuple[Tensor, Tensor]:
    """Compute the recurrence over T positions in fp32.

    Args:
        r: Receptance [B, T, H, K].
        log_w: Log decay [B, T, H, K], not positive, clamped at `strongest`.
        k: Keys [B, T, H, K].
        v: Values [B, T, H, K].
        a: Removal keys [B, T, H, K].
        b: Replacement keys [B, T, H, K].
        state: State before the first position, [B, H, K (key), K (value)] fp32; None for zeros.
        cu_seqlens: Boundaries of S packed sequences (`composer.packing`); then B = 1 and states have S rows.
        strongest: Lower bound of the log decay.

    Returns:
        Output [B, T, H, K] in the dtype of `v`, and the state after the last position.
    """
    if torch.compiler.is_compiling():
        return wkv_node(7, (r, log_w, k, v, a, b), state, cu_seqlens)
    log_w = log_w.float().clamp(min=strongest)
    if v.device.type == "cuda":
        return kernels.wkv7(r, log_w, k, v, a, b, state, cu_seqlens)
    with torch.autocast(v.device.type, enabled=False):
        r, k, values, a, b = r.float(), k.float(), v.float(), a.float(), b.float()
        if cu_seqlens is not None:
            r, log_w, k, values, a, b = (unpack(x, cu_seqlens)[0] for x in (r, log_w, k, values, a, b))
        if state is None:
            state = r.new_zeros(len(r), *r.shape[2:], r.shape[3])
        if r.shape[1] == 1:
            out, state = _step(r, log_w, k, values, a, b, state)
        else:
            out, state = _chunks(r, log_w, k, values, a, b, state, strongest)
        out = out if cu_seqlens is None else pack(out, cu_seqlens)
    return out.to(v.dtype), state


OPERATORS[7] = wkv7


def _step(r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the recurrence for one position."""
    r, log_w, k, v, a, b = (x.transpose(1, 2) for x in (r, log_w, k, v, a, b))  # [B, H, 1, K]
    state = log_w.exp().mT * state + b.mT * (a @ state) + k.mT * v
    return (r @ state).transpose(1, 2), state


def _chunks(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor, strongest: float
) -> tuple[Tensor, Tensor]:
    """Compute chunks (see `composer_plugins.rwkv.chunks`).

    With u[t] = a[t]^T S[t - 1], the state is a sum of decayed k v^T and b u^T, as that of wkv6 is a sum of k v^T. The u
    of a chunk depend on earlier u in the chunk, on v, and on the state S at its start: a unit triangular system, solved
    for the constant part and for the factor of S. The recurrence between chunks is S -> moved S + added.
    """
    T, K = v.shape[1], v.shape[3]
    count, length, start, before, after, end = split_decays(log_w, strongest)
    r, k, v, a, b = (split(x, count, length) for x in (r, k, v, a, b))
    v = v.contiguous()
    rest, up, down = start.reciprocal(), after, after.reciprocal()
    r_decayed, a_decayed = up * r, before * a
    keys = torch.cat([down * k, down * b], dim=-2)  # [B, H, N, 2 C, K]
    from_k, from_b = (a_decayed @ keys.mT).split(length, dim=-1)
    u_and_factor = torch.linalg.solve_triangular(
        -from_b.tril(-1),  # the diagonal is assumed to be ones
        torch.cat([from_k.tril(-1) @ v, a_decayed * rest], dim=-1),
        upper=False,
        unitriangular=True,
    )
    u, factor = u_and_factor.split(K, dim=-1)

    remaining = keys * end  # the contribution of each position at the end of the chunk
    remaining_k, remaining_b = remaining.split(length, dim=-2)
    added = remaining_k.mT @ v + remaining_b.mT @ u
    moved = remaining_b.mT @ factor + torch.diag_embed((rest * end).squeeze(-2))
    states = []
    for move, add in zip(moved.unbind(dim=2), added.unbind(dim=2), strict=True):
        states.append(state)
        state = add + move @ state
    from_k, from_b = (r_decayed @ keys.mT).split(length, dim=-1)
    from_b = from_b.tril()
    out = from_k.tril() @ v + from_b @ u + (r_decayed * rest + from_b @ factor) @ torch.stack(states, dim=2)
    return join(out, T), state
