"""Splice against a loop over positions."""

import pytest
import torch
from torch import nn

from composer.batch import MEDIA_ID, Batch, Clip
from composer.data.steps import pack_row
from composer.errors import ComposeError
from composer.model.multimodal import MultimodalModel
from composer.model.processor import Processor, collate
from composer.model.splice import splice
from composer.sample import Media, Message, Sample
from tests.composer.stand_ins import FirstTokens, LinearProjector, MeanEncoder, SumBackbone


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_a_loop_over_positions(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 9, (4, 11), generator=generator)
    ids[torch.rand(4, 11, generator=generator) < 0.4] = MEDIA_ID
    embeds = torch.randn(4, 11, 3, generator=generator)
    positions = (ids.flatten() == MEDIA_ID).nonzero().flatten()
    positions = positions[torch.randperm(len(positions), generator=generator)]
    visual = torch.randn(len(positions), 3, generator=generator, dtype=torch.float32).to(dtype)

    expected = embeds.clone()
    for position, token in zip(positions.tolist(), visual, strict=True):
        expected[position // 11, position % 11] = token.float()

    spliced = splice(embeds, visual, positions)
    assert spliced.dtype == torch.float32
    assert torch.equal(spliced, expected)


def test_gradient_reaches_both_sides() -> None:
    embeds, visual = torch.randn(1, 3, 2, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    splice(embeds, visual, torch.tensor([1])).sum().backward()
    assert visual.grad is not None
    assert embeds.grad is not None
    assert torch.equal(visual.grad, torch.ones(1, 2))
    assert torch.equal(embeds.grad[0, :, 0], torch.tensor([1.0, 0.0, 1.0]))


def model_and_batch(rows: int, *, pack: bool) -> tuple[MultimodalModel, Batch]:
    """Rows with an image each, every second one wider, for a model that makes one token more of each than announced."""
    reducer = FirstTokens(2)
    announcing = Processor.of(MeanEncoder(), [reducer], SumBackbone(), "inline")
    reducer.count = 3
    examples = []
    for row in range(rows):
        turns = (Message("user", (Media("image", "a.jpg"),)), Message("assistant", ("yes",)))
        clip = Clip(torch.zeros(1, 3, 8, 8 + 4 * (row % 2), dtype=torch.uint8), torch.zeros(1))
        examples.append(announcing.encode(Sample(f"clip-{row}", "f", turns), [clip]))
    model = MultimodalModel(MeanEncoder(), [reducer], LinearProjector(in_dim=3, out_dim=6), SumBackbone(), "inline")
    return model, (pack_row if pack else collate)(examples)


@pytest.mark.parametrize("pack", [False, True])
def test_of_many_wrong_samples_three_are_named(pack: bool) -> None:
    model, batch = model_and_batch(32, pack=pack)
    named = r"\(samples 'clip-0', 'clip-2', 'clip-4', and 13 more\)\. A part's"
    with pytest.raises(ComposeError, match=rf"gave 3 tokens per frame of 8x8 pixels, expected 2 as .* {named}"):
        model(batch)


@pytest.mark.parametrize("extra", [1, -1])
def test_a_group_with_wrong_counts_is_refused_even_if_the_totals_agree(extra: int) -> None:
    class Uneven(nn.Module):
        """Tokens too many of narrow frames, as many too few of wide ones; or the other way around."""

        def forward(self, tokens):
            count = {4: 2 + extra, 6: 2 - extra}[tokens.features.shape[1]]
            return tokens._replace(features=tokens.features[:, :count])

    model, batch = model_and_batch(2, pack=False)
    model.reducers[0] = Uneven()
    named = rf"gave {2 + extra} tokens per frame of 8x8 pixels, expected 2.*\(samples 'clip-0'\)"
    with pytest.raises(ComposeError, match=named):
        model(batch)
