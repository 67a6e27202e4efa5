"""Visual tokens into their places in the text's embeddings. Legend: B rows, T positions, V visual tokens, D width."""

from bisect import bisect_right
from collections.abc import Sequence

from torch import Tensor

from composer.batch import Batch
from composer.errors import ComposeError


def splice(embeds: Tensor, visual: Tensor, positions: Tensor) -> Tensor:
    """Put `visual` [V, D] at these positions of the flattened embeddings; returns [B, T, D] in embeds' dtype.

    positions: [V] int64, each at most once.
    """
    spliced = embeds.flatten(0, 1).clone()
    # In place, which autocast leaves alone on every device. On a CPU alone it would cast the operands of `index_copy`.
    return spliced.index_copy_(0, positions, visual.to(embeds.dtype)).view_as(embeds)


def check_counts(batch: Batch, counts: Sequence[int]) -> None:
    """Raise ComposeError, naming the first samples, if a group of frames has more or fewer tokens than places.

    counts: the visual tokens that the parts made of each group. All frames of a group become equally many.
    """
    for group, positions, count in zip(batch.frames, batch.visual, counts, strict=True):
        if len(positions) == count:
            continue
        frames, _, height, width = group.pixels.shape
        names = list(dict.fromkeys(_sample(batch, position) for position in positions.tolist()))
        named = ", ".join(map(repr, names[:3])) + (f", and {len(names) - 3} more" if len(names) > 3 else "")
        raise ComposeError(
            f"The encoder and reducers gave {count / frames:g} tokens per frame of {width}x{height} pixels, expected "
            f"{len(positions) / frames:g}, for which the prompt has places (samples {named}). A part's `shape` "
            "disagrees with its `forward`; run the part through composer.testing"
        )


def _sample(batch: Batch, position: int) -> str:
    """The sample that a position of the flattened ids belongs to."""
    if batch.cu_seqlens is None:
        return batch.sample_ids[position // batch.ids.shape[1]]
    return batch.sample_ids[bisect_right(batch.cu_seqlens, position) - 1]
