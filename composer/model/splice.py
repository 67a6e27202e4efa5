"""Inserts visual tokens into the text's embeddings. Legend: B rows, T positions, V visual tokens, D width."""

from bisect import bisect_right
from collections.abc import Sequence

from torch import Tensor

from composer.batch import Batch
from composer.errors import ComposeError


def splice(embeds: Tensor, visual: Tensor, positions: Tensor) -> Tensor:
    """Replace embeddings by visual tokens.

    Args:
        embeds: [B, T, D].
        visual: [V, D].
        positions: [V] int64 positions in the flattened embeddings, each at most once.

    Returns:
        [B, T, D] in the dtype of `embeds`.
    """
    result = embeds.flatten(0, 1).clone()
    # In place, because autocast casts the operands of `index_copy` on CPUs, and those of `index_copy_` nowhere.
    return result.index_copy_(0, positions, visual.to(embeds.dtype)).view_as(embeds)


def check_counts(batch: Batch, counts: Sequence[int]) -> None:
    """Check that each group of frames has as many visual tokens as the prompt has positions for it.

    Args:
        batch: The batch.
        counts: Number of visual tokens of each group; each of its frames has the same share.

    Raises:
        ComposeError: A number differs; names the first samples.
    """
    for group, positions, count in zip(batch.frames, batch.visual, counts, strict=True):
        if len(positions) == count:
            continue
        frames, _, height, width = group.pixels.shape
        names = list(dict.fromkeys(_sample(batch, position) for position in positions.tolist()))
        listed = ", ".join(map(repr, names[:3])) + (f", and {len(names) - 3} more" if len(names) > 3 else "")
        raise ComposeError(
            f"The encoder and reducers gave {count / frames:g} tokens per frame of {width}x{height} pixels, expected "
            f"{len(positions) / frames:g} as in the prompt (samples {listed}). A part's `shape` does not match its "
            "`forward`; check the part with composer.testing"
        )


def _sample(batch: Batch, position: int) -> str:
    """The sample that a position of the flattened ids belongs to."""
    if batch.cu_seqlens is None:
        return batch.sample_ids[position // batch.ids.shape[1]]
    return batch.sample_ids[bisect_right(batch.cu_seqlens, position) - 1]
