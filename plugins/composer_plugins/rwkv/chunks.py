"""Chunks of positions for wkv6 and wkv7, with decays as products of two finite factors.

Let c[t] be the sum of log decays up to t, and m its value in the middle of the chunk. The contribution of position s to
t > s decays by exp(c[t] - c[s]) = exp(c[t] - m) exp(m - c[s]), one factor for each side of a matrix product. Neither
exponent exceeds the decay of half a chunk, and chunks are short enough for `MAX_EXPONENT`, so that nothing overflows or
underflows at any decay, and no tensor is larger than [C, C] per head.

Legend: B rows, T positions, H heads, K channels per head, N chunks, C positions per chunk.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_DECAY_FLOOR = -30.0
"""Lower bound of log decays. exp(-30) is far below the resolution of fp32, and exponents in kernels stay finite."""

MAX_EXPONENT = 32.0
"""Maximum exponent of a factor. At least 30, the decay of one position; larger sums of log decays are too inexact."""

MAX_CHUNK = 64


class Chunks(NamedTuple):
    """Chunks and their factors exp(c - m), whose inverses are the factors exp(m - c).

    The factors are [B, H, N, 1 or C, K] fp32, views of one tensor.

    Attributes:
        count: Number of chunks N.
        length: Positions per chunk C.
        start: Factor at the start of each chunk.
        before: Factor before the decay of each position.
        after: Factor after the decay of each position.
        end: Factor at the end of each chunk.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used
    length: int
    start: Tensor
    before: Tensor
    after: Tensor
    end: Tensor


def split_decays(log_w: Tensor, strongest: float = LOG_DECAY_FLOOR) -> Chunks:
    """Split positions into the longest chunks whose exponents are at most `MAX_EXPONENT`.

    The values of decays are read only if chunks of `MAX_CHUNK` could exceed the limit.

    Args:
        log_w: Log decays [B, T, H, K] fp32.
        strongest: Lower bound of `log_w`.

    Returns:
        The chunks with their factors.
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
    """Return whether all exponents are at most `MAX_EXPONENT`, or NaN, so that a diverged run shows NaN."""
    steepest = torch.maximum(-middle.min(), (middle - total[..., -1:, :]).max())
    return not steepest > MAX_EXPONENT


def split(x: Tensor, count: int, length: int) -> Tensor:
    """Reshape [B, T, H, K] to [B, H, N, C, K]; T is padded with zeros, which neither decay nor add, else a view."""
    B, T, H, K = x.shape
    x = F.pad(x, (0, 0, 0, 0, 0, count * length - T)) if count * length > T else x
    return x.view(B, count, length, H, K).permute(0, 3, 1, 2, 4)


def join(x: Tensor, positions: int) -> Tensor:
    """Reshape [B, H, N, C, K] to [B, T, H, K], without padding. positions: T."""
    return x.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :positions]
