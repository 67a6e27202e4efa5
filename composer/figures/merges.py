"""Figure of the patches that were merged.

Legend: F frames, P patches of a frame, H x W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from composer.batch import Clip, FrameGroup
from composer.errors import ComposeError
from composer.model.multimodal import MultimodalModel
from composer.parts import BlockReducer, Grid, VisualTokens


def draw_merges(
    model: MultimodalModel,
    clip: Clip,
    output: Path,
    *,
    title: str,
    layers: Sequence[int] | None = None,
    max_frames: int = 8,
) -> None:
    """Draw a clip's frames and, below each, its tokens: outlined, in the mean color of their patches.

    If a reducer works inside the encoder's blocks, there is one row per layer of `layers`. If more reducers follow, a
    last row shows the tokens that the projector gets.

    Args:
        model: Model whose encoder and reducers are drawn.
        clip: Frames of one image or video.
        output: Image file to write.
        title: Model and media.
        layers: Layers of the encoder, counted from 1, after which tokens are drawn; each quarter of its depth if None.
        max_frames: Frames drawn at most, uniform in time.

    Raises:
        ComposeError: A reducer does not record which patch went to which token, the encoder has no such layers, or
            nothing is merged inside them.
    """
    indices = torch.linspace(0, len(clip.pixels) - 1, min(max_frames, len(clip.pixels))).round().long()
    pixels, times = clip.pixels[indices], clip.time[indices]
    height, width = pixels.shape[-2:]
    grid = model.encoder.shape(height, width).grid
    if grid is None:
        raise ComposeError(
            "the encoder's patches form no grid, so merges cannot be drawn: use an encoder with square patches"
        )
    stages = merge_stages(model, pixels, layers)

    rows, columns = len(stages) + 1, len(pixels)
    figure = Figure(figsize=(1.8 * columns + 0.6, 1.8 * rows * height / width + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for column in range(columns):
        panels[0, column].imshow(pixels[column].permute(1, 2, 0).numpy())
        panels[0, column].set_title(f"{times[column]:.1f} s", fontsize=8)
        for row, (label, sources) in enumerate(stages.items(), start=1):
            _draw_tokens(panels[row, column], pixels[column], sources[column], grid)
            panels[row, 0].set_ylabel(label, fontsize=8)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(title, fontsize=10)
    figure.savefig(output, dpi=150)


@torch.no_grad()
def merge_stages(model: MultimodalModel, pixels: Tensor, layers: Sequence[int] | None = None) -> dict[str, Tensor]:
    """The token that each patch is in, for every row of `draw_merges`.

    Args:
        model: Model whose encoder and reducers are run.
        pixels: [F, 3, H, W] uint8, the frames of one clip.
        layers: As in `draw_merges`.

    Returns:
        Titles of rows and their tokens, [F, P] int64.

    Raises:
        ComposeError: As in `draw_merges`.
    """
    pixels = pixels.to(next(model.parameters()).device)
    frames = len(pixels)
    group = FrameGroup(pixels, pixels.new_zeros(frames, dtype=torch.int64), torch.arange(frames).to(pixels.device))
    stages: dict[str, Tensor] = {}
    inside = next((reducer for reducer in model.reducers if isinstance(reducer, BlockReducer)), None)
    if inside is not None:
        for layer in _layers(model.encoder.depth, layers):
            tokens = model.encoder(group.pixels, FirstBlocks(inside, layer), keep_sources=True)
            stages[f"{tokens.features.shape[1]} tokens\nafter layer {layer}"] = _sources(tokens)
    elif layers is not None:
        raise ComposeError(
            f"layers: got {', '.join(map(str, layers))}, but the model merges nothing inside its encoder's layers: "
            "omit them to draw the tokens after its reducers"
        )
    if len(model.reducers) != 1 or inside is None:
        tokens = model.reduce(group, keep_sources=True)
        stages[f"{tokens.features.shape[1]} tokens\nin the end"] = _sources(tokens)
    return stages


def _layers(depth: int, layers: Sequence[int] | None) -> list[int]:
    """The layers to draw, in order: the given ones, or the quarters of the depth."""
    if layers is None:
        return sorted({depth * quarter // 4 for quarter in range(1, 5)} - {0})
    if wrong := [layer for layer in layers if not 1 <= layer <= depth]:
        raise ComposeError(f"layers: got {', '.join(map(str, wrong))}, expected 1 to {depth}, the encoder's depth")
    return sorted(set(layers))


class FirstBlocks(BlockReducer):
    """A block reducer that stops merging after the first `blocks` blocks."""

    def __init__(self, reducer: BlockReducer, blocks: int) -> None:
        super().__init__(dim=reducer.dim, depth=reducer.depth)
        self.reducer, self.blocks = reducer, blocks
        self.proportional, self.needs_sources = reducer.proportional, reducer.needs_sources

    def schedule(self, patches: int) -> tuple[int, ...]:
        merges = self.reducer.schedule(patches)
        return merges[: self.blocks] + (0,) * (len(merges) - self.blocks)

    def plan(self, metric: Tensor, r: int) -> Tensor:
        return self.reducer.plan(metric, r)

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        return self.reducer.finish(tokens)


def _sources(tokens: VisualTokens) -> Tensor:
    if tokens.sources is None:
        raise ComposeError(
            "one of the model's reducers does not record which patch went to which token (VisualTokens.sources): "
            "its merges cannot be drawn"
        )
    return tokens.sources.cpu()


def _draw_tokens(axes: Axes, pixels: Tensor, sources: Tensor, grid: Grid) -> None:
    """Tokens of one frame; axes in patches."""
    labels = sources.reshape(grid).numpy()
    axes.imshow(token_colors(pixels, sources, grid), extent=(0, grid[1], grid[0], 0))
    axes.add_collection(LineCollection(token_borders(labels), colors="white", linewidths=0.8))


def token_colors(pixels: Tensor, sources: Tensor, grid: Grid) -> NDArray[np.float32]:
    """[rows, columns, 3] in 0..1: each patch in the mean color of all patches of its token.

    pixels: [3, H, W] uint8; sources: [P] int64.
    """
    patches = torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, grid).flatten(1).T  # [P, 3]
    totals = torch.zeros(int(sources.max()) + 1, 3).index_add(0, sources, patches)
    counts = sources.bincount()[:, None]
    return (totals / counts.clamp(min=1))[sources].reshape(*grid, 3).numpy()


def token_borders(labels: NDArray[np.int64]) -> list[list[tuple[int, int]]]:
    """Line segments between neighboring patches of different tokens, in patches. labels: [rows, columns]."""
    rows, columns = labels.shape
    between_columns = [
        [(c, r), (c, r + 1)] for r in range(rows) for c in range(1, columns) if labels[r, c - 1] != labels[r, c]
    ]
    between_rows = [
        [(c, r), (c + 1, r)] for r in range(1, rows) for c in range(columns) if labels[r - 1, c] != labels[r, c]
    ]
    return between_columns + between_rows
