"""RWKV-7 "Goose" (Peng et al., 2025): time and channel mixer, with the author's parameter names.

Legend: B rows, S sequences, T positions, D width, H heads, K channels per head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer_plugins.rwkv.fused import squared_relu, token_shift, without_autocast
from composer_plugins.rwkv.linear import Linear
from composer_plugins.rwkv.model import GROUP_NORM_EPS, RWKV
from composer_plugins.rwkv.sequences import Sequences
from composer_plugins.rwkv.sizes import RWKV7Sizes
from composer_plugins.rwkv.wkv7 import wkv7

STRONGEST_LOG_DECAY = -math.exp(-0.5)
"""Lower bound of log decays: the author's decay exp(-exp(-softplus(-y) - 0.5)) is exp(-sigmoid(y) / sqrt(e))."""


class TimeMix(nn.Module):
    """Linear recurrence with a generalized delta rule: it decays the state and replaces the value of a key.

    The low-rank networks w, a, v and g compute the decay, the in-context learning rate, the weight of the first block's
    value (not in the first block itself) and the gate.
    """

    def __init__(self, sizes: RWKV7Sizes, layer: int) -> None:
        super().__init__()
        D = sizes.width
        self.heads = sizes.heads
        self.x_r = nn.Parameter(torch.empty(1, 1, D))
        self.x_w = nn.Parameter(torch.empty(1, 1, D))
        self.x_k = nn.Parameter(torch.empty(1, 1, D))
        self.x_v = nn.Parameter(torch.empty(1, 1, D))
        self.x_a = nn.Parameter(torch.empty(1, 1, D))
        self.x_g = nn.Parameter(torch.empty(1, 1, D))
        self.w0 = nn.Parameter(torch.empty(1, 1, D))
        self.w1 = nn.Parameter(torch.empty(D, sizes.decay_rank))
        self.w2 = nn.Parameter(torch.empty(sizes.decay_rank, D))
        self.a0 = nn.Parameter(torch.empty(1, 1, D))
        self.a1 = nn.Parameter(torch.empty(D, sizes.rate_rank))
        self.a2 = nn.Parameter(torch.empty(sizes.rate_rank, D))
        if layer:
            self.v0 = nn.Parameter(torch.empty(1, 1, D))
            self.v1 = nn.Parameter(torch.empty(D, sizes.value_rank))
            self.v2 = nn.Parameter(torch.empty(sizes.value_rank, D))
        self.g1 = nn.Parameter(torch.empty(D, sizes.gate_rank))
        self.g2 = nn.Parameter(torch.empty(sizes.gate_rank, D))
        self.k_k = nn.Parameter(torch.empty(1, 1, D))
        self.k_a = nn.Parameter(torch.empty(1, 1, D))
        self.r_k = nn.Parameter(torch.empty(sizes.heads, sizes.head))
        self.receptance = Linear(D, D)
        self.key = Linear(D, D)
        self.value = Linear(D, D)
        self.output = Linear(D, D)
        self.ln_x = nn.GroupNorm(sizes.heads, D, eps=GROUP_NORM_EPS)

    def forward(
        self, x: Tensor, value0: Tensor | None, sequences: Sequences, shift: Tensor, wkv: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the mixer (see `composer_plugins.rwkv.model`); the first block returns its value as `value0`."""
        B, T, D = x.shape
        delta = sequences.delta(x, shift)
        r, w, k, v, a, g = token_shift(x, delta, self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        log_w = STRONGEST_LOG_DECAY * torch.sigmoid((self.w0 + torch.tanh(w @ self.w1) @ self.w2).float())
        rate = torch.sigmoid(self.a0 + a @ self.a1 @ self.a2)
        g = torch.sigmoid(g @ self.g1) @ self.g2
        r, k, value = self.receptance(r), self.key(k), self.value(v)
        if value0 is None:
            v = value0 = value
        else:
            share = torch.sigmoid(self.v0 + v @ self.v1 @ self.v2)
            v = torch.lerp(value, value0, share.to(value.dtype))  # under autocast the share is fp32, the values bf16
        removal = F.normalize((k * self.k_k).view(B, T, self.heads, -1), dim=-1)
        k = k * (1 + (rate - 1) * self.k_a)
        if sequences.mask is not None:
            # Padding neither adds to the state, nor replaces in it, nor decays it.
            v, rate, log_w = v * sequences.mask, rate * sequences.mask, log_w * sequences.mask
        r, k, v, rate, log_w = (part.view(B, T, self.heads, -1) for part in (r, k, v, rate, log_w))
        out, wkv = wkv7(
            r, log_w, k, v, -removal, removal * rate, wkv, sequences.cu_seqlens, strongest=STRONGEST_LOG_DECAY
        )
        normed = self.ln_x(out.reshape(B * T, D)).view(B, T, D)
        bonus = (r * k * self.r_k).sum(dim=-1, keepdim=True) * v
        return self.output((normed + bonus.view(B, T, D)) * g), value0, wkv

    def step(self, x: Tensor, value0: Tensor | None, shift: Tensor, wkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run one position without gradients, with few operations. x: [B, D]."""
        B, D = x.shape
        H = self.heads
        amounts = torch.cat((self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)).to(x.dtype)
        r, w, k, v, a, g = torch.addcmul(x, shift - x, amounts).unbind(0)
        w, rate = torch.mm(w, self.w1).tanh_(), torch.mm(a, self.a1)
        g = torch.mm(torch.mm(g, self.g1).sigmoid_(), self.g2)
        r, k, value = self.receptance(r), self.key(k), self.value(v)
        if value0 is None:
            v = value0 = value
        else:
            share = torch.addmm(self.v0.view(D), torch.mm(v, self.v1), self.v2).sigmoid_()
            v = torch.lerp(value, value0, share)
        with without_autocast(x):
            w = torch.addmm(self.w0.view(D), w.to(self.w2.dtype), self.w2)
            decay = w.float().sigmoid_().mul_(STRONGEST_LOG_DECAY).exp_().view(B * H, -1, 1)
            rate = torch.addmm(self.a0.view(D), rate.to(self.a2.dtype), self.a2).sigmoid_()
            removal = (k * self.k_k.view(D)).float().view(B * H, 1, -1)
            removal /= torch.linalg.vector_norm(removal, dim=-1, keepdim=True).clamp_min_(1e-12)
            k = torch.addcmul(k, k * self.k_a.view(D), rate - 1).float().view(B * H, -1, 1)
            r, v, rate = r.float().view(B * H, 1, -1), v.float().view(B * H, 1, -1), rate.float().view(B * H, 1, -1)
            old = wkv.view(B * H, *wkv.shape[2:])
            replaced = rate.mul_(removal).mT
            new = (decay * old).addcmul_(k, v).addcmul_(replaced, torch.bmm(removal, old), value=-1)
            out = torch.bmm(r, new)
            bonus = torch.bmm((r.view(B, H, -1) * self.r_k).view_as(r), k)
            normed = self.ln_x(out.view(B, D).to(x.dtype)).float()
            out = normed.view_as(v).addcmul_(bonus, v).view(B, D).to(x.dtype)
        return self.output(out.mul_(g)), value0, new.view_as(wkv)


class ChannelMix(nn.Module):
    """Feed-forward network with squared ReLU."""

    def __init__(self, sizes: RWKV7Sizes) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.key = Linear(sizes.width, sizes.ffn)
        self.value = Linear(sizes.ffn, sizes.width)

    def forward(self, x: Tensor, sequences: Sequences, shift: Tensor) -> Tensor:
        (k,) = token_shift(x, sequences.delta(x, shift), self.x_k)
        return self.value(squared_relu(self.key(k)))

    def step(self, x: Tensor, shift: Tensor) -> Tensor:
        """Run one position without gradients. x: [B, D]."""
        return self.value(self.key(torch.addcmul(x, shift - x, self.x_k.view(-1))).relu_().square_())


class RWKV7(RWKV):
    """RWKV-7 with uninitialized parameters."""

    time_mix, channel_mix = TimeMix, ChannelMix
