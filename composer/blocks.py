"""What an encoder runs its blocks with, so that a reducer can work inside them.

Legend: F frames of one grid, P patches of a frame, N tokens of a frame, D channels.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from composer.errors import ComposeError
from composer.parts import BlockReducer, BlockTokens, Grid, VisualTokens


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
    """An encoder's blocks and its last norm, with a reducer inside the blocks: [F, prefix + P, D] to finished tokens.

    Every block is called as `block(tokens, reducer, r, prefix) -> BlockTokens`, r being the tokens to merge away."""
    frames, patches = x.shape[0], x.shape[1] - prefix
    blocks = list(blocks)
    schedule = (0,) * len(blocks) if reducer is None else reducer.schedule(patches)
    sources = None
    if keep_sources or (reducer is not None and reducer.needs_sources):
        sources = torch.arange(patches, device=x.device).expand(frames, -1)
    # A convolution's patches come channels first, and without merges the residual stream would keep that layout.
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
    features, sizes, _, left, clip, time = finished
    return VisualTokens(features, sizes, None, left, clip, time)  # torch 2.11 cannot compile `return x._replace(...)`


def blocks_up_to(layer: int, blocks: Any) -> Any:
    """A tower's blocks (a list of modules) up to block `layer`, from the end: -1 keeps all. Raises ComposeError."""
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
    """One residual block of an encoder, with a reducer between its attention and its MLP.

    Args:
        tokens: What the block before left.
        reducer: The reducer to host, or None.
        r: Tokens to merge away in this block.
        prefix: Class and register tokens at the front, which are never merged.
        attention: (x [F, N, D], sizes [F, N] or None) to (what attention adds to x, its keys [F, heads, N, d]). Norms
            and layer scales are the caller's. Sizes, if any, weigh the keys (`proportional_attention`).
        mlp: x to what the MLP adds to it.

    Returns:
        The block's tokens, at most r fewer.
    """
    x, sizes, sources = tokens
    added, keys = attention(x, sizes if reducer is not None and reducer.proportional else None)
    x = x + added
    if reducer is not None and r > 0:
        metric = keys.float().mean(dim=1)
        x, sizes, sources = reducer.merge(BlockTokens(x, sizes, sources), metric, r, prefix)
    return BlockTokens(x + mlp(x), sizes, sources)


def proportional_attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + log sizes) v, the sizes per *key* (ToMe, Bolya et al., ICLR 2023; eq. 1).

    A bias per key rules out FlashAttention, so log sizes are channels of k against ones in q, as the sum of two
    numbers of k's dtype: in bf16 and fp16 more exact than a bias (docs/decisions/gpu.md).

    Args:
        q: [F, heads, N, d]; k and v: the same.
        sizes: [F, N] positive numbers, or None for plain attention.
        dropout: Share of the attention weights to drop.

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
