"""The wkv operators next to causal attention on inputs of the same shape, and the encoder's attention that weighs keys
by size in both of its forms: forward, and forward with backward."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from benchmarks.gpu.context import Context
from benchmarks.gpu.timing import free, seconds
from composer.blocks import proportional_attention
from composer_plugins.rwkv.kernels import WKV7_LOWER_BOUND
from composer_plugins.rwkv.wkv6 import wkv6
from composer_plugins.rwkv.wkv7 import wkv7

HEAD = 64
Operator = Callable[..., Tensor]


def run(context: Context) -> None:
    lengths, heads = ((64,), 1) if context.tiny else ((1_024, 4_096, 16_384, 65_536), 32)
    for length in lengths:
        for name, (operator, inputs) in _operators(heads, length, context).items():
            figure = f"{name}, {length:,} positions"
            if context.wants(figure, 5):
                context.attempt(figure, lambda f=figure, o=operator, i=inputs: _measure(context, f, o, i, heads))
        free(context.device)

    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    frames, tokens = (1, 16) if context.tiny else (64, 576)
    qkv = list(torch.randn(3, frames, 16, tokens, HEAD, device=context.device).to(dtype))
    sizes = torch.randint(1, 9, (frames, tokens), device=context.device)
    for form, attention in (("folded", proportional_attention), ("bias", _biased)):
        figure = f"attention with sizes, {form}, {frames} frames of {tokens} tokens"
        if context.wants(figure, 5):
            operator = partial(attention, sizes=sizes)
            context.attempt(figure, lambda f=figure, o=operator: _measure(context, f, o, qkv, heads=16))


def _biased(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> Tensor:
    """`proportional_attention` with log sizes as a bias, which FlashAttention does not take."""
    return scaled_dot_product_attention(q, k, v, attn_mask=sizes.log()[:, None, None, :].to(q.dtype))


def _measure(context: Context, figure: str, operator: Operator, inputs: list[Tensor], heads: int) -> None:
    def forward() -> None:
        with torch.no_grad():
            operator(*inputs)

    def both() -> None:
        operator(*(x.detach().requires_grad_() for x in inputs)).float().sum().backward()

    least = 0.05 if context.tiny else 0.3
    for name, run in ((figure, forward), (f"{figure}: forward and backward", both)):
        context.add(name, 1e3 * seconds(run, context.device, least=least), "ms", note=f"{heads} heads of 64")


def _operators(heads: int, length: int, context: Context) -> dict[str, tuple[Operator, list[Tensor]]]:
    """Return the operators with inputs [1, T, heads, 64], in bf16 on a GPU, where attention is FlashAttention."""
    dtype, device = torch.bfloat16 if context.on_gpu else torch.float32, context.device
    r, k, v, key = torch.randn(4, 1, length, heads, HEAD, device=device).to(dtype)
    key = normalize(key, dim=-1)
    noise = torch.rand(1, length, heads, HEAD, device=device)
    u = torch.randn(heads, HEAD, device=device)
    return {
        "wkv6": (lambda *x: wkv6(*x, None)[0], [r, k, v, -torch.exp(noise - 3), u]),
        "wkv7": (lambda *x: wkv7(*x, None)[0], [r, WKV7_LOWER_BOUND * noise, k, v, -key, key * noise.to(dtype)]),
        "attention": (
            lambda *x: scaled_dot_product_attention(*(y.transpose(1, 2) for y in x), is_causal=True),
            [r, k, v],
        ),
    }
