"""Elementwise steps of RWKV whose own backward reads and writes less than autograd's, most of the cost at small widths;
and the context in which the step of generation is fp32.

Legend: B rows, T positions, D width.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


class TokenDelta(torch.autograd.Function):
    """Each position's difference to the one before it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor) -> Tensor:
        delta = torch.empty_like(x)
        torch.sub(first, x[:, 0], out=delta[:, 0])
        torch.sub(x[:, :-1], x[:, 1:], out=delta[:, 1:])
        return delta

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad_x = -grad
        grad_x[:, :-1] += grad[:, 1:]
        return grad_x, grad[:, 0]


class TokenShift(torch.autograd.Function):
    """x + delta * amount for several amounts; the gradients of x and delta are summed in place as they arise."""

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
    """The position before minus this one, [B, T, D]; `first` [B, D] is what came before x[:, 0]."""
    if torch.compiler.is_compiling():  # it fuses the steps itself, and cannot trace writing into a slice
        return torch.cat([first[:, None].to(x.dtype), x[:, :-1]], dim=1) - x
    return TokenDelta.apply(x, first)


def token_shift(x: Tensor, delta: Tensor, *amounts: Tensor) -> tuple[Tensor, ...]:
    """Mixes of each position with the one before, each [B, T, D]; an amount is [B, T, D] or [1, 1, D] for all."""
    return TokenShift.apply(x, delta, *amounts)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0) squared, any shape. Without gradients it is written over x: new memory of the widest layer costs more
    than the arithmetic."""
    return SquaredReLU.apply(x) if torch.is_grad_enabled() else x.relu_().square_()


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A context without autocast on x's device, which would multiply and add states in bf16.

    Where none is on it does nothing: torch's own context costs 5 % of a step of generation (256 x 4, one CPU core).
    """
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
