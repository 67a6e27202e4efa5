"""Token merging (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023), as used in AuroraLong.

Legend: F frames, N tokens per frame, P patches, C channels per key, A and B the two halves of the tokens.
"""

import logging
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor, nn

from composer.parts import BlockReducer, TokenShape, VisualTokens
from composer_plugins.tome import Order

log = logging.getLogger(__name__)


class Tome(BlockReducer):
    """Merges similar tokens between attention and MLP of every block, and sorts the tokens after the last block.

    The output of a block is first the unmerged tokens of A (even positions), those most similar to their partner first,
    then all tokens of B (odd positions) in their order. The raster order is not restored, so the halves of the next
    block are mixed. `order` sorts the tokens after the last block: by size, the smallest (ascending) or largest first;
    by the first patch of each token (raster); or not at all (none).

    Number of merges in each block, at most half of its tokens:
    - keep_ratio: floor((1 - keep_ratio) * patches / blocks), eq. 2 of AuroraLong's supplement, in exact arithmetic;
    - r: r;
    - target_tokens: equal shares, with the remainder in the first blocks, where merging saves the most; a block merges
      more than its share if the later blocks, which can at most halve the tokens, could not reach the target.
    """

    def __init__(
        self,
        *,
        keep_ratio: float | None,
        r: int | None,
        target_tokens: int | None,
        order: Order,
        proportional: bool,
        dim: int,
        depth: int,
    ) -> None:
        super().__init__(dim=dim, depth=depth)
        # (1 - 0.9) * 400 / 4 is 9.99... in floating point instead of 10.
        self.merged_share = None if keep_ratio is None else (1 - Fraction(str(keep_ratio))).as_integer_ratio()
        self.r, self.target_tokens, self.order = r, target_tokens, order
        self.proportional, self.needs_sources = proportional, order == "raster"

    def schedule(self, patches: int) -> tuple[int, ...]:
        merges = []
        tokens = patches
        for block in range(self.depth):
            target = self._target(patches, tokens, self.depth - block)
            merges.append(min(target, tokens // 2))
            tokens -= merges[-1]
        return tuple(merges)

    def shape(self, tokens: TokenShape) -> TokenShape:
        after = super().shape(tokens)
        target = self.target_tokens
        if target is None:
            target = tokens.count - self.depth * self._target(tokens.count, tokens.count, self.depth)
        if after.count > target:
            _report_clamp(tokens.count, after.count, self.depth)
        return after

    def plan(self, metric: Tensor, r: int) -> Tensor:
        """Match tokens by bipartite soft matching.

        A and B are the tokens at even and odd positions. Each token of A has an edge to the most similar token of B
        (cosine similarity); the r edges with the highest similarity merge. In ties the first one wins. Computed in fp32
        even under autocast: in bf16 most similarities are equal.

        Args:
            metric: Keys [F, N, C].
            r: Number of merges.

        Returns:
            Index of the output token of each token, [F, N] int64.
        """
        with torch.no_grad(), torch.autocast(metric.device.type, enabled=False):
            a, b = (nn.functional.normalize(metric[:, half::2].detach().float(), dim=-1) for half in (0, 1))
            best, partner = (a @ b.transpose(1, 2)).max(dim=-1)  # [F, A]
            ranked = best.sort(dim=-1, descending=True, stable=True).indices
            rank = torch.empty_like(ranked).scatter_(1, ranked, _places(ranked))
            unmerged = a.shape[1] - r
            target = torch.empty(metric.shape[:2], dtype=torch.int64, device=metric.device)
            target[:, ::2] = torch.where(rank < r, unmerged + partner, rank - r)
            target[:, 1::2] = unmerged + _places(target[:, 1::2])
            return target

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        if self.order == "none":
            return tokens
        if self.order == "raster":
            assert tokens.sources is not None
            first = torch.full_like(tokens.sources, tokens.sources.shape[1])[:, : tokens.sizes.shape[1]]
            keys = first.scatter_reduce(1, tokens.sources, _places(tokens.sources), "amin")
        else:
            keys = tokens.sizes
        order = keys.sort(dim=1, descending=self.order == "descending", stable=True).indices
        return _permute(tokens, order)

    def _target(self, patches: int, tokens: int, blocks: int) -> int:
        """Merges to do in a block with `tokens` tokens per frame that is followed by `blocks - 1` more."""
        if self.r is not None:
            return self.r
        if self.target_tokens is not None:
            share = -(-(tokens - self.target_tokens) // blocks)
            return max(share, tokens - self.target_tokens * 2 ** (blocks - 1), 0)
        assert self.merged_share is not None
        numerator, denominator = self.merged_share
        return numerator * patches // (denominator * self.depth)


def _permute(tokens: VisualTokens, order: Tensor) -> VisualTokens:
    """Move token order[f, i] of frame f to position i."""
    features = tokens.features.gather(1, order[..., None].expand_as(tokens.features))
    sources = tokens.sources
    if sources is not None:
        sources = torch.empty_like(order).scatter_(1, order, _places(order)).gather(1, sources)
    return VisualTokens(features, tokens.sizes.gather(1, order), sources, tokens.grid, tokens.clip, tokens.time)


def _places(like: Tensor) -> Tensor:
    """Positions 0, 1, ... in each row, with the shape of `like` [F, N]."""
    return torch.arange(like.shape[1], device=like.device).expand(like.shape)


@cache
def _report_clamp(patches: int, kept: int, depth: int) -> None:
    """Warn, once per shape, that frames keep more tokens than requested."""
    log.warning(
        "tome: no block can merge more than half of its tokens, so a frame of %d patches keeps %d tokens after %d "
        "blocks, more than requested",
        patches,
        kept,
        depth,
    )
