"""RWKV-6 "Finch" (Peng et al., 2024) with the author's parameter names, so that official files load without a map.

Legend: B rows, T positions, D width, H heads, K channels of a head, R rank of the data-dependent token shift.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer_plugins.rwkv.ops import wkv6

GROUP_NORM_EPS = 64e-5
"""The author divides by 8 before a norm with eps 1e-5; many copies of the model forget it and are off by 5e-3."""


@dataclass(frozen=True)
class Sizes:
    """What the shapes of all parameters follow from."""

    vocab: int
    width: int
    depth: int
    head: int
    ffn: int
    mix_rank: int
    decay_rank: int


class LayerState(NamedTuple):
    """What one block remembers. mixed, ffn_mixed: [B, D], the last input of each mixer; wkv: [B, H, K, K] fp32."""

    mixed: Tensor
    ffn_mixed: Tensor
    wkv: Tensor | None


class TimeMix(nn.Module):
    """Attention's place: a linear recurrence whose decay and token shift depend on the data."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        D, H = sizes.width, sizes.width // sizes.head
        self.heads = H
        for name in ("x", "w", "k", "v", "r", "g"):
            setattr(self, f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, D)))
        self.time_maa_w1 = nn.Parameter(torch.empty(D, 5 * sizes.mix_rank))
        self.time_maa_w2 = nn.Parameter(torch.empty(5, sizes.mix_rank, D))
        self.time_decay = nn.Parameter(torch.empty(1, 1, D))
        self.time_decay_w1 = nn.Parameter(torch.empty(D, sizes.decay_rank))
        self.time_decay_w2 = nn.Parameter(torch.empty(sizes.decay_rank, D))
        self.time_faaaa = nn.Parameter(torch.empty(H, sizes.head))
        self.receptance = nn.Linear(D, D, bias=False)
        self.key = nn.Linear(D, D, bias=False)
        self.value = nn.Linear(D, D, bias=False)
        self.output = nn.Linear(D, D, bias=False)
        self.gate = nn.Linear(D, D, bias=False)
        self.ln_x = nn.GroupNorm(H, D, eps=GROUP_NORM_EPS)

    def forward(self, x: Tensor, mask: Tensor | None, shift: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: [B, T, D] normed; mask: [B, T, 1] bool or None; shift: [B, D], the input before x[:, 0]."""
        B, T, D = x.shape
        delta = _previous(x, shift) - x
        w, k, v, r, g = self._mixed(x, delta)
        log_w = -torch.exp((self.time_decay + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2).float())
        r, k, v, g = self.receptance(r), self.key(k), self.value(v), F.silu(self.gate(g))
        if mask is not None:
            # Padding adds nothing to the state and lets nothing decay.
            v, log_w = v * mask, log_w * mask
        heads = (B, T, self.heads, D // self.heads)
        out, state = wkv6(r.view(heads), k.view(heads), v.view(heads), log_w.view(heads), self.time_faaaa, state)
        return self.output(self.ln_x(out.reshape(B * T, D)).view(B, T, D) * g), state

    def _mixed(self, x: Tensor, delta: Tensor) -> tuple[Tensor, ...]:
        """The inputs of w, k, v, r and g, each its own data-dependent mix of this position and the one before."""
        B, T, D = x.shape
        low = torch.tanh(torch.addcmul(x, delta, self.time_maa_x) @ self.time_maa_w1)
        low = low.view(B * T, 5, -1).transpose(0, 1)
        bias = torch.cat([self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g])
        amount = torch.baddbmm(bias, low, self.time_maa_w2).view(5, B, T, D)
        return torch.addcmul(x, delta, amount).unbind()


class ChannelMix(nn.Module):
    """The feed-forward network: squared ReLU, gated by the receptance."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        D = sizes.width
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, D))
        self.key = nn.Linear(D, sizes.ffn, bias=False)
        self.receptance = nn.Linear(D, D, bias=False)
        self.value = nn.Linear(sizes.ffn, D, bias=False)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """x: [B, T, D] normed; shift: [B, D], the input before x[:, 0]."""
        delta = _previous(x, shift) - x
        k = F.relu(self.key(torch.addcmul(x, delta, self.time_maa_k))).square()
        return torch.sigmoid(self.receptance(torch.addcmul(x, delta, self.time_maa_r))) * self.value(k)


