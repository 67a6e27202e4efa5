"""Linear layer of RWKV, faster than torch's on a CPU without gradients (measurements: docs/decisions/rwkv.md).

Legend: I inputs, O outputs.
"""

from typing import Self

import torch
from torch import Tensor, nn

SHORT = 512
"""Maximum number of inputs per thread for which a product with one position is faster with columns in order."""

_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
"""Operator that torch.compile uses for linear layers, or None. It has no gradient, and its name is not public."""


class Linear(nn.Linear):
    """Linear layer without bias: [..., I] to [..., O]; weight: [O, I].

    In fp32 on a CPU without gradients it uses oneDNN: 10% faster than MKL for many positions. For one position, where
    memory bandwidth is the limit, oneDNN uses all threads instead of one.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode. In evaluation on a CPU, a matrix with few inputs is stored in column-major order.

        Only the memory layout changes; parameter, shape and values stay the same.
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
            or torch.compiler.is_compiling()  # cannot trace the operator
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
        # One position, column-major: torch computes a batch's matrices in parallel, so each thread gets some outputs.
        parts = self.weight.t().unflatten(1, (threads, -1)).transpose(0, 1)  # [threads, I, O / threads]
        return (x.reshape(1, 1, -1).expand(threads, -1, -1) @ parts).view(*x.shape[:-1], -1)
