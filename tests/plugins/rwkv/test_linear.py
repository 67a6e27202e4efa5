"""The linear layer against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from composer_plugins.rwkv import linear
from composer_plugins.rwkv.linear import Linear
from tests.plugins.rwkv.author import distance


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(96, 200).eval()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 300, 96), (3, 2, 96), (2, 1, 96), (4, 96), (1, 1, 96), (1, 96)])
@torch.no_grad()
def test_it_is_torchs_linear_layer(
    layer: Linear, shape: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x = torch.randn(shape)
    for training in (False, True):
        layer.train(training)
        assert layer(x).shape == (*shape[:-1], 200)
        assert distance(layer(x), F.linear(x, layer.weight)) < 1e-6
        assert distance(layer(x.mT.contiguous().mT), F.linear(x, layer.weight)) < 1e-6


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
@torch.no_grad()
def test_long_rows_without_gradients_take_onednn(layer: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that renames the operator makes reading slower without a word: this test says so."""
    assert linear._onednn is not None
    x = torch.randn(1, 50, 96)
    expected = layer(x)
    monkeypatch.setattr(linear, "_onednn", lambda x, *_: x.new_full((), 7.0))
    assert layer(x) == 7
    assert layer(x[:, 0]).shape == (1, 200)  # few inputs, one position: torch's own
    assert Linear(linear.SHORT + 1, 8).eval()(torch.zeros(1, linear.SHORT + 1)) == 7
    monkeypatch.setattr(linear, "_onednn", None)
    assert distance(layer(x), expected) < 1e-6


def test_a_matrix_of_few_inputs_a_thread_is_stored_by_columns_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, inputs, by_columns in ((1, 512, True), (1, 513, False), (2, 256, True), (2, 512, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        layer = Linear(inputs, 8)
        weight, values = layer.weight, layer.weight.detach().clone()
        assert layer.eval().weight is weight
        assert weight.t().is_contiguous() is by_columns
        assert torch.equal(weight, values)
        assert layer.train().weight.is_contiguous()


def test_gradients_and_half_precision_are_torchs(layer: Linear) -> None:
    x = torch.randn(1, 50, 96, requires_grad=True)
    own = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    torchs = torch.autograd.grad(F.linear(x, layer.weight).square().sum(), (x, layer.weight))
    assert all(torch.equal(a, b) for a, b in zip(own, torchs, strict=True))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        half = layer.bfloat16()
        assert torch.equal(half(x.bfloat16()), F.linear(x.bfloat16(), half.weight))
