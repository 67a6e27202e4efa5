"""Sizes that determine the shapes of all parameters of an RWKV model."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Sizes of all versions.

    Attributes:
        vocab: Rows of embedding and head.
        width: Channels per position.
        depth: Number of blocks.
        head: Channels per head.
        ffn: Hidden channels of the channel mixer.
    """

    vocab: int
    width: int
    depth: int
    head: int
    ffn: int

    @property
    def heads(self) -> int:
        return self.width // self.head

    def options(self) -> dict[str, int]:
        """Return the component's options for these sizes; the vocabulary comes from the tokenizer."""
        names = {"head": "head_size", "ffn": "ffn_width"}
        return {names.get(name, name): size for name, size in asdict(self).items() if name != "vocab"}


@dataclass(frozen=True)
class RWKV6Sizes(Sizes):
    """Sizes of RWKV-6, with the ranks of the data-dependent token shift (mix) and decay."""

    mix_rank: int
    decay_rank: int

    @classmethod
    def of_width(
        cls,
        *,
        vocab: int,
        width: int,
        depth: int,
        head: int,
        ffn: int | None = None,
        mix_rank: int | None = None,
        decay_rank: int | None = None,
    ) -> Self:
        """Create sizes for a width.

        The author's ranks are 32 and 64, or 64 and 128 from 4,096 channels; ranks are smaller below 256 channels.
        """
        rank = 64 if width >= 4096 else max(4, min(32, width // 8))
        ffn = ffn or max(32, int(3.5 * width) // 32 * 32)
        return cls(vocab, width, depth, head, ffn, mix_rank or rank, decay_rank or 2 * rank)

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> Self:
        """Read the sizes from weights in the author's layout."""
        return cls(
            vocab=weights["emb.weight"].shape[0],
            width=weights["emb.weight"].shape[1],
            depth=_depth(weights),
            head=weights["blocks.0.att.time_faaaa"].shape[-1],
            ffn=weights["blocks.0.ffn.key.weight"].shape[0],
            mix_rank=weights["blocks.0.att.time_maa_w2"].shape[1],
            decay_rank=weights["blocks.0.att.time_decay_w1"].shape[1],
        )


@dataclass(frozen=True)
class RWKV7Sizes(Sizes):
    """Sizes of RWKV-7, with ranks of the decay (w), in-context learning rate (a), value residual (v) and gate (g)."""

    decay_rank: int
    rate_rank: int
    value_rank: int
    gate_rank: int

    @classmethod
    def of_width(
        cls,
        *,
        vocab: int,
        width: int,
        depth: int,
        head: int,
        ffn: int | None = None,
        decay_rank: int | None = None,
        rate_rank: int | None = None,
        value_rank: int | None = None,
        gate_rank: int | None = None,
    ) -> Self:
        """Create sizes for a width.

        Ranks are those of published models (BlinkDL/RWKV-LM, RWKV-v7): 1.8, 1.8, 1.3 sqrt(width) and 0.6 width^0.8.
        """

        def rank(of: float) -> int:
            # Multiples of 32 from 256 channels; for smaller models that would be too large.
            step = 32 if width >= 256 else 4
            return max(step, round(of / step) * step)

        return cls(
            vocab,
            width,
            depth,
            head,
            ffn or 4 * width,
            decay_rank or rank(1.8 * math.sqrt(width)),
            rate_rank or rank(1.8 * math.sqrt(width)),
            value_rank or rank(1.3 * math.sqrt(width)),
            gate_rank or rank(0.6 * width**0.8),
        )

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> Self:
        """Read the sizes from weights in the author's layout."""
        # The first block has no value residual; some files contain its unused parameters.
        deep = next((name for name in weights if name.endswith(".att.v1")), None)
        return cls(
            vocab=weights["emb.weight"].shape[0],
            width=weights["emb.weight"].shape[1],
            depth=_depth(weights),
            head=weights["blocks.0.att.r_k"].shape[-1],
            ffn=weights["blocks.0.ffn.key.weight"].shape[0],
            decay_rank=weights["blocks.0.att.w1"].shape[1],
            rate_rank=weights["blocks.0.att.a1"].shape[1],
            value_rank=weights[deep].shape[1] if deep else 1,
            gate_rank=weights["blocks.0.att.g1"].shape[1],
        )


def _depth(weights: Mapping[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
