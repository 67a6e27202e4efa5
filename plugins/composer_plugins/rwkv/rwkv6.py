"""RWKV-6 "Finch" (Peng et al., "Eagle and Finch", 2024): time and channel mixer, with the author's parameter names.

Legend: B rows, S sequences, T positions, D width, H heads, K channels per head, R rank of the token shift.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer_plugins.rwkv.fused import squared_relu, token_shift, without_autocast
from composer_plugins.rwkv.linear import Linear
from composer_plugins.rwkv.model import GROUP_NORM_EPS, RWKV
from composer_plugins.rwkv.sequences import Sequences
from composer_plugins.rwkv.sizes import RWKV6Sizes
from composer_plugins.rwkv.wkv6 import wkv6


class TimeMix(nn.Module):
    """Linear recurrence with data-dependent decay and token shift."""

    def __init__(self, sizes: RWKV6Sizes, layer: int) -> None:
        super().__init__()
        D = sizes.width
        self.heads = sizes.heads
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
        self.time_faaaa = nn.Parameter(torch.empty(sizes.heads, sizes.head))
        self.receptance = Linear(D, D)
        self.key = Linear(D, D)
        self.value = Linear(D, D)
        self.output = Linear(D, D)
        self.gate = Linear(D, D)
        self.ln_x = nn.GroupNorm(sizes.heads, D, eps=GROUP_NORM_EPS)

    def forward(
        self, x: Tensor, value0: Tensor | None, sequences: Sequences, shift: Tensor, wkv: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Run the mixer, as described in `composer_plugins.rwkv.model`; `value0` is returned unchanged."""
        B, T, D = x.shape
        w, k, v, r, g = self._mix(x, sequences.delta(x, shift))
        log_w = -torch.exp((self.time_decay + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2).float())
        r, k, v, g = self.receptance(r), self.key(k), self.value(v), F.silu(self.gate(g))
        if sequences.mask is not None:
            # Padding neither adds to the state nor decays it.
            v, log_w = v * sequences.mask, log_w * sequences.mask
        r, k, v, log_w = (part.view(B, T, self.heads, -1) for part in (r, k, v, log_w))
        out, wkv = wkv6(r, k, v, log_w, self.time_faaaa, wkv, sequences.cu_seqlens)
        return self.output(self.ln_x(out.reshape(B * T, D)).view(B, T, D) * g), value0, wkv

    def step(
        self, x: Tensor, value0: Tensor | None, shift: Tensor, wkv: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Run one position without gradients, with few operations. x: [B, D]."""
        B, D = x.shape
        H = self.heads
        delta = shift - x
        low = torch.mm(torch.addcmul(x, delta, self.time_maa_x.view(D)), self.time_maa_w1).tanh_()
        biases = torch.cat((self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g))
        amounts = torch.baddbmm(biases.to(x.dtype), low.view(B, 5, -1).transpose(0, 1), self.time_maa_w2)
        w, k, v, r, g = torch.addcmul(x, delta, amounts).unbind(0)
        low = torch.mm(w, self.time_decay_w1).tanh_()
        r, k, v = self.receptance(r), self.key(k), self.value(v)
        with without_autocast(x):
            w = torch.addmm(self.time_decay.view(D), low.to(self.time_decay_w2.dtype), self.time_decay_w2)
            decay = w.float().exp_().neg_().exp_().view(B * H, -1, 1)
            r, k, v = r.float().view(B * H, 1, -1), k.float().view(B * H, -1, 1), v.float().view(B * H, 1, -1)
            old, new = wkv.view(B * H, *wkv.shape[2:]), torch.bmm(k, v)
            bonus = (r * k.view_as(r)).view(B, H, -1).mul_(self.time_faaaa).sum(dim=-1).view(B * H, 1, 1)
            out = torch.baddbmm(bonus * v, r, old)
            wkv = new.addcmul_(decay, old).view_as(wkv)
        out = self.ln_x(out.view(B, D).to(x.dtype)).mul_(F.silu(self.gate(g)))
        return self.output(out), value0, wkv

    def _mix(self, x: Tensor, delta: Tensor) -> tuple[Tensor, ...]:
        """Inputs of w, k, v, r and g: data-dependent mixes of each position with the previous one."""
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
    """Feed-forward network with squared ReLU, gated by the receptance."""

    def __init__(self, sizes: RWKV6Sizes) -> None:
        super().__init__()
        D = sizes.width
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, D))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, D))
        self.key = Linear(D, sizes.ffn)
        self.receptance = Linear(D, D)
        self.value = Linear(sizes.ffn, D)

    def forward(self, x: Tensor, sequences: Sequences, shift: Tensor) -> Tensor:
        k, r = token_shift(x, sequences.delta(x, shift), self.time_maa_k, self.time_maa_r)
        return self.receptance(r).sigmoid_() * self.value(squared_relu(self.key(k)))

    def step(self, x: Tensor, shift: Tensor) -> Tensor:
        """Run one position without gradients. x: [B, D]."""
        delta = shift - x
        k = self.key(torch.addcmul(x, delta, self.time_maa_k.view(-1))).relu_()
        r = self.receptance(torch.addcmul(x, delta, self.time_maa_r.view(-1))).sigmoid_()
        return self.value(k.square_()).mul_(r)


class RWKV6(RWKV):
    """RWKV-6 with uninitialized parameters."""

    time_mix, channel_mix = TimeMix, ChannelMix
