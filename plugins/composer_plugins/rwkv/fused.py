"""Elementwise functions of RWKV with a backward that needs less memory traffic than autograd's; fp32 decoding.

Memory traffic is most of the cost at small widths.

Legend: B rows, T positions, D width.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


class TokenDelta(torch.autograd.Function):
    """Difference of each position to the previous one."""

    @staticmethod
    def forward(ctx: object, x: Tensor, first: Tensor) -> Tensor:
        delta = torch.empty_like(x)
        torch.sub(first, x[:, 0], out=delta[:, 0])
        torch.sub(x[:, :-1], x[:, 1:], out=delta[:, 1:])
        return delta

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad_x = -grad
        grad_x[:, :-1] += grad[:, 1:]
        return grad_x, grad[:, 0]


class TokenShift(torch.autograd.Function):
    """x + delta * amount for several amounts; the gradients of x and delta are accumulated in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, *amounts: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(delta, *amounts)
        return tuple(torch.addcmul(x, delta, amount) for amount in amounts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        delta, *amounts = ctx.saved_tensors
        grad_x = grads[0].clone()
        grad_delta = grads[0] * amounts[0]
        for grad, amount in zip(grads[1:], amounts[1:], strict=True):
            grad_x += grad
            grad_delta.addcmul_(grad, amount)
        grad_amounts = ((grad * delta).sum_to_size(amount.shape) for grad, amount in zip(grads, amounts, strict=True))
        return grad_x, grad_delta, *grad_amounts


class SquaredReLU(torch.autograd.Function):
    """max(x, 0) squared."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


def token_delta(x: Tensor, first: Tensor) -> Tensor:
    """Subtract each position from the previous one.

    Args:
        x: Positions [B, T, D].
        first: Position before x[:, 0], [B, D].

    Returns:
        Differences [B, T, D].
    """
    if torch.compiler.is_compiling():  # the compiler fuses these operations, and cannot trace writes to a slice
        return torch.cat([first[:, None].to(x.dtype), x[:, :-1]], dim=1) - x
    return TokenDelta.apply(x, first)


def token_shift(x: Tensor, delta: Tensor, *amounts: Tensor) -> tuple[Tensor, ...]:
    """Mix each position with the previous one.

    Args:
        x: Positions [B, T, D].
        delta: Differences to the previous positions [B, T, D].
        amounts: Weights of the previous positions, each [B, T, D] or [1, 1, D].

    Returns:
        One mix [B, T, D] per amount.
    """
    return TokenShift.apply(x, delta, *amounts)


def squared_relu(x: Tensor) -> Tensor:
    """Compute max(x, 0) squared for any shape. Without gradients, x is overwritten: allocation costs more than this."""
    return SquaredReLU.apply(x) if torch.is_grad_enabled() else x.relu_().square_()


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Disable autocast on the device of `x`, where it would compute states in bf16.

    Does nothing if autocast is off: torch's context costs 5% of a step of generation (256 x 4, one CPU core).
    """
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
