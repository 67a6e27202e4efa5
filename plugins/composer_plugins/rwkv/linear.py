"""The linear layer of RWKV: torch's, and faster than it on a CPU without gradients (rates: docs/decisions.md).

Legend: I inputs, O outputs.
"""

from typing import Self

import torch
from torch import Tensor, nn

SHORT = 512
"""Up to so many inputs a thread, reading a matrix for one position is faster by columns and by one thread."""

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
            (x.numel() == self.in_features and not self.weight.is_contiguous())
            or torch.is_grad_enabled()
            or x.dtype != torch.float32
            or x.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()  # which cannot trace the operator
            or self.weight.dtype != torch.float32
            or _onednn is None
        ):
            return super().forward(x)
        return _onednn(x, self.weight, None, "none", [], "")
