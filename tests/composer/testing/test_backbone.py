"""A backbone that keeps the contract passes; each planted violation is named."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composer.state import State
from composer.testing import check_backbone
from tests.composer.stand_ins import Characters, SumBackbone, SumState


class SeesTheFuture(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, state = super().forward(embeds, mask, state)
        return hidden + 0.1 * embeds.mean(dim=1, keepdim=True), state


class Forgets(SumBackbone):
    """Mixes nothing: every position is read alone."""

    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        return embeds * 1.0, SumState(embeds[:, -1])


class IgnoresTheState(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        return super().forward(embeds, mask, None)


class ChangesTheState(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state)
        if isinstance(state, SumState):
            state.total += 1.0
        return hidden, after


class CountsPadding(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        return super().forward(embeds, None, state)


class KnowsRightPaddingOnly(SumBackbone):
    """Takes the mask for lengths."""

    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        if mask is not None:
            mask = torch.arange(mask.shape[1])[None] < mask.sum(dim=1, keepdim=True)
        return super().forward(embeds, mask, state)


class StateFromTheLastPlace(SumBackbone):
    """Right for every position, but after padding the state is that of the padding."""

    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state)
        assert isinstance(after, SumState)
        return hidden, after if mask is None else SumState(after.total + embeds[:, -1] * ~mask[:, -1:])


class WritesEmbeddings(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        embeds *= 2.0
        return super().forward(embeds, mask, state)


class WrongShape(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state)
        return hidden[:, :-1], after


class HalfHead(SumBackbone):
    def head(self, hidden: Tensor) -> Tensor:
        return self.output(hidden)[..., :64]


class SmallTable(SumBackbone):
    def embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids)[..., :-1]


class Unordered(SumState):
    def select(self, rows: Tensor) -> "Unordered":
        return Unordered(self.total[rows.sort().values])


class SelectsUnordered(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state)
        assert isinstance(after, SumState)
        return hidden, Unordered(after.total)


class Emptied(SumState):
    def clone(self) -> "Emptied":
        return Emptied(torch.zeros_like(self.total))


class ClonesNothing(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state)
        assert isinstance(after, SumState)
        return hidden, Emptied(after.total)


class GroupsTwice(SumBackbone):
    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.output.bias]}]


class GroupsTooFew(SumBackbone):
    def parameter_groups(self) -> list[dict[str, Any]]:
        return super().parameter_groups()[:1]


class Unused(SumBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(6))


class Detached(SumBackbone):
    def forward(self, embeds: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds.detach(), mask, state)
        return hidden + 0.0 * self.embedding.weight.sum(), after


class TooManyIds(SumBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = type("Large", (Characters,), {"vocab_size": 1000})()


def test_a_sound_backbone_passes_and_keeps_its_weights() -> None:
    backbone = SumBackbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    check_backbone(backbone)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (SeesTheFuture, "a later position changes"),
        (Forgets, "is anything mixed"),
        (IgnoresTheState, "two pieces"),
        (ChangesTheState, "changed the state it was given"),
        (CountsPadding, "right padding"),
        (KnowsRightPaddingOnly, "left padding"),
        (StateFromTheLastPlace, "right padding"),
        (WritesEmbeddings, "changed the embeddings"),
        (WrongShape, r"forward gives \(2, 11, 6\), expected \(2, 12, 6\)"),
        (HalfHead, r"head\(\) gives \(2, 12, 64\)"),
        (SmallTable, r"embed\(\) gives"),
        (SelectsUnordered, r"select\(\) does not"),
        (ClonesNothing, "a clone of the state"),
        (GroupsTwice, "wrong: output.bias"),
        (GroupsTooFew, "wrong: output.bias"),
        (Unused, "no gradient reaches gate"),
        (Detached, "no gradient reaches the embeddings"),
        (TooManyIds, "1000 ids"),
    ],
)
def test_a_violation_is_named(broken: type[SumBackbone], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(broken())
