"""Blocks that give something else when they run again, as activation checkpointing runs them."""

import pytest
import torch
from torch import Tensor, nn

from composer.errors import ComposeError
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.testing import check_backbone
from composer.training.activation_checkpointing import checkpoint_blocks
from tests.composer.stand_ins import LinearProjector, MeanEncoder, SumBackbone
from tests.composer.training.tiny import Colors


class Block(nn.Module):
    """Writes into the cache that it is given, as blocks with a cache of keys and values do."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        return x + self.linear(x).tanh()


class Counts(Block):
    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        cache.append(x.detach())
        return x + self.linear(x * len(cache)).tanh()


class Fails(Block):
    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        if cache:
            raise IndexError("one step at a time")
        cache.append(x.detach())
        return x + self.linear(x).tanh()


class Otherwise(Block):
    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        again = bool(cache)
        cache.append(x.detach())
        return x + (self.linear(x) if again else self.linear(x).tanh().exp())


class Unnamed(nn.Module):
    pass


class Deep(SumBackbone):
    def __init__(self, block: type[Block], named: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.block_classes = (named or block,)
        self.blocks = nn.ModuleList(block(self.dim) for _ in range(2))

    def embed(self, ids: Tensor) -> Tensor:
        x = super().embed(ids)
        for block in self.blocks:
            x = block(x, [])
        return x


def test_blocks_that_repeat_themselves_are_sound() -> None:
    check_backbone(Deep(Block))


@pytest.mark.parametrize(
    ("block", "named", "message"),
    [
        (Counts, None, r"gradient_checkpointing changes the gradient of .*linear.*Counts must not change"),
        (Fails, None, r"gradient_checkpointing fails with IndexError\('one step at a time'\): Fails must not change"),
        (Otherwise, None, "gradient_checkpointing fails with CheckpointError"),
        (Block, Unnamed, "block_classes is Unnamed, but the part has no such module"),
    ],
)
def test_the_kit_finds_blocks_that_do_not(block: type[Block], named: type[nn.Module] | None, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(Deep(block, named))


def test_training_says_which_block_cannot_be_checkpointed() -> None:
    model = MultimodalModel(MeanEncoder(), [], LinearProjector(in_dim=3, out_dim=6), Deep(Fails), "inline")
    checkpoint_blocks(model)
    data = Colors(model.processor, 2)
    loss = model(collate([data[0], data[1]])).loss
    with pytest.raises(ComposeError, match=r"block Fails fails when its forward is repeated \(IndexError: one step"):
        loss.backward()
    assert torch.isfinite(loss)
