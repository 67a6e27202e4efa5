"""RWKV-6 "Finch" (Peng et al., 2024) with the author's parameter names, so that official files load without a map.

Legend: B rows, T positions, D width, H heads, K channels of a head, R rank of the data-dependent token shift.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer_plugins.rwkv.fused import squared_relu, token_delta, token_shift
from composer_plugins.rwkv.wkv6 import wkv6

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
    wkv: Tensor


class TimeMix(nn.Module):
    """Attention's place: a linear recurrence whose decay and token shift depend on the data."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        D, H = sizes.width, sizes.width // sizes.head
        self.heads = H
        self.time_maa_x = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_w = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_v = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_g = nn.Parameter(torch.empty(1, 1, D))
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
        delta = token_delta(x, shift)
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
        (mixed,) = token_shift(x, delta, self.time_maa_x)
        low = torch.tanh(mixed @ self.time_maa_w1)
        biases = (self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)
        parts = low.unflatten(-1, (5, -1)).unbind(dim=-2)
        amounts = (
            torch.addmm(bias.view(-1), part.flatten(0, 1), w2).view_as(x)
            for bias, part, w2 in zip(biases, parts, self.time_maa_w2, strict=True)
        )
        return token_shift(x, delta, *amounts)


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
        delta = token_delta(x, shift)
        k, r = token_shift(x, delta, self.time_maa_k, self.time_maa_r)
        return torch.sigmoid(self.receptance(r)) * self.value(squared_relu(self.key(k)))


class Block(nn.Module):
    """Time mixing, then channel mixing; the first block also holds the model's input norm, as official files do."""

    def __init__(self, sizes: Sizes, layer: int) -> None:
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(sizes.width)
        self.ln1 = nn.LayerNorm(sizes.width)
        self.ln2 = nn.LayerNorm(sizes.width)
        self.att = TimeMix(sizes)
        self.ffn = ChannelMix(sizes)

    def forward(self, x: Tensor, mask: Tensor | None, state: LayerState | None) -> tuple[Tensor, LayerState]:
        """x: [B, T, D]; mask: [B, T] bool or None. Returns the same shape, and the state after the last position."""
        mask = None if mask is None else mask[..., None]
        nothing = x.new_zeros(x.shape[0], x.shape[2])
        shift, ffn_shift, wkv = state or (nothing, nothing, None)
        normed = _held(self.ln1(x), mask, shift)
        mixed, wkv = self.att(normed, mask, shift, wkv)
        x = x + mixed
        ffn_normed = _held(self.ln2(x), mask, ffn_shift)
        x = x + self.ffn(ffn_normed, ffn_shift)
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
        first = self.blocks[0]
        assert isinstance(first, Block)
        x, after = first.ln0(embeds), []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            x, new = block(x, mask, state)
            after.append(new)
        return self.ln_out(x), tuple(after)


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
