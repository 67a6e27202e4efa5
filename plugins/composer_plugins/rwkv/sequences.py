"""How the sequences of a batch lie: as rows of one length, as padded rows, or packed into one row.

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
    """mask: [B, T, 1] bool, False at padding, or None; cu_seqlens: S + 1 numbers of packed sequences, or None.

    starts: [S + 1] int64, the same numbers on the device of the packed sequences.
    """

    mask: Tensor | None = None
    cu_seqlens: tuple[int, ...] | None = None
    starts: Tensor | None = None

    @classmethod
    def packed(cls, cu_seqlens: Sequence[int], device: torch.device) -> Self:
        return cls(None, tuple(cu_seqlens), on_device(cu_seqlens, device))

    @property
    def dense(self) -> bool:
        """Whether every position of every row is real, and every row a sequence."""
        return self.mask is None and self.cu_seqlens is None

    def count(self, x: Tensor) -> int:
        """S, the number of sequences in x [B, T, D]."""
        return len(x) if self.cu_seqlens is None else len(self.cu_seqlens) - 1

    def held(self, x: Tensor, shift: Tensor) -> Tensor:
        """Padding repeats what came before the text, so that its first position sees it however far left it pads."""
        return x if self.mask is None else torch.where(self.mask, x, shift[:, None])

    def delta(self, x: Tensor, shift: Tensor) -> Tensor:
        """The position before minus this one, [B, T, D]; `shift` [S, D] is what came before each sequence."""
        if self.starts is None:
            return token_delta(x, shift)
        before = x[0].roll(1, dims=0).index_copy(0, self.starts[:-1], shift.to(x.dtype))
        return before[None] - x

    def last(self, x: Tensor) -> Tensor:
        """x at each sequence's last real position, [S, D]; a row of padding alone was filled by `held`."""
        if self.starts is not None:
            return x[0].index_select(0, self.starts[1:] - 1)
        if self.mask is None:
            return x[:, -1].clone()  # a view would keep all of x in memory for as long as the state lives
        places = torch.arange(1, x.shape[1] + 1, device=x.device) * self.mask.squeeze(-1)
        return x[torch.arange(len(x), device=x.device), places.argmax(dim=1)]

    def segments(self, x: Tensor, length: int | None) -> Iterator[tuple[Tensor, "Sequences"]]:
        """x in pieces of at most `length` positions. Several packed sequences stay whole: a pack bounds their sum."""
        if length is None or self.cu_seqlens is not None:
            yield x, self
            return
        for start in range(0, x.shape[1], length):
            places = slice(start, start + length)
            yield x[:, places], Sequences(None if self.mask is None else self.mask[:, places])
