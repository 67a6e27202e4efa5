"""Packed sequences: several of them one after the other in one row, without padding.

`cu_seqlens` [S + 1] int64 holds where each of S sequences starts and, last, where the last one ends: sequence s is
x[0, cu_seqlens[s] : cu_seqlens[s + 1]]. The name and the layout are those of FlashAttention and fla.
"""

from itertools import pairwise

import torch
from torch import Tensor


def check_packed(x: Tensor, cu_seqlens: Tensor) -> None:
    """Raise ValueError unless `cu_seqlens` cuts the row x [1, T, ...] into sequences of at least one position."""
    T = x.shape[1]
    if x.shape[0] != 1:
        raise ValueError(f"packed sequences lie in one row, [1, T, ...]; got {list(x.shape)}")
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 2 or cu_seqlens.is_floating_point():
        raise ValueError(f"cu_seqlens must be [S + 1] integers; got {list(cu_seqlens.shape)} {cu_seqlens.dtype}")
    starts = cu_seqlens.tolist()
    if starts[0] != 0 or starts[-1] != T or any(a >= b for a, b in pairwise(starts)):
        raise ValueError(f"cu_seqlens must rise from 0 to T = {T}, each sequence at least one long; got {starts}")


def unpack(x: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """x [1, T, ...] as right-padded rows [S, L, ...], zeros at padding, and their mask [S, L] bool. Differentiable."""
    lengths = cu_seqlens.diff()
    mask = torch.arange(int(lengths.max()), device=x.device) < lengths[:, None]
    rows = x.new_zeros(*mask.shape, *x.shape[2:])
    rows[mask] = x[0]
    return rows, mask


def pack(rows: Tensor, mask: Tensor) -> Tensor:
    """The real positions of rows [S, L, ...], one row after the other: [1, T, ...]. Undoes `unpack`."""
    return rows[mask][None]
