"""Sequences of a batch: rows of one length, padded rows, or several sequences packed into one row.

Legend: B rows, S sequences (B unless packed), T positions, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from composer.packing import on_device
from composer_plugins.rwkv.fused import token_delta


@dataclass(frozen=True)
class Sequences:
    """Layout of the sequences in a batch.

    Attributes:
        mask: [B, T, 1] bool, False at padding; None without padding.
        cu_seqlens: The S + 1 boundaries of packed sequences; None if every row is one sequence.
        starts: [S + 1] int64, `cu_seqlens` on the device of the sequences.
    """

    mask: Tensor | None = None
    cu_seqlens: tuple[int, ...] | None = None
    starts: Tensor | None = None

    @classmethod
    def packed(cls, cu_seqlens: Sequence[int], device: torch.device) -> Self:
        """Create the layout of packed sequences."""
        return cls(None, tuple(cu_seqlens), on_device(cu_seqlens, device))

    @property
    def dense(self) -> bool:
        """Whether every row is one sequence without padding."""
        return self.mask is None and self.cu_seqlens is None

    def count(self, x: Tensor) -> int:
        """Return the number of sequences S in x [B, T, D]."""
        return len(x) if self.cu_seqlens is None else len(self.cu_seqlens) - 1

    def fill_padding(self, x: Tensor, shift: Tensor) -> Tensor:
        """Replace padding by `shift` [S, D], the position before each sequence, so that left padding has no effect."""
        return x if self.mask is None else torch.where(self.mask, x, shift[:, None])

    def delta(self, x: Tensor, shift: Tensor) -> Tensor:
        """Subtract each position from the previous one, [B, T, D]. shift: [S, D], the position before each sequence."""
        if self.starts is None:
            return token_delta(x, shift)
        before = x[0].roll(1, dims=0).index_copy(0, self.starts[:-1], shift.to(x.dtype))
        return before[None] - x

    def last(self, x: Tensor) -> Tensor:
        """Return the last position of each sequence that is not padding, [S, D]; any position if all are padding."""
        if self.starts is not None:
            return x[0].index_select(0, self.starts[1:] - 1)
        if self.mask is None:
            return x[:, -1].clone()  # a view would keep all of x in memory for as long as the state lives
        places = torch.arange(1, x.shape[1] + 1, device=x.device) * self.mask.squeeze(-1)
        return x[torch.arange(len(x), device=x.device), places.argmax(dim=1)]

    def segments(self, x: Tensor, length: int | None) -> Iterator[tuple[Tensor, "Sequences"]]:
        """Yield segments of at most `length` positions with their layout. Packed sequences are not split."""
        if length is None or self.cu_seqlens is not None:
            yield x, self
            return
        for start in range(0, x.shape[1], length):
            places = slice(start, start + length)
            yield x[:, places], Sequences(None if self.mask is None else self.mask[:, places])
