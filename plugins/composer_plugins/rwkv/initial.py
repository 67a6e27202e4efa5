"""The author's initialisation of RWKV-6 (x060 of BlinkDL/RWKV-LM)."""

import math

import torch
from torch import nn

from composer_plugins.rwkv.rwkv6 import RWKV6, Block, Sizes


@torch.no_grad()
def initialise(model: RWKV6, sizes: Sizes) -> None:
    """Every block starts as the identity, with decays and token shifts as ramps over the channels."""
    D = sizes.width
    ramp = torch.arange(D) / D
    place = torch.arange(D) / max(D - 1, 1)
    zigzag = ((torch.arange(D) + 1) % 3 - 1) * 0.1
    nn.init.uniform_(model.emb.weight, -1e-4, 1e-4)
    nn.init.orthogonal_(model.head.weight, gain=0.5 * max(1.0, math.sqrt(sizes.vocab / D)))
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        deep = layer / max(sizes.depth - 1, 1)
        shallow = 1 - layer / sizes.depth
        att, ffn = block.att, block.ffn
        for maa in (att.time_maa_x, att.time_maa_w, att.time_maa_k, ffn.time_maa_k, ffn.time_maa_r):
            maa.copy_((1 - ramp**shallow).expand_as(maa))
        att.time_maa_v.copy_((1 - ramp**shallow - 0.3 * deep).expand_as(att.time_maa_v))
        for maa in (att.time_maa_r, att.time_maa_g):
            maa.copy_((1 - ramp ** (0.5 * shallow)).expand_as(maa))
        for w1, w2 in ((att.time_maa_w1, att.time_maa_w2), (att.time_decay_w1, att.time_decay_w2)):
            nn.init.zeros_(w1)
            nn.init.uniform_(w2, -0.01, 0.01)
        att.time_decay.copy_((-6 + 5 * place ** (0.7 + 1.3 * deep)).expand_as(att.time_decay))
        att.time_faaaa.copy_((deep * (1 - place) + zigzag).view_as(att.time_faaaa))
        nn.init.constant_(att.ln_x.weight, ((1 + layer) / sizes.depth) ** 0.7)
        for linear, gain in ((att.receptance, 1.0), (att.key, 0.1), (att.value, 1.0), (att.gate, 0.1), (ffn.key, 1.0)):
            nn.init.orthogonal_(linear.weight, gain=gain)
        for zero in (att.output, ffn.value, ffn.receptance):
            nn.init.zeros_(zero.weight)
