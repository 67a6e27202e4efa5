"""Visual tokens into their places in the text's embeddings. Legend: B rows, T positions, V visual tokens, D width."""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.batch import MEDIA_ID
from composer.errors import ComposeError


def splice(embeds: Tensor, ids: Tensor, visual: Tensor, visual_rows: Tensor, sample_ids: Sequence[str]) -> Tensor:
    """Put `visual` [V, D] where `ids` [B, T] is `MEDIA_ID`, in reading order; returns [B, T, D] in embeds' dtype.

    visual_rows: [V] int64 ascending, the row that each visual token belongs to.
    Raises ComposeError, naming the first samples, where a row has more or fewer places than tokens.
    """
    places = ids == MEDIA_ID
    expected = places.sum(dim=1)
    got = torch.bincount(visual_rows, minlength=len(ids))
    if not torch.equal(got, expected):
        wrong = (got != expected).nonzero().flatten().tolist()
        named = ", ".join(f"sample {sample_ids[i]!r}: {got[i]} tokens for {expected[i]} places" for i in wrong[:3])
        if len(wrong) > 3:
            named += f", and {len(wrong) - 3} more"
        raise ComposeError(
            f"The encoder and reducers gave another number of visual tokens than the prompt holds: {named}. "
            "A part's `shape` disagrees with its `forward`; run the part through composer.testing."
        )
    return embeds.masked_scatter(places[..., None], visual.to(embeds.dtype))
