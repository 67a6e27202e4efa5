"""Blocks of RWKV as one graph each: equal to eager, gradients too, and compiled once for all batches of a shape."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from composer_plugins.rwkv.rwkv6 import RWKV6
from composer_plugins.rwkv.rwkv7 import RWKV7
from composer_plugins.rwkv.sequences import Sequences
from composer_plugins.rwkv.sizes import RWKV6Sizes, RWKV7Sizes

SIZES = {"vocab": 11, "width": 16, "depth": 2, "head": 8}
MODELS = {"rwkv6": (RWKV6, RWKV6Sizes), "rwkv7": (RWKV7, RWKV7Sizes)}


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def results(model: nn.Module, x: Tensor, sequences: Sequences) -> list[Tensor]:
    """Hidden states, the last block's wkv state, and all gradients."""
    model.zero_grad(set_to_none=True)
    hidden, states = model(x, sequences, None)
    (hidden.square().sum() + states[-1].wkv.square().sum()).backward()
    return [hidden, states[-1].wkv, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("version", list(MODELS))
def test_a_block_is_one_graph(version: str) -> None:
    kind, sizes = MODELS[version]
    torch.manual_seed(0)
    model: Any = kind(sizes.of_width(**SIZES))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    compiled = copy.deepcopy(model)
    for block in compiled.blocks:
        block.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    mask = torch.ones(2, 9, 1, dtype=torch.bool)
    mask[0, 6:] = False
    graphs = []
    for rows, sequences in ((3, Sequences()), (2, Sequences()), (2, Sequences(mask)), (2, Sequences(mask))):
        x = torch.randn(rows, 9, 16)
        got, expected = results(compiled, x, sequences), results(model, x, sequences)
        assert len(got) == len(expected) > 20
        for value, reference in zip(got, expected, strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2, 2, 4, 4]  # the first block has a norm more, and no value from the one before
