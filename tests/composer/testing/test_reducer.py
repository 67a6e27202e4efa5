"""The kit passes reducers that keep the contract, and catches every planted violation by name."""

import pytest
import torch
from torch import Tensor, nn

from composer.parts import BlockReducer, BlockTokens, Reducer, TokenShape, VisualTokens
from composer.testing import check_reducer


class Halves(Reducer):
    """Averages the first half and the second half of a frame's tokens, and scales the channels."""

    def __init__(self) -> None:
        super().__init__(dim=4, depth=2)
        self.scale = nn.Parameter(torch.ones(4))

    def shape(self, tokens: TokenShape) -> TokenShape:
        return tokens._replace(count=2, grid=None)

    def forward(self, tokens: VisualTokens) -> VisualTokens:
        features, sizes, _, _, _, _ = tokens
        count = features.shape[1]
        target = torch.arange(count) * 2 // count
        merged = torch.stack([features[:, target == t].mean(dim=1) for t in range(2)], dim=1) * self.scale
        sources = None if tokens.sources is None else target[tokens.sources]
        merged_sizes = torch.stack([sizes[:, target == t].sum(dim=1) for t in range(2)], dim=1)
        return tokens._replace(features=merged, sizes=merged_sizes, sources=sources, grid=None)


class WrongCount(Halves):
    def shape(self, tokens: TokenShape) -> TokenShape:
        return tokens._replace(count=3, grid=None)


class KeepsGrid(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        return super().forward(tokens)._replace(grid=tokens.grid)


class LosesPatches(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        reduced = super().forward(tokens)
        return reduced._replace(sizes=torch.ones_like(reduced.sizes))


class ForgetsSources(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        reduced = super().forward(tokens)
        assert tokens.sources is not None
        return reduced._replace(sources=torch.zeros_like(tokens.sources))


class MixesFrames(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        reduced = super().forward(tokens)
        return reduced._replace(features=reduced.features + reduced.features.mean(dim=0))


class WritesInput(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        tokens.features[:, 0] = 0
        return super().forward(tokens)


class ForgetsTime(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        return super().forward(tokens)._replace(time=torch.zeros_like(tokens.time))


class UnusedWeight(Halves):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class CutsTheEncoderOff(Halves):
    def forward(self, tokens: VisualTokens) -> VisualTokens:
        return super().forward(tokens._replace(features=tokens.features.detach()))


@pytest.mark.parametrize(
    ("reducer", "message"),
    [
        (WrongCount, r"features are \(2, 2, 4\), but shape\(\) returned \(2, 3, 4\)"),
        (KeepsGrid, r"grid is \(8, 8\), but shape\(\) returned None"),
        (LosesPatches, "sizes sum to .*add the size of a dropped token .* to a remaining one"),
        (ForgetsSources, "different numbers of patches"),
        (MixesFrames, "depend on other frames"),
        (WritesInput, "forward changed its input tokens"),
        (ForgetsTime, "clip and time differ from the input's"),
        (UnusedWeight, "no gradient reaches unused"),
        (CutsTheEncoderOff, "no gradient reaches the features"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_violations_are_caught(reducer: type[Halves], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_reducer(reducer())


def test_a_sound_reducer_passes() -> None:
    check_reducer(Halves())


class MergeLastPair(BlockReducer):
    """Merges the last two tokens of every block."""

    def __init__(self) -> None:
        super().__init__(dim=4, depth=3)

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (1,) * self.depth

    def plan(self, metric: Tensor, r: int) -> Tensor:
        count = metric.shape[1]
        return torch.arange(count).clamp(max=count - r - 1).expand(metric.shape[:2])

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        return tokens


class ShortSchedule(MergeLastPair):
    def schedule(self, patches: int) -> tuple[int, ...]:
        return (1,)


class MergesAll(MergeLastPair):
    def schedule(self, patches: int) -> tuple[int, ...]:
        return (patches, 0, 0)


class LeavesAHole(MergeLastPair):
    def plan(self, metric: Tensor, r: int) -> Tensor:
        return super().plan(metric, r).clamp(min=1)


class FloatPlan(MergeLastPair):
    def plan(self, metric: Tensor, r: int) -> Tensor:
        return super().plan(metric, r).int()


class RandomPlan(MergeLastPair):
    def plan(self, metric: Tensor, r: int) -> Tensor:
        return super().plan(metric, r)[:, torch.randperm(metric.shape[1])]


class PlansOverTheBatch(MergeLastPair):
    def plan(self, metric: Tensor, r: int) -> Tensor:
        order = metric.mean(dim=(0, 2)).argsort()
        return super().plan(metric, r)[:, order]


class PlainMean(MergeLastPair):
    """Averages features without their sizes."""

    def merge(self, tokens: BlockTokens, metric: Tensor, r: int, prefix: int = 0) -> BlockTokens:
        merged = super().merge(tokens, metric, r, prefix)
        plain = super().merge(tokens._replace(sizes=None), metric, r, prefix)
        return merged._replace(x=plain.x)


class MergesThePrefix(MergeLastPair):
    def merge(self, tokens: BlockTokens, metric: Tensor, r: int, prefix: int = 0) -> BlockTokens:
        return super().merge(tokens, metric, r, prefix)._replace(x=super().merge(tokens, metric, r, prefix).x + 1)


class SortsSizesOnly(MergeLastPair):
    def finish(self, tokens: VisualTokens) -> VisualTokens:
        order = tokens.sizes.argsort(dim=1, descending=True, stable=True)
        assert tokens.sources is not None
        place = order.argsort(dim=1)
        return tokens._replace(sizes=tokens.sizes.gather(1, order), sources=place.gather(1, tokens.sources))


@pytest.mark.parametrize(
    ("reducer", "message"),
    [
        (ShortSchedule, r"schedule\(\) has 1 blocks, expected 3"),
        (MergesAll, "expected numbers >= 0 that leave at least one token"),
        (LeavesAHole, "does not use all 63"),
        (FloatPlan, r"plan\(\) is torch\.int32, expected int64"),
        (RandomPlan, r"plan\(\) is not deterministic"),
        (PlansOverTheBatch, r"plan\(\) of a frame depends on other frames"),
        (PlainMean, "not averages weighted by size"),
        (MergesThePrefix, "a prefix token was merged or changed"),
        (SortsSizesOnly, "separates features from their sizes"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_violations_inside_blocks_are_caught(reducer: type[MergeLastPair], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_reducer(reducer())


def test_a_sound_block_reducer_passes() -> None:
    check_reducer(MergeLastPair())
