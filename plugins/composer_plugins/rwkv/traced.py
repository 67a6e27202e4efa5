"""Stands in for fla's kernels on tensors without values, which Triton cannot read: `composer plan` counts with it.

Legend: B rows, T positions, H heads, K channels of a head, N chunks, C positions of a chunk.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64


class Traced(torch.autograd.Function):
    """Saves what a kernel saves, and multiplies matrices as a chunk form does: inside a chunk, and with the state."""

    @staticmethod
    def forward(ctx: Any, count: int, saves_products: bool, value: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """others: `count` queries, as many keys (like the value [B, T, H, K]), then what else the kernel saves."""
        queries, keys = others[:count], others[count : 2 * count]
        products = value.new_empty(*value.shape[:3], CHUNK, dtype=torch.float32) if saves_products else None
        ctx.save_for_backward(value.contiguous(), *(x.contiguous() for x in others), products)
        with torch.autocast(value.device.type, enabled=False):
            left, right = _chunks(queries), _chunks(keys)
            values = _chunks([value] * count)
            states = right.mT @ values
            out = (left @ right.mT) @ values + left @ states
            state = states.view(len(value), value.shape[2], -1, *states.shape[1:]).sum(dim=2)
        assert out.shape[-1] == value.shape[-1], "queries and keys have the value's channels"
        return torch.empty_like(value), state

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> NoReturn:
        raise RuntimeError("Traced has no backward pass: it counts a forward on tensors without values")


def traced(
    queries: Sequence[Tensor], keys: Sequence[Tensor], value: Tensor, saved: Sequence[Tensor], *, products: bool
) -> tuple[Tensor, Tensor]:
    """What an operator returns for these. products: whether its kernel saves the products of queries and keys."""
    out, state = Traced.apply(len(queries), products, value, *queries, *keys, *saved)
    return out, state


def _chunks(parts: Sequence[Tensor]) -> Tensor:
    """Tensors [B, T, H, K], one after the other in each chunk: [B * H * N, C * parts, K] fp32."""
    T = parts[0].shape[1]
    padded = [F.pad(x.float(), (0, 0, 0, 0, 0, -T % CHUNK)).transpose(1, 2) for x in parts]
    return torch.cat([x.unflatten(2, (-1, CHUNK)).flatten(0, 2) for x in padded], dim=1)
