"""A backbone that keeps the contract passes; each planted violation is named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composer.parameters import ParameterGroup
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


class LeaksBetweenPacked(SumBackbone):
    """Knows nothing of sequences in a row: each sees those before it."""

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        if cu_seqlens is None:
            return super().forward(embeds, mask, state)
        _, ends = super().forward(embeds, None, state, cu_seqlens=cu_seqlens)
        hidden, _ = super().forward(embeds)
        return hidden, ends


class LeaksAtTheSeam(SumBackbone):
    """Only the first position of a sequence sees the last one of its neighbor, as a token shift would."""

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state, cu_seqlens=cu_seqlens)
        if cu_seqlens is not None:
            hidden = hidden.clone()
            starts = torch.tensor(cu_seqlens[1:-1])
            hidden[:, starts] += 0.01 * embeds[:, starts - 1]
        return hidden, after


class EndsPackedAtTheWrongPlace(SumBackbone):
    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds, mask, state, cu_seqlens=cu_seqlens)
        return hidden, after if cu_seqlens is None else after.select(torch.arange(after.rows).roll(1))


class TakesAnyPack(SumBackbone):
    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        if cu_seqlens is not None and cu_seqlens[-1] != embeds.shape[1]:
            return embeds, SumState(embeds[:, -1])
        return super().forward(embeds, mask, state, cu_seqlens=cu_seqlens)


class NoStateClass(SumBackbone):
    state_class = None  # type: ignore[assignment]


class OtherState(SumBackbone):
    state_class = type("Other", (SumState,), {})


class TakesAnyId(SumBackbone):
    def embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids.clamp(0, 127))


class CrashesOnIds(SumBackbone):
    def embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids)


class Shuffled(SumState):
    @classmethod
    def cat(cls, states: Sequence[Any]) -> "Shuffled":
        return super().cat(states[::-1])


class Rounded(SumState):
    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Rounded":
        return cls(tensors["total"])

    @classmethod
    def load(cls, path: Path | str, fingerprint: str) -> "Rounded":
        return cls(super().load(path, fingerprint).total.bfloat16().float())


def with_state(kind: type[SumState]) -> type[SumBackbone]:
    """A backbone whose states are of this class."""

    class WithState(SumBackbone):
        state_class = kind

        def forward(
            self,
            embeds: Tensor,
            mask: Tensor | None = None,
            state: State | None = None,
            *,
            cu_seqlens: Sequence[int] | None = None,
        ) -> tuple[Tensor, State]:
            hidden, after = super().forward(embeds, mask, state, cu_seqlens=cu_seqlens)
            return hidden, kind.from_tensors(after.tensors())

    return WithState


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


class Emptied(SumState):
    def clone(self) -> "Emptied":
        return Emptied(torch.zeros_like(self.total))


class GroupsTwice(SumBackbone):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [*super().parameter_groups(), {"params": [self.output.bias]}]


class GroupsTooFew(SumBackbone):
    def parameter_groups(self) -> list[ParameterGroup]:
        return super().parameter_groups()[:1]


class Unused(SumBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(6))


class Detached(SumBackbone):
    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        hidden, after = super().forward(embeds.detach(), mask, state, cu_seqlens=cu_seqlens)
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
        (Forgets, "check that the blocks mix positions"),
        (IgnoresTheState, "two pieces"),
        (ChangesTheState, "changed its input state"),
        (CountsPadding, "right padding"),
        (KnowsRightPaddingOnly, "left padding"),
        (StateFromTheLastPlace, "right padding"),
        (WritesEmbeddings, "changed its input embeddings"),
        (WrongShape, r"forward returned \(2, 11, 6\), expected \(2, 12, 6\)"),
        (HalfHead, r"head\(\) returned \(2, 12, 64\)"),
        (SmallTable, r"embed\(\) returned"),
        (with_state(Unordered), r"select\(\) does not"),
        (with_state(Emptied), "a clone of the state"),
        (GroupsTwice, "wrong: output.bias"),
        (GroupsTooFew, "wrong: output.bias"),
        (Unused, "no gradient reaches gate"),
        (Detached, "no gradient reaches the embeddings"),
        (TooManyIds, "1000 ids"),
        (LeaksBetweenPacked, "packed sequences, a sequence's hidden states"),
        (LeaksAtTheSeam, "packed sequences, a sequence's hidden states"),
        (EndsPackedAtTheWrongPlace, "packed sequences after a state|states after packed sequences"),
        (TakesAnyPack, "call check_packed"),
        (NoStateClass, "state_class is None"),
        (OtherState, "is a SumState, expected the state_class Other"),
        (TakesAnyId, "accepts id -1"),
        (CrashesOnIds, "raised IndexError"),
        (with_state(Shuffled), r"cat\(\) does not"),
        (with_state(Rounded), "saved and loaded"),
    ],
)
def test_a_violation_is_named(broken: type[SumBackbone], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(broken())
