"""What an encoder runs its blocks with, so that a reducer can work inside them.

Legend: F frames of one grid, P patches of a frame, N tokens of a frame, D channels.
"""

from collections.abc import Iterable
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
    tokens = BlockTokens(x, None, sources)
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


def proportional_attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + log sizes) v, the sizes per *key* (ToMe, Bolya et al., ICLR 2023; eq. 1).

    q, k, v: [F, heads, N, d]; sizes: [F, N] positive numbers, or None for plain attention.
    """
    bias = None if sizes is None else sizes.log()[:, None, None, :].to(q.dtype)
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
