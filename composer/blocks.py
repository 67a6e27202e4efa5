"""Runs an encoder's blocks with a reducer inside them.

Legend: F frames of one grid, P patches per frame, N tokens per frame, D channels.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from composer.errors import ComposeError
from composer.parts import BlockReducer, BlockTokens, Grid, VisualTokens

Blocks = TypeVar("Blocks", nn.ModuleList, nn.Sequential)


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    *,
    grid: Grid,
    prefix: int = 0,
    norm: nn.Module,
    reducer: BlockReducer | None = None,
    keep_sources: bool = False,
) -> VisualTokens:
    """Run an encoder's blocks and last norm, with a reducer inside the blocks.

    Args:
        blocks: Modules that are called as `block(tokens, reducer, r, prefix) -> BlockTokens`, with r tokens to merge.
        x: [F, prefix + P, D] input of the first block.
        grid: Rows and columns of the patches.
        prefix: Number of class and register tokens at the front, which are never merged.
        norm: The last norm.
        reducer: Reducer to run in the blocks, or None.
        keep_sources: True to return `VisualTokens.sources`.

    Returns:
        The tokens after the last norm, without prefix.
    """
    frames, patches = x.shape[0], x.shape[1] - prefix
    blocks = list(blocks)
    schedule = (0,) * len(blocks) if reducer is None else reducer.schedule(patches)
    sources = None
    if keep_sources or (reducer is not None and reducer.needs_sources):
        sources = torch.arange(patches, device=x.device).expand(frames, -1)
    # The patches of a convolution are channels-first, and without merges the residual stream would keep that layout.
    tokens = BlockTokens(x.contiguous(), None, sources)
    for block, r in zip(blocks, schedule, strict=True):
        tokens = block(tokens, reducer, r, prefix)
    x, sizes, sources = tokens

    features = norm(x)[:, prefix:]
    finished = VisualTokens(
        features,
        features.new_ones(features.shape[:2], dtype=torch.float32) if sizes is None else sizes[:, prefix:].float(),
        sources,
        grid if sizes is None else None,
        torch.zeros(frames, dtype=torch.int64, device=x.device),
        torch.zeros(frames, dtype=torch.float32, device=x.device),
    )
    if reducer is not None:
        finished = reducer.finish(finished)
    if keep_sources:
        return finished
    features, sizes, _, final_grid, clip, time = finished
    # torch 2.11 cannot compile `return finished._replace(...)`.
    return VisualTokens(features, sizes, None, final_grid, clip, time)


def blocks_up_to(layer: int, blocks: Blocks) -> Blocks:
    """Keep a tower's blocks up to and including `layer`.

    Args:
        layer: Negative index from the end; -1 keeps all blocks.
        blocks: All blocks.

    Raises:
        ComposeError: If the tower has fewer blocks.
    """
    count = len(blocks)
    if -layer > count:
        raise ComposeError(f"model.encoder.layer: got {layer}, expected -{count} to -1, since there are {count} blocks")
    return blocks[: count + layer + 1]


def host(
    tokens: BlockTokens,
    reducer: BlockReducer | None,
    r: int,
    prefix: int,
    *,
    attention: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]],
    mlp: Callable[[Tensor], Tensor],
) -> BlockTokens:
    """Run one residual block of an encoder, with a reducer between its attention and its MLP.

    Args:
        tokens: Tokens of the previous block.
        reducer: Reducer to run, or None.
        r: Number of tokens to merge in this block.
        prefix: Number of class and register tokens at the front, which are never merged.
        attention: Maps x [F, N, D] and sizes ([F, N] or None) to the term that is added to x and the keys
            [F, heads, N, d]. Includes norms and layer scales. Sizes weight the keys (`proportional_attention`).
        mlp: Maps x to the term that is added to it. Includes norms and layer scales.

    Returns:
        The block's tokens, at most r fewer per frame.
    """
    x, sizes, sources = tokens
    added, keys = attention(x, sizes if reducer is not None and reducer.proportional else None)
    x = x + added
    if reducer is not None and r > 0:
        metric = keys.float().mean(dim=1)
        x, sizes, sources = reducer.merge(BlockTokens(x, sizes, sources), metric, r, prefix)
    return BlockTokens(x + mlp(x), sizes, sources)


def proportional_attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + log sizes) v, with a size per *key* (ToMe, Bolya et al., ICLR 2023; eq. 1).

    FlashAttention has no bias per key, so log sizes are additional channels of k, multiplied by ones in q. Each is the
    sum of two numbers of k's dtype, which is more exact than a bias in bf16 and fp16 (docs/decisions/gpu.md).

    Args:
        q: Queries [F, heads, N, d].
        k: Keys [F, heads, N, d].
        v: Values [F, heads, N, d].
        sizes: [F, N] positive numbers, or None for plain attention.
        dropout: Probability that an attention weight is dropped.

    Returns:
        [F, heads, N, d].
    """
    attention = nn.functional.scaled_dot_product_attention
    if sizes is None:
        return attention(q, k, v, dropout_p=dropout)
    dim = q.shape[-1]
    spare = 2 + -(dim + 2) % 8  # kernels want head sizes that are multiples of 8
    logs = sizes.to(torch.promote_types(k.dtype, torch.float32)).log() * dim**0.5  # attention divides by it
    high = logs.to(k.dtype)
    channels = nn.functional.pad(torch.stack([high, (logs - high).to(k.dtype)], dim=-1), (0, spare - 2))
    q = nn.functional.pad(q, (0, spare), value=1.0)
    k = torch.cat([k, channels[:, None].expand(-1, k.shape[1], -1, -1)], dim=-1)
    v = nn.functional.pad(v, (0, spare))
    return attention(q, k, v, dropout_p=dropout, scale=dim**-0.5)[..., :dim]
