"""Attention that weighs keys by size against an explicit softmax in fp64; a hosted block against its formula."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from composer.blocks import host, proportional_attention
from composer.parts import BlockTokens
from composer.testing.encoder import MergeFirstPair

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def explicit(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> Tensor:
    """The formula in fp64."""
    logits = q.double() @ k.double().mT / math.sqrt(q.shape[-1]) + sizes.double().log()[:, None, None, :]
    return logits.softmax(dim=-1) @ v.double()


def biased(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> Tensor:
    """What rules FlashAttention out: log sizes as a bias in q's dtype."""
    bias = sizes.log()[:, None, None, :].to(q.dtype)
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def inputs(dim: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """q, k, v [2, 3, 90, dim], and sizes: two tokens of three are patches, the others any share of 729 patches."""
    generator = torch.Generator().manual_seed(dim)
    qkv = [(torch.randn(2, 3, 90, dim, generator=generator) * scale).to(dtype) for scale in (2, 2, 1)]
    sizes = torch.randint(1, 730, (2, 90), generator=generator, dtype=torch.int32)
    return qkv, torch.where(torch.arange(90) % 3 > 0, 1, sizes)


def with_gradients(attention: Attention, qkv: Iterable[Tensor], sizes: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in qkv]
    out = attention(*leaves, sizes)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("dim", [24, 64, 72])
def test_weighted_keys_equal_the_formula(dim: int) -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        qkv, sizes = inputs(dim, dtype)
        got, expected = with_gradients(proportional_attention, qkv, sizes), with_gradients(explicit, qkv, sizes)
        assert len(got) == 4
        for value, reference in zip(got, expected, strict=True):
            assert value.dtype == dtype
            torch.testing.assert_close(value.double(), reference.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dim", [24, 64, 72])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.15), (torch.bfloat16, 0.7), (torch.float16, 0.7)])
def test_errors_are_not_above_those_of_a_bias(dim: int, dtype: torch.dtype, most: float) -> None:
    """Mean errors of output and gradients: the same in fp32, smaller in half precision, where log 729 has 8 bits."""
    qkv, sizes = inputs(dim, dtype)
    expected = with_gradients(explicit, qkv, sizes)
    folded, reference = with_gradients(proportional_attention, qkv, sizes), with_gradients(biased, qkv, sizes)
    for got, bias, exact in zip(folded, reference, expected, strict=True):
        assert (got - exact).abs().mean() <= most * (bias - exact).abs().mean()


def test_the_kernel_gets_no_bias_and_even_heads() -> None:
    """FlashAttention takes no bias, and heads of one size for q, k and v, in steps of 8 channels."""
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is nn.functional.scaled_dot_product_attention:
                seen.append(({x.shape[-1] for x in args}, set(kwargs)))
            return func(*args, **(kwargs or {}))

    for dim in (20, 64, 72, 80):
        qkv, sizes = inputs(dim, torch.bfloat16)
        with Watch():
            assert proportional_attention(*qkv, sizes).shape == (2, 3, 90, dim)
    assert [heads for heads, _ in seen] == [{24}, {72}, {80}, {88}]
    assert all(options == {"dropout_p", "scale"} for _, options in seen)


@pytest.mark.parametrize("proportional", [True, False])
def test_a_hosted_block_merges_between_attention_and_mlp(proportional: bool) -> None:
    reducer = MergeFirstPair(dim=4, depth=1)
    reducer.proportional = proportional
    x, keys = torch.randn(2, 6, 4), torch.randn(2, 3, 6, 2)
    sizes = torch.tensor([[1, 2, 1, 3, 1, 1]] * 2, dtype=torch.int32)
    tokens = BlockTokens(x, sizes, torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4]] * 2))
    seen = []

    def attention(x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        seen.append(sizes)
        return x, keys

    got = host(tokens, reducer, 1, 1, attention=attention, mlp=lambda x: x)
    expected = reducer.merge(BlockTokens(2 * x, sizes, tokens.sources), keys.mean(dim=1), 1, 1)
    assert torch.equal(got.x, 2 * expected.x)
    for value, reference in zip(got[1:], expected[1:], strict=True):
        assert value is not None
        assert reference is not None
        assert torch.equal(value, reference)
    assert seen[0] is (sizes if proportional else None)


def test_a_block_without_a_reducer_is_attention_and_mlp() -> None:
    x, sizes = torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.int32)

    def attention(x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        assert sizes is None
        return x, x[:, None]

    got = host(BlockTokens(x, sizes, None), None, 0, 1, attention=attention, mlp=lambda x: x)
    assert torch.equal(got.x, 4 * x)
    assert got.sizes is sizes
    assert got.sources is None
