"""Packed sequences: several of them one after the other in one row, without padding.

`cu_seqlens` has S + 1 numbers: the start of each of S sequences, then the end of the last one. Sequence s is
x[0, cu_seqlens[s] : cu_seqlens[s + 1]]. Name and layout are those of FlashAttention and fla, but these are Python
integers: the host splits by them, and would have to wait for the device to read them from a tensor.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from composer.state import State, Unkept

Forward = Callable[[Tensor, Tensor | None, State | None], tuple[Tensor, State]]
"""A backbone's forward: embeddings [B, T, dim], mask [B, T] and state to hidden states and the next state."""


def check_packed(x: Tensor, cu_seqlens: Sequence[int]) -> None:
    """Raise ValueError unless `cu_seqlens` splits the row x [1, T, ...] into sequences of at least one position."""
    T = x.shape[1]
    if x.shape[0] != 1:
        raise ValueError(f"packed sequences must be one row, [1, T, ...]; got {list(x.shape)}")
    starts = list(cu_seqlens)
    if len(starts) < 2 or not all(isinstance(start, int) for start in starts):
        raise ValueError(f"cu_seqlens must be S + 1 Python integers; got {cu_seqlens}")
    if starts[0] != 0 or starts[-1] != T or any(a >= b for a, b in pairwise(starts)):
        raise ValueError(f"cu_seqlens must rise from 0 to T = {T}, each sequence at least one long; got {starts}")


def lengths_of(cu_seqlens: Sequence[int]) -> list[int]:
    """The length of each sequence."""
    return [end - start for start, end in pairwise(cu_seqlens)]


def on_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Copy numbers to the device as int64, without waiting for the copy."""
    return torch.tensor(numbers).to(device, non_blocking=True)


def unpack(x: Tensor, cu_seqlens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Convert x [1, T, ...] to right-padded rows [S, L, ...] with zeros at padding, and their mask [S, L] bool.

    Differentiable. L is the length of the longest sequence.
    """
    lengths = lengths_of(cu_seqlens)
    S, L = len(lengths), max(lengths)
    mask = torch.arange(L, device=x.device) < on_device(lengths, x.device)[:, None]
    rows = x.new_zeros(S * L, *x.shape[2:]).index_copy(0, _positions(lengths, x.device), x[0])
    return rows.unflatten(0, (S, L)), mask


def pack(rows: Tensor, cu_seqlens: Sequence[int]) -> Tensor:
    """Join the real positions of rows [S, L, ...] to [1, T, ...]. Inverse of `unpack`."""
    return rows.flatten(0, 1).index_select(0, _positions(lengths_of(cu_seqlens), rows.device))[None]


def forward_as_rows(
    forward: Forward, state_class: type[State], embeds: Tensor, state: State | None, cu_seqlens: Sequence[int]
) -> tuple[Tensor, State]:
    """Run packed sequences through a forward pass that takes only padded rows.

    Sequences of similar length are padded together, so that none is padded to more than twice its length.

    Args:
        forward: Forward pass over rows.
        state_class: Class of the states that it returns.
        embeds: [1, T, dim], S sequences one after the other.
        state: State of the preceding positions with S rows, or None.
        cu_seqlens: S + 1 numbers.

    Returns:
        Hidden states, [1, T, dim], and the state with S rows. While gradients are recorded it is `Unkept`, because
        all rows of a joined state would be as long as the longest.

    Raises:
        ValueError: If `cu_seqlens` does not match `embeds`.
    """
    check_packed(embeds, cu_seqlens)
    lengths = lengths_of(cu_seqlens)
    pieces = embeds[0].split(lengths)
    groups: dict[int, list[int]] = {}  # sequences by the number of bits of their length
    for sequence, length in enumerate(lengths):
        groups.setdefault(length.bit_length(), []).append(sequence)
    hidden: list[Tensor] = [*pieces]
    states: list[State] = []
    for sequences in groups.values():
        starts = list(accumulate((lengths[s] for s in sequences), initial=0))
        rows, mask = unpack(torch.cat([pieces[s] for s in sequences])[None], starts)
        before = None if state is None else state.select(on_device(sequences, embeds.device))
        out, after = forward(rows, mask, before)
        for s, piece in zip(sequences, pack(out, starts)[0].split(lengths_of(starts)), strict=True):
            hidden[s] = piece
        if not torch.is_grad_enabled():
            states.append(after)
    joined = torch.cat(hidden)[None]
    if torch.is_grad_enabled():
        return joined, Unkept()
    order = on_device([s for sequences in groups.values() for s in sequences], embeds.device)
    return joined, state_class.cat(states).select(order.argsort())


def _positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The index of each packed position in the flattened rows, [S * L]."""
    L = max(lengths)
    positions = torch.cat([torch.arange(row * L, row * L + length) for row, length in enumerate(lengths)])
    return positions.to(device, non_blocking=True)
