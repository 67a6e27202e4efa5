"""The linear layer of RWKV: torch's, and faster than it on a CPU without gradients (rates: docs/decisions/rwkv.md).

Legend: I inputs, O outputs.
"""

from typing import Self

import torch
from torch import Tensor, nn

SHORT = 512
"""Up to so many inputs a thread, reading a matrix for one position is faster by columns than by rows."""

_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
"""What torch.compile puts in a linear layer's place, or None. It has no gradient, and its name is not public."""


class Linear(nn.Linear):
    """x [..., I] to [..., O] without bias; weight: [O, I].

    In fp32 on a CPU and without gradients, oneDNN multiplies: 10 % faster than MKL on many positions, and on one, where
    memory is the bound, with all threads and not with one.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def train(self, mode: bool = True) -> Self:
        """In evaluation on a CPU, a matrix of few inputs is stored by columns.

        Shape and values stay, and so does the parameter: only its memory is laid out anew.
        """
        if self.weight.device.type == "cpu":
            weight = self.weight.data
            short = self.in_features <= SHORT // torch.get_num_threads()
            self.weight.data = weight.t().contiguous().t() if short and not mode else weight.contiguous()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if (
            _onednn is None
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()  # which cannot trace the operator
            or x.device.type != "cpu"
            or x.dtype != torch.float32
            or self.weight.dtype != torch.float32
        ):
            return super().forward(x)
        if x.numel() > self.in_features or self.weight.is_contiguous():
            return _onednn(x, self.weight, None, "none", [], "")
        threads = torch.get_num_threads()
        if threads == 1 or self.out_features % threads:
            return super().forward(x)
        # One position by columns: torch multiplies matrices of a batch side by side, so each thread takes some outputs.
        parts = self.weight.t().unflatten(1, (threads, -1)).transpose(0, 1)  # [threads, I, O / threads]
        return (x.reshape(1, 1, -1).expand(threads, -1, -1) @ parts).view(*x.shape[:-1], -1)
