"""Steps in place that keep the contract pass; each planted violation is named."""

import pytest
import torch
from torch import Tensor

from composer.state import State
from composer.testing import check_backbone
from tests.composer.stand_ins import SumBackbone, SumState


class Steps(SumBackbone):
    """Updates its state in place."""

    def reserve(self, state: State, positions: int) -> State | None:
        return state.clone()

    def step(self, embeds: Tensor, state: State) -> Tensor:
        hidden, after = self(embeds, None, state)
        state.tensors()["total"].copy_(after.tensors()["total"])
        return hidden


class Shares(Steps):
    def reserve(self, state: State, positions: int) -> State | None:
        return state


class Replaces(Steps):
    def step(self, embeds: Tensor, state: State) -> Tensor:
        assert isinstance(state, SumState)
        hidden, after = self(embeds, None, state)
        state.total = after.tensors()["total"].clone()
        return hidden


class Stays(Steps):
    def step(self, embeds: Tensor, state: State) -> Tensor:
        return self(embeds, None, state)[0]


class OneRow(Steps):
    def reserve(self, state: State, positions: int) -> State | None:
        return state.select(torch.tensor([0]))


class Promises(SumBackbone):
    def reserve(self, state: State, positions: int) -> State | None:
        return state.clone()


def test_steps_in_place_pass() -> None:
    check_backbone(Steps())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Shares, r"step\(\) differs from forward|changes total of the state"),
        (Replaces, r"replaces the tensors total"),
        (Stays, r"step\(\) differs from forward"),
        (OneRow, r"reserve\(\) gives 1 rows for a state of 4"),
    ],
)
def test_a_violation_is_named(broken: type[SumBackbone], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(broken())


def test_a_backbone_that_reserves_without_a_step_is_told_what_to_write() -> None:
    with pytest.raises(
        NotImplementedError, match=r"Promises reserves states but has no step: implement Backbone\.step"
    ):
        check_backbone(Promises())
