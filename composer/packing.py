"""Packed sequences: several of them one after the other in one row, without padding.

`cu_seqlens` holds S + 1 numbers: where each of S sequences starts and, last, where the last one ends. Sequence s is
x[0, cu_seqlens[s] : cu_seqlens[s + 1]]. The name and the layout are those of FlashAttention and fla, but these are
numbers of Python: the host cuts by them, and would have to wait for a device to read a tensor on it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def check_packed(x: Tensor, cu_seqlens: Sequence[int]) -> None:
    """Raise ValueError unless `cu_seqlens` cuts the row x [1, T, ...] into sequences of at least one position."""
    T = x.shape[1]
    if x.shape[0] != 1:
        raise ValueError(f"packed sequences lie in one row, [1, T, ...]; got {list(x.shape)}")
    starts = list(cu_seqlens)
    if len(starts) < 2 or not all(isinstance(start, int) for start in starts):
        raise ValueError(f"cu_seqlens must be S + 1 integers of Python; got {cu_seqlens}")
    if starts[0] != 0 or starts[-1] != T or any(a >= b for a, b in pairwise(starts)):
        raise ValueError(f"cu_seqlens must rise from 0 to T = {T}, each sequence at least one long; got {starts}")


def lengths_of(cu_seqlens: Sequence[int]) -> list[int]:
    """The length of each sequence."""
    return [end - start for start, end in pairwise(cu_seqlens)]


def on_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """These numbers as int64 on the device, by a copy that the host does not wait for."""
    return torch.tensor(numbers).to(device, non_blocking=True)


def unpack(x: Tensor, cu_seqlens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """x [1, T, ...] as right-padded rows [S, L, ...], zeros at padding, and their mask [S, L] bool. Differentiable."""
    lengths = lengths_of(cu_seqlens)
    S, L = len(lengths), max(lengths)
    mask = torch.arange(L, device=x.device) < on_device(lengths, x.device)[:, None]
    rows = x.new_zeros(S * L, *x.shape[2:]).index_copy(0, _positions(lengths, x.device), x[0])
    return rows.unflatten(0, (S, L)), mask


def pack(rows: Tensor, cu_seqlens: Sequence[int]) -> Tensor:
    """The real positions of rows [S, L, ...], one row after the other: [1, T, ...]. Undoes `unpack`."""
    return rows.flatten(0, 1).index_select(0, _positions(lengths_of(cu_seqlens), rows.device))[None]


def _positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Where each packed position is in the flattened rows, [S * L]."""
    L = max(lengths)
    positions = torch.cat([torch.arange(row * L, row * L + length) for row, length in enumerate(lengths)])
    return positions.to(device, non_blocking=True)
