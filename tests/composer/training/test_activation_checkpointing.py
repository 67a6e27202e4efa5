"""Activation checkpointing changes memory and nothing else."""

import torch
from torch import Tensor, nn

from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.training.activation_checkpointing import checkpoint_blocks
from tests.composer.stand_ins import LinearProjector, MeanEncoder, SumBackbone
from tests.composer.training.tiny import Colors


class Block(nn.Module):
    calls = 0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        Block.calls += 1
        return x + scale * self.linear(x).tanh()


class DeepBackbone(SumBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.block_classes = (Block,)
        self.blocks = nn.ModuleList(Block(self.dim) for _ in range(3))

    def embed(self, ids: Tensor) -> Tensor:
        x = super().embed(ids)
        for block in self.blocks:
            x = block(x, scale=0.5)
        return x


def build() -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel(MeanEncoder(), [], LinearProjector(in_dim=3, out_dim=6), DeepBackbone(), "inline")


def test_same_keys_same_loss_same_gradients_and_blocks_run_twice() -> None:
    plain, wrapped = build(), build()
    data = Colors(plain.processor, 3)
    batch = collate([data[i] for i in range(3)])
    checkpoint_blocks(wrapped)
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    wrapped.load_state_dict(plain.state_dict())

    counts = []
    losses = []
    for model in (plain, wrapped):
        Block.calls = 0
        loss = model(batch).loss
        loss.backward()
        counts.append(Block.calls)
        losses.append(loss)
    assert counts == [3, 6]
    assert torch.equal(*losses)
    for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)
