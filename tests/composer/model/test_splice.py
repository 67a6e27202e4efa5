"""Splice against a loop over positions."""

import pytest
import torch

from composer.batch import MEDIA_ID
from composer.errors import ComposeError
from composer.model.splice import splice


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_positions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 9, (4, 11), generator=generator)
    ids[torch.rand(4, 11, generator=generator) < 0.4] = MEDIA_ID
    embeds = torch.randn(4, 11, 3, generator=generator)
    rows = (ids == MEDIA_ID).nonzero()[:, 0]
    visual = torch.randn(len(rows), 3, generator=generator)

    expected, used = embeds.clone(), 0
    for row in range(4):
        for position in range(11):
            if ids[row, position] == MEDIA_ID:
                expected[row, position] = visual[used]
                used += 1

    assert torch.equal(splice(embeds, ids, visual, rows, ["a", "b", "c", "d"]), expected)


def test_of_many_wrong_samples_three_are_named() -> None:
    names = [f"clip-{row}" for row in range(32)]
    with pytest.raises(ComposeError, match=r"'clip-2': 0 tokens for 1 places, and 29 more\. A part's"):
        splice(torch.zeros(32, 1, 4), torch.full((32, 1), MEDIA_ID), torch.ones(0, 4), torch.zeros(0).long(), names)


def test_gradient_reaches_both_sides() -> None:
    ids = torch.tensor([[1, MEDIA_ID, 2]])
    embeds, visual = torch.randn(1, 3, 2, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    splice(embeds, ids, visual, torch.tensor([0]), ["a"]).sum().backward()
    assert visual.grad is not None
    assert embeds.grad is not None
    assert torch.equal(visual.grad, torch.ones(1, 2))
    assert torch.equal(embeds.grad[0, :, 0], torch.tensor([1.0, 0.0, 1.0]))


def test_a_mismatch_names_every_wrong_sample_even_where_the_totals_agree() -> None:
    ids = torch.tensor([[MEDIA_ID, MEDIA_ID], [MEDIA_ID, 5], [MEDIA_ID, 5]])
    with pytest.raises(ComposeError, match="'clip-1': 1 tokens for 2 places, sample 'clip-2': 2 tokens for 1 places"):
        splice(torch.zeros(3, 2, 4), ids, torch.ones(4, 4), torch.tensor([0, 1, 1, 2]), ["clip-1", "clip-2", "clip-3"])
