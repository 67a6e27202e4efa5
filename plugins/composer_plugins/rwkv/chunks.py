"""What the chunk forms of wkv6 and wkv7 share: positions in chunks, and decays as products of two finite factors.

With c[t] the sum of log decays up to t and m its value at the chunk's middle, what position s leaves at t > s decays by
exp(c[t] - c[s]): the product of exp(c[t] - m) and exp(m - c[s]), one factor for each side of a matrix product. Neither
exponent exceeds what half a chunk decays, and chunks are made short enough for `MAX_EXPONENT`: nothing overflows at any
decay, no weight is lost, and no tensor is larger than [C, C] a head.

Legend: B rows, T positions, H heads, K channels of a head, N chunks, C positions of a chunk.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_DECAY_FLOOR = -30.0
"""exp(-30) is far below what fp32 resolves beside the new term, and keeps every kernel's exponents finite."""

MAX_EXPONENT = 32.0
"""Largest exponent of a factor. Not below 30, what one position may decay; above, the sum of many log decays rounds
more than the result should."""

MAX_CHUNK = 64


class Chunks(NamedTuple):
    """count, length: N and C. start, before, after, end: the factors exp(c - m) at the chunk's start, before and after
    each position's own decay, and at the chunk's end; [B, H, N, 1 or C, K], views of one tensor. Their inverses are the
    factors exp(m - c)."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    length: int
    start: Tensor
    before: Tensor
    after: Tensor
    end: Tensor


def chunked(log_w: Tensor, strongest: float = LOG_DECAY_FLOOR) -> Chunks:
    """The longest chunks of log decays [B, T, H, K], fp32 and at least `strongest`, with exponents in bounds.

    Decays are read only if chunks of `MAX_CHUNK` could exceed the bounds: on a CPU, where that waits for nothing.
    """
    T = log_w.shape[1]
    count = math.ceil(T / MAX_CHUNK)
    while True:
        length = math.ceil(T / count)
        total = F.pad(split(log_w, count, length), (0, 0, 1, 0)).cumsum_(dim=-2)  # c at the start and each position
        middle = total[..., (length + 1) // 2, None, :].clone()
        if -strongest * math.ceil(length / 2) <= MAX_EXPONENT or _in_bounds(total, middle):
            factors = total.sub_(middle).exp_()
            before, after = factors[..., :-1, :], factors[..., 1:, :]
            return Chunks(count, length, before[..., :1, :], before, after, after[..., -1:, :])
        count *= 2


def _in_bounds(total: Tensor, middle: Tensor) -> bool:
    """Whether no factor's exponent is above `MAX_EXPONENT`. NaN is in bounds: a diverged run must be able to say so."""
    steepest = torch.maximum(-middle.min(), (middle - total[..., -1:, :]).max())
    return not steepest > MAX_EXPONENT


def split(x: Tensor, count: int, length: int) -> Tensor:
    """[B, T, H, K] to [B, H, N, C, K], a view unless T is filled up; the zeros at the end neither decay nor add."""
    B, T, H, K = x.shape
    x = F.pad(x, (0, 0, 0, 0, 0, count * length - T)) if count * length > T else x
    return x.view(B, count, length, H, K).permute(0, 3, 1, 2, 4)


def joined(x: Tensor, positions: int) -> Tensor:
    """[B, H, N, C, K] to [B, T, H, K], T being `positions`."""
    return x.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :positions]
