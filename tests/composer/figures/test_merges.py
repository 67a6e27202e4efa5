"""Figures: what they draw against what is in the files and in the model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from composer.batch import Clip, FrameGroup
from composer.errors import ComposeError
from composer.figures.merges import draw_merges, merge_stages, token_borders, token_colors
from composer.model.multimodal import MultimodalModel
from composer.parts import BlockReducer, BlockTokens, Reducer, TokenShape, VisualTokens
from tests.composer.stand_ins import FirstTokens, LinearProjector, MeanEncoder, SumBackbone


class DeepEncoder(MeanEncoder):
    """Six blocks that do nothing but merge."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 6

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        tokens = super().forward(frames)
        patches = tokens.features.shape[1]
        sources = torch.arange(patches).expand(len(frames), -1) if keep_sources else None
        blocks = BlockTokens(tokens.features, tokens.sizes, sources)
        if reducer is None:
            return tokens._replace(sources=sources)
        for r in reducer.schedule(patches):
            blocks = reducer.merge(blocks, blocks.x, r)
        return reducer.finish(tokens._replace(features=blocks.x, sizes=blocks.sizes, sources=blocks.sources, grid=None))


class LastIntoFirst(BlockReducer):
    """The last token of each frame joins the first, two in every block."""

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (2,) * self.depth

    def plan(self, metric: Tensor, r: int) -> Tensor:
        count = metric.shape[1]
        target = torch.arange(count)
        target[count - r :] = 0
        return target.expand(len(metric), -1)

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        return tokens


class Halve(Reducer):
    """Every second token joins the one before it."""

    def forward(self, tokens: VisualTokens) -> VisualTokens:
        sources = None if tokens.sources is None else tokens.sources // 2
        return tokens._replace(features=tokens.features[:, ::2], sizes=tokens.sizes[:, ::2] * 2, sources=sources)

    def shape(self, tokens: TokenShape) -> TokenShape:
        return tokens._replace(count=tokens.count // 2)


def model(*reducers: BlockReducer | Reducer) -> MultimodalModel:
    return MultimodalModel(DeepEncoder(), reducers, LinearProjector(in_dim=3, out_dim=6), SumBackbone(), "inline")


def clip(frames: int = 2) -> Clip:
    pixels = torch.randint(0, 255, (frames, 3, 16, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Clip(pixels, torch.arange(frames).float())


def test_stages_follow_the_blocks_and_then_the_other_reducers() -> None:
    stages = merge_stages(model(LastIntoFirst(dim=3, depth=6), Halve(dim=3, depth=6)), clip().pixels)
    assert list(stages) == [
        *("18 tokens\nafter layer 1", "14 tokens\nafter layer 3", "12 tokens\nafter layer 4"),
        *("8 tokens\nafter layer 6", "4 tokens\nin the end"),
    ]
    after_one, _, after_four, _, end = (sources[0].tolist() for sources in stages.values())
    assert after_one == [*range(18), 0, 0]
    assert after_four == [*range(12), *[0] * 8]
    assert end == [i // 2 for i in (*range(8), *[0] * 12)]


def test_the_layers_that_are_asked() -> None:
    parts, pixels = model(LastIntoFirst(dim=3, depth=6)), clip().pixels
    assert list(merge_stages(parts, pixels, [5, 2])) == ["16 tokens\nafter layer 2", "10 tokens\nafter layer 5"]
    (*_, last) = merge_stages(parts, pixels).values()
    group = FrameGroup(pixels, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert torch.equal(last, parts.reduce(group, keep_sources=True).sources)
    with pytest.raises(ComposeError, match="got 0, 7, expected 1 to 6"):
        merge_stages(parts, pixels, [0, 3, 7])
    with pytest.raises(ComposeError, match=r"layers: got 3, but the model merges nothing inside"):
        merge_stages(model(Halve(dim=3, depth=6)), pixels, [3])


def test_a_model_without_reducer_shows_its_patches() -> None:
    ((title, sources),) = merge_stages(model(), clip().pixels).items()
    assert title == "20 tokens\nin the end"
    assert sources.tolist() == [list(range(20))] * 2


def test_a_reducer_that_tracks_nothing_is_refused() -> None:
    parts = model(FirstTokens(2))
    parts.encoder.forward = MeanEncoder.forward.__get__(parts.encoder)  # type: ignore[method-assign]
    with pytest.raises(ComposeError, match="does not record"):
        merge_stages(parts, clip().pixels)


def test_tokens_are_painted_in_the_mean_of_their_patches() -> None:
    pixels = clip(1).pixels[0]
    sources = torch.randint(0, 6, (20,), generator=torch.Generator().manual_seed(1))
    painted = token_colors(pixels, sources, (4, 5))
    for patch, token in enumerate(sources.tolist()):
        members = [divmod(p, 5) for p in range(20) if sources[p] == token]
        means = [pixels[:, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4].float().mean((1, 2)) for r, c in members]
        expected = torch.stack(means).mean(0) / 255
        np.testing.assert_allclose(painted[divmod(patch, 5)], expected, rtol=1e-5)


def test_borders_run_between_different_tokens_only() -> None:
    labels = np.array([[0, 0, 1], [2, 0, 1]])
    segments = {tuple(segment) for segment in token_borders(labels)}
    assert segments == {((2, 0), (2, 1)), ((1, 1), (1, 2)), ((2, 1), (2, 2)), ((0, 1), (1, 1))}


def test_the_title_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: titles.append(figure.get_suptitle()))
    draw_merges(model(LastIntoFirst(dim=3, depth=6)), clip(2), tmp_path / "merges.png", title="a clip")
    assert titles == ["a clip"]


def test_merges_are_drawn_for_videos_and_single_images(tmp_path: Path) -> None:
    for frames in (1, 20):
        draw_merges(model(LastIntoFirst(dim=3, depth=6)), clip(frames), tmp_path / "merges.png", title="a clip")
        image = np.asarray(Image.open(tmp_path / "merges.png"))
        assert image.std() > 10
