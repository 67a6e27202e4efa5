"""Token merging (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023), as AuroraLong uses it.

Legend: F frames, N tokens of a frame, P patches, C channels of a key, A and B the two halves of the tokens.
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
    """Merges similar tokens between attention and MLP of every block, then orders what is left.

    Tokens that leave a block: the unmerged tokens of A (even places), most similar to their partner first, then all
    tokens of B (odd places) in their order. Nothing restores the raster order, so the next block's halves are again a
    mix. `order` sorts the tokens after the last block only: by size, the smallest (ascending) or largest first; by the
    first patch of each token (raster); or not at all (none).

    How many merge in each block, never more than half of its tokens:
    - keep_ratio: floor((1 - keep_ratio) * patches / blocks), eq. 2 of AuroraLong's supplement, in exact arithmetic;
    - r: that many;
    - target_tokens: the surplus shared out evenly, the remainder one each to the first blocks, where a merge saves
      most; a block takes more than its share where the later ones, halving at best, could not reach the target.
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
        # (1 - 0.9) * 400 / 4 is 9.99... in floating point and 10 on paper.
        self.merged_share = None if keep_ratio is None else (1 - Fraction(str(keep_ratio))).as_integer_ratio()
        self.r, self.target_tokens, self.order = r, target_tokens, order
        self.proportional, self.needs_sources = proportional, order == "raster"

    def schedule(self, patches: int) -> tuple[int, ...]:
        merges = []
        left = patches
        for block in range(self.depth):
            wanted = self._wanted(patches, left, self.depth - block)
            merges.append(min(wanted, left // 2))
            left -= merges[-1]
        return tuple(merges)

    def shape(self, tokens: TokenShape) -> TokenShape:
        after = super().shape(tokens)
        asked = self.target_tokens
        if asked is None:
            asked = tokens.count - self.depth * self._wanted(tokens.count, tokens.count, self.depth)
        if after.count > asked:
            _report_clamp(tokens.count, after.count, self.depth)
        return after

    def plan(self, metric: Tensor, r: int) -> Tensor:
        """Bipartite soft matching: A and B are the tokens at even and odd places; each token of A draws an edge to
        the most similar one of B (cosine; the first of equals); the r best edges (the first of equals) merge.

        [F, N, C] -> [F, N] int64. Matched in fp32 whatever the autocast: in bf16 most similarities tie.
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

    def _wanted(self, patches: int, left: int, blocks: int) -> int:
        """Merges asked of a block that gets `left` of a frame's tokens and is followed by `blocks - 1` more."""
        if self.r is not None:
            return self.r
        if self.target_tokens is not None:
            share = -(-(left - self.target_tokens) // blocks)
            return max(share, left - self.target_tokens * 2 ** (blocks - 1), 0)
        assert self.merged_share is not None
        part, whole = self.merged_share
        return part * patches // (whole * self.depth)


def _permute(tokens: VisualTokens, order: Tensor) -> VisualTokens:
    """Token order[f, i] of frame f in place i."""
    features = tokens.features.gather(1, order[..., None].expand_as(tokens.features))
    sources = tokens.sources
    if sources is not None:
        sources = torch.empty_like(order).scatter_(1, order, _places(order)).gather(1, sources)
    return VisualTokens(features, tokens.sizes.gather(1, order), sources, tokens.grid, tokens.clip, tokens.time)


def _places(like: Tensor) -> Tensor:
    """0, 1, ... along each row, of the shape of `like` [F, N]."""
    return torch.arange(like.shape[1], device=like.device).expand(like.shape)


@cache
def _report_clamp(patches: int, kept: int, depth: int) -> None:
    """Said once for each shape: a frame keeps more tokens than was asked for."""
    log.warning(
        "tome: no block can merge more than half of its tokens, so a frame of %d patches keeps %d tokens after %d "
        "blocks, more than was asked for",
        patches,
        kept,
        depth,
    )