class Block(nn.Module):
    """ln1, time mixing, ln2, channel mixing; the first block also holds the model's input norm, as official files do."""

    def __init__(self, sizes: Sizes, layer: int) -> None:
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(sizes.width)
        self.ln1 = nn.LayerNorm(sizes.width)
        self.ln2 = nn.LayerNorm(sizes.width)
        self.att = TimeMix(sizes)
        self.ffn = ChannelMix(sizes)

    def forward(self, x: Tensor, mask: Tensor | None, state: LayerState) -> tuple[Tensor, LayerState]:
        """x: [B, T, D]; mask: [B, T] bool or None. Returns the same shape, and the state after the last position."""
        mask = None if mask is None else mask[..., None]
        normed = _held(self.ln1(x), mask, state.mixed)
        mixed, wkv = self.att(normed, mask, state.mixed, state.wkv)
        x = x + mixed
        ffn_normed = _held(self.ln2(x), mask, state.ffn_mixed)
        x = x + self.ffn(ffn_normed, state.ffn_mixed)
        return x, LayerState(_last(normed, mask), _last(ffn_normed, mask), wkv)


class RWKV6(nn.Module):
    """Embedding, blocks, final norm and head: the modules of an official file."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        # nn.Embedding's own constructor fills it, which on the meta device costs seconds of imports.
        self.emb = nn.Embedding.from_pretrained(torch.empty(sizes.vocab, sizes.width), freeze=False)
        self.blocks = nn.ModuleList(Block(sizes, layer) for layer in range(sizes.depth))
        self.ln_out = nn.LayerNorm(sizes.width)
        self.head = nn.Linear(sizes.width, sizes.vocab, bias=False)

    def forward(
        self, embeds: Tensor, mask: Tensor | None, states: tuple[LayerState, ...] | None
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """embeds: [B, T, D]. Returns hidden states after the last norm, and each block's state."""
        x = self.blocks[0].ln0(embeds)
        if states is None:
            start = x.new_zeros(len(x), x.shape[-1])
            states = (LayerState(start, start, None),) * len(self.blocks)
        after = []
        for block, state in zip(self.blocks, states, strict=True):
            x, new = block(x, mask, state)
            after.append(new)
        return self.ln_out(x), tuple(after)


def _previous(x: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([shift[:, None], x[:, :-1]], dim=1)


def _held(x: Tensor, mask: Tensor | None, shift: Tensor) -> Tensor:
    """Padding repeats what came before the text, so that the first real position sees it however far left it pads."""
    return x if mask is None else torch.where(mask, x, shift[:, None])


def _last(x: Tensor, mask: Tensor | None) -> Tensor:
    """x at each row's last real position; a row without any has been filled by `_held` with what came before."""
    if mask is None:
        return x[:, -1]
    T = x.shape[1]
    place = (torch.arange(1, T + 1, device=x.device) * mask.squeeze(-1)).argmax(dim=1)
    return x[torch.arange(len(x), device=x.device), place]


@torch.no_grad()
def initialise(model: RWKV6, sizes: Sizes) -> None:
    """The author's initialisation of x060: every block starts as the identity, decays and shifts as ramps."""
    D = sizes.width
    ramp = torch.arange(D) / D
    place = torch.arange(D) / max(D - 1, 1)
    zigzag = ((torch.arange(D) + 1) % 3 - 1) * 0.1
    nn.init.uniform_(model.emb.weight, -1e-4, 1e-4)
    nn.init.orthogonal_(model.head.weight, gain=0.5 * max(1.0, math.sqrt(sizes.vocab / D)))
    for layer, block in enumerate(model.blocks):
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
        for linear in (att.output, ffn.value, ffn.receptance):
            nn.init.zeros_(linear.weight)
