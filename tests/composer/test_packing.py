"""Packing against a loop over sequences, and what is no packing."""

from itertools import accumulate
from typing import Any

import pytest
import torch

from composer.packing import check_packed, pack, unpack


@pytest.mark.parametrize("lengths", [[1], [7], [3, 1, 5], [2, 2, 2, 2]])
@pytest.mark.parametrize("tail", [(), (4,), (2, 3)])
def test_unpacked_rows_hold_the_sequences_and_zeros(lengths: list[int], tail: tuple[int, ...]) -> None:
    x = torch.randn(1, sum(lengths), *tail)
    cu_seqlens = list(accumulate(lengths, initial=0))
    check_packed(x, cu_seqlens)
    rows, mask = unpack(x, cu_seqlens)
    assert rows.shape == (len(lengths), max(lengths), *tail)
    start = 0
    for row, length in enumerate(lengths):
        assert torch.equal(rows[row, :length], x[0, start : start + length])
        assert not rows[row, length:].any()
        assert mask[row].tolist() == [True] * length + [False] * (max(lengths) - length)
        start += length
    assert torch.equal(pack(rows, cu_seqlens), x)


def test_gradients_pass() -> None:
    x = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    cu_seqlens = [0, 1, 4, 6]
    assert torch.autograd.gradcheck(lambda x: unpack(x, cu_seqlens)[0] ** 2, (x,))
    assert torch.autograd.gradcheck(lambda x: pack(unpack(x, cu_seqlens)[0], cu_seqlens) ** 2, (x,))


@pytest.mark.parametrize(
    ("shape", "cu_seqlens", "message"),
    [
        ((2, 4, 3), [0, 4], r"one row, \[1, T, ...\]; got \[2, 4, 3\]"),
        ((1, 4, 3), [0], r"S \+ 1 Python integers"),
        ((1, 4, 3), [0.0, 4.0], "Python integers; got"),
        ((1, 4, 3), torch.tensor([0, 4]), "Python integers; got"),
        ((1, 4, 3), [0, 3], "rise from 0 to T = 4"),
        ((1, 4, 3), [1, 4], "rise from 0"),
        ((1, 4, 3), [0, 5], "rise from 0"),
        ((1, 4, 3), [0, 3, 2, 4], "rise from 0"),
        ((1, 4, 3), [0, 2, 2, 4], "at least one long"),
    ],
)
def test_what_is_no_packing_is_refused(shape: tuple[int, ...], cu_seqlens: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_packed(torch.zeros(shape), cu_seqlens)
