"""Modules that are built without values and filled from a state dict, next to the same modules built as usual."""

import subprocess
import sys

import torch
from torch import nn

from composer.model.unfilled import fill, unfilled_parameters


class Tied(nn.Module):
    """Tied weights, a buffer that no state dict has, one that it has, and a parameter that is frozen."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.head.weight = self.embed.weight
        self.norm = nn.LayerNorm(4).requires_grad_(False)
        self.register_buffer("table", torch.arange(4.0) ** 0.5, persistent=False)
        self.register_buffer("count", torch.tensor(3))
        nn.init.trunc_normal_(self.embed.weight)
        with torch.no_grad():
            self.norm.weight.fill_(2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embed(ids)) * self.table)


def test_a_filled_module_is_the_one_that_was_saved() -> None:
    saved = Tied()
    with unfilled_parameters():
        module = Tied()
    assert all(parameter.is_meta for parameter in module.parameters())
    assert not any(buffer.is_meta for buffer in module.buffers())
    weights = saved.state_dict()
    fill(module, weights)
    ids = torch.arange(7)
    assert torch.equal(module(ids), saved(ids))
    assert module.head.weight is module.embed.weight
    assert module.head.weight.data_ptr() == saved.embed.weight.data_ptr()
    assert [p.requires_grad for p in module.parameters()] == [p.requires_grad for p in saved.parameters()]


def test_modules_made_afterwards_have_values() -> None:
    with unfilled_parameters():
        nn.Linear(2, 2)
    assert not nn.Linear(2, 2).weight.is_meta


def test_filling_nothing_imports_nothing() -> None:
    """torch's kernels of the meta device are Python, and import sympy."""
    code = (
        "import sys; from torch import nn; from composer.model.unfilled import unfilled_parameters\n"
        "before = 'sympy' in sys.modules\n"
        "with unfilled_parameters(): nn.TransformerEncoderLayer(8, 2, 8); nn.Embedding(3, 2)\n"
        "print(before, 'sympy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["False", "False"]
