"""Merging of tokens by weighted averages. Legend: F frames, N tokens per frame, M tokens after merging, D channels."""

from torch import Tensor


def merge_by_size(x: Tensor, sizes: Tensor, target: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Average features weighted by size, in fp32, and add sizes.

    Args:
        x: [F, N, D] features.
        sizes: [F, N] numbers of patches that the tokens represent.
        target: [F, N] int64 indices of the new tokens that they are merged into, each used at least once.
        count: Number of new tokens, M.

    Returns:
        Features [F, M, D] in the dtype of x, and sizes [F, M].
    """
    merged_sizes = sizes.new_zeros(x.shape[0], count).scatter_add(1, target, sizes)
    weighted = x.float() * sizes[..., None]
    merged = weighted.new_zeros(*merged_sizes.shape, x.shape[2])
    merged = merged.scatter_add(1, target[..., None].expand_as(weighted), weighted) / merged_sizes[..., None]
    return merged.to(x.dtype), merged_sizes
