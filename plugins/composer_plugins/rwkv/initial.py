"""The author's initialization (BlinkDL/RWKV-LM: x060 and x070). Every block starts as the identity.

Decays and token shifts are ramps over channels that depend on the layer; the output of each mixer is zero.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from composer_plugins.rwkv.model import RWKV
from composer_plugins.rwkv.sizes import RWKV6Sizes, Sizes


@torch.no_grad()
def initialize(model: RWKV, sizes: Sizes) -> None:
    """Initialize the parameters of a model with these sizes."""
    if isinstance(sizes, RWKV6Sizes):
        _rwkv6(model, sizes)
    else:
        _rwkv7(model, sizes)
    nn.init.uniform_(model.emb.weight, -1e-4, 1e-4)
    _orthogonal(model.head.weight, gain=0.5 * max(1.0, math.sqrt(sizes.vocab / sizes.width)))
    for layer, att, ffn in _mixers(model):
        nn.init.constant_(att.ln_x.weight, ((1 + layer) / sizes.depth) ** 0.7)
        for linear, gain in ((att.receptance, 1.0), (att.key, 0.1), (att.value, 1.0), (ffn.key, 1.0)):
            _orthogonal(linear.weight, gain=gain)
        for zero in (att.output, ffn.value):
            nn.init.zeros_(zero.weight)


def _rwkv6(model: RWKV, sizes: RWKV6Sizes) -> None:
    D = sizes.width
    place, ramp = _channels(D) / max(D - 1, 1), _channels(D) / D
    zigzag = ((_channels(D) + 1) % 3 - 1) * 0.1
    for layer, att, ffn in _mixers(model):
        deep, shallow = _depths(layer, sizes)
        for maa in (att.time_maa_x, att.time_maa_w, att.time_maa_k, ffn.time_maa_k, ffn.time_maa_r):
            _fill(maa, 1 - ramp**shallow)
        _fill(att.time_maa_v, 1 - ramp**shallow - 0.3 * deep)
        for maa in (att.time_maa_r, att.time_maa_g):
            _fill(maa, 1 - ramp ** (0.5 * shallow))
        for w1, w2 in ((att.time_maa_w1, att.time_maa_w2), (att.time_decay_w1, att.time_decay_w2)):
            nn.init.zeros_(w1)
            nn.init.uniform_(w2, -0.01, 0.01)
        _fill(att.time_decay, -6 + 5 * place ** (0.7 + 1.3 * deep))
        _fill(att.time_faaaa, deep * (1 - place) + zigzag)
        _orthogonal(att.gate.weight, gain=0.1)
        nn.init.zeros_(ffn.receptance.weight)


def _rwkv7(model: RWKV, sizes: Sizes) -> None:
    D, K = sizes.width, sizes.head
    place, ramp = _channels(D) / max(D - 1, 1), _channels(D) / D
    centered = place - 0.5
    middle = max((K - 1) / 2, 0.5)
    zigzag = (_channels(D) % K - (K - 1) / 2) / middle
    zigzag = zigzag * zigzag.abs()
    for layer, att, ffn in _mixers(model):
        deep, shallow = _depths(layer, sizes)
        for name, power in {"x_r": 0.2, "x_w": 0.9, "x_k": 0.7, "x_v": 0.7, "x_a": 0.9, "x_g": 0.2}.items():
            _fill(getattr(att, name), 1 - ramp ** (power * shallow))
        _fill(ffn.x_k, 1 - ramp ** (shallow**4))
        _fill(att.w0, -5.5 + 6 * place ** (1 + deep**0.3) + 2.5 * zigzag)
        _fill(att.a0, -0.19 + 0.3 * zigzag + 0.4 * centered)
        _fill(att.k_k, 0.71 - 0.1 * centered)
        nn.init.constant_(att.k_a, 1.02)
        nn.init.constant_(att.r_k, -0.04)
        if layer:
            _fill(att.v0, 0.73 - 0.4 * centered)
        for name in "wavg" if layer else "wag":
            second = getattr(att, f"{name}2")
            nn.init.zeros_(getattr(att, f"{name}1"))
            _orthogonal(second, gain=0.1 * max(1.0, math.sqrt(second.shape[0] / second.shape[1])))


def _mixers(model: RWKV) -> Iterator[tuple[int, Any, Any]]:
    """Yield index, time mixer and channel mixer of each layer."""
    for layer, block in enumerate(model.blocks):
        yield layer, block.att, block.ffn


def _depths(layer: int, sizes: Sizes) -> tuple[float, float]:
    """Relative depth of a layer: from 0 (first) to 1 (last), and from 1 (first) to almost 0."""
    return layer / max(sizes.depth - 1, 1), 1 - layer / sizes.depth


def _channels(count: int) -> Tensor:
    """Channel indices 0, 1, ... in fp32, even if the default dtype is bf16, which cannot count to 257."""
    return torch.arange(count, dtype=torch.float32)


def _orthogonal(parameter: Tensor, gain: float = 1.0) -> None:
    """Initialize in fp32: there is no QR decomposition in bf16."""
    parameter.copy_(nn.init.orthogonal_(torch.empty_like(parameter, dtype=torch.float32), gain))


def _fill(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values.view_as(parameter))
