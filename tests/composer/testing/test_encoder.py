"""The kit passes an encoder that keeps the contract, and catches every planted violation by name."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composer.blocks import run_blocks
from composer.parts import BlockReducer, BlockTokens, Encoder, TokenShape, VisualTokens
from composer.testing import check_encoder
from composer.transform import FrameTransform


class Block(nn.Module):
    """The smallest block that hosts a reducer: one matrix, keys are the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(6, 6)

    def forward(self, tokens: BlockTokens, reducer: BlockReducer | None, r: int, prefix: int) -> BlockTokens:
        tokens = tokens._replace(x=tokens.x + self.matrix(tokens.x))
        return tokens if reducer is None else reducer.merge(tokens, tokens.x, r, prefix)


class Sound(Encoder):
    """Keeps the contract; the violations below each break one thing."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.depth, self.patch_size = 6, 2, 4
        self.transform = FrameTransform(16, 4)
        self.block_classes = (Block,)
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.position = nn.Parameter(torch.randn(6))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(6)

    def embed(self, frames: Tensor) -> Tensor:
        return self.patches(frames.float() / 255) + self.position[:, None, None]

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        x = self.embed(frames)
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        return run_blocks(self.blocks, x, grid=grid, norm=self.norm, reducer=reducer, keep_sources=keep_sources)


class WrongCount(Sound):
    def shape(self, height: int, width: int) -> TokenShape:
        return super().shape(height, width)._replace(count=7)


class SwappedGrid(Sound):
    def shape(self, height: int, width: int) -> TokenShape:
        shape = super().shape(height, width)
        assert shape.grid is not None
        return shape._replace(grid=shape.grid[::-1])


class SquareOnly(Sound):
    def forward(self, frames: Tensor, *args: Any, **options: Any) -> VisualTokens:
        return super().forward(frames[..., :16, :16], *args, **options)


class WritesAttribute(Sound):
    def forward(self, *args: Any, **options: Any) -> VisualTokens:
        self.last = super().forward(*args, **options)
        return self.last


class CountsCalls(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, *args: Any, **options: Any) -> VisualTokens:
        self.calls += 1
        return super().forward(*args, **options)


class Random(Sound):
    def embed(self, frames: Tensor) -> Tensor:
        return super().embed(frames) + torch.rand(())


class NewParameter(Sound):
    """AuroraCap's bug: a new parameter in every forward, so that the real one never trains."""

    def embed(self, frames: Tensor) -> Tensor:
        return self.patches(frames.float() / 255) + nn.Parameter(self.position.data)[:, None, None]


class Detached(Sound):
    def embed(self, frames: Tensor) -> Tensor:
        return super().embed(frames).detach()


class BatchNormalized(Sound):
    def embed(self, frames: Tensor) -> Tensor:
        x = super().embed(frames)
        return x - x.mean(dim=0, keepdim=True)


class LooseTensor(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(6)


class UnsavedWeight(Sound):
    """A weight that the state dict does not restore."""

    def __init__(self) -> None:
        super().__init__()
        self._register_load_state_dict_pre_hook(lambda state, *args: state.update(position=torch.zeros(6)))


class HalfSizes(Sound):
    def forward(self, *args: Any, **options: Any) -> VisualTokens:
        tokens = super().forward(*args, **options)
        return tokens._replace(sizes=tokens.sizes.bfloat16())


class CountsPrefix(Sound):
    def forward(self, *args: Any, **options: Any) -> VisualTokens:
        tokens = super().forward(*args, **options)
        return tokens._replace(sizes=tokens.sizes * 2)


class AlwaysKeepsSources(Sound):
    def forward(self, *args: Any, keep_sources: bool = False) -> VisualTokens:
        return super().forward(*args, keep_sources=True)


class NeverKeepsSources(Sound):
    def forward(self, *args: Any, keep_sources: bool = False) -> VisualTokens:
        return super().forward(*args)


class WritesFrames(Sound):
    def forward(self, frames: Tensor, *args: Any, **options: Any) -> VisualTokens:
        frames[..., 0] = 0
        return super().forward(frames, *args, **options)


class NotFinite(Sound):
    def embed(self, frames: Tensor) -> Tensor:
        return super().embed(frames) / 0


class OtherPatch(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.transform = FrameTransform(16, 8)


class NoTransform(Sound):
    def __init__(self) -> None:
        super().__init__()
        del self.transform


class IgnoresReducer(Sound):
    def forward(self, frames: Tensor, reducer: BlockReducer | None = None, **options: Any) -> VisualTokens:
        return super().forward(frames, **options)


class RescalesUnderReducer(Sound):
    def forward(self, frames: Tensor, reducer: BlockReducer | None = None, **options: Any) -> VisualTokens:
        tokens = super().forward(frames, reducer, **options)
        return tokens if reducer is None else tokens._replace(features=tokens.features * 1.001)


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_sound_encoder_passes(in_blocks: bool) -> None:
    check_encoder(Sound(), in_blocks=in_blocks)


VIOLATIONS: list[tuple[type[Sound], str]] = [
    (WrongCount, r"shape\(\) returned \(2, 7, 6\)"),
    (SwappedGrid, r"grid is \(4, 6\), but shape\(\) returned \(6, 4\)"),
    (SquareOnly, r"features are \(2, 16, 6\), but shape\(\) returned \(2, 24, 6\)"),
    (WritesAttribute, "forward wrote the attribute last"),
    (CountsCalls, "forward wrote the attribute calls"),
    (Random, "differ|depend on"),
    (NewParameter, "no gradient reaches position"),
    (Detached, r"no gradient reaches .*patches\.weight"),
    (BatchNormalized, "depend on other frames of its batch"),
    (LooseTensor, "the tensor scale is neither a parameter nor a buffer"),
    (UnsavedWeight, "loaded the part's state dict"),
    (HalfSizes, r"sizes are torch\.bfloat16, expected float32"),
    (CountsPrefix, "expected 16 patches"),
    (AlwaysKeepsSources, "forward returned sources, although keep_sources is False"),
    (NeverKeepsSources, "sources are None, although keep_sources is True"),
    (WritesFrames, "forward changed its input frames"),
    (NotFinite, "not finite|depend on"),
    (OtherPatch, r"transform\.patch_size is 8, but patch_size is 4"),
    (NoTransform, "transform is None: set it to a FrameTransform"),
]


@pytest.mark.parametrize(("encoder", "message"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_violations_are_caught(encoder: type[Sound], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(encoder())


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (IgnoresReducer, r"features are \(2, 24, 6\), but shape\(\) returned \(2, 22, 6\)"),
        (RescalesUnderReducer, "a reducer that merges nothing changes the features"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_violations_of_hosting_are_caught(encoder: type[Sound], message: str) -> None:
    check_encoder(encoder())
    with pytest.raises(AssertionError, match=message):
        check_encoder(encoder(), in_blocks=True)
