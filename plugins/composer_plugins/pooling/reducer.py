"""Average pooling on the patch grid. Shapes: F frames, N tokens, M tokens after pooling, D channels."""

import torch
from torch import Tensor

from composer.parts import Grid, Reducer, TokenShape, VisualTokens
from composer_plugins.pooling import Sides


class Pooling(Reducer):
    """Averages the tokens of each window, weighted by their sizes, in fp32.

    Windows never overlap, so sizes add up to the number of patches. `adaptive_avg_pool2d` uses overlapping windows if
    the sides do not divide evenly.

    Args:
        window: Window size in tokens, a side or [rows, columns]; windows at the right and bottom may be smaller.
        output: Number of windows, a side or [rows, columns], at most one per token along a side.
        dim: Channels D.
        depth: Number of blocks of the encoder, unused.
    """

    needs_grid = True

    def __init__(self, *, window: Sides | None, output: Sides | None, dim: int, depth: int) -> None:
        super().__init__(dim=dim, depth=depth)
        self.window = None if window is None else _pair(window)
        self.output = None if output is None else _pair(output)

    def shape(self, tokens: TokenShape) -> TokenShape:
        """Return M tokens per frame and their grid, for any input grid."""
        assert tokens.grid is not None
        rows, columns = self._pooled_grid(tokens.grid)
        return tokens._replace(count=rows * columns, grid=(rows, columns))

    def forward(self, tokens: VisualTokens) -> VisualTokens:
        """Pool [F, N, D] features to [F, M, D] in their dtype; sizes to [F, M]."""
        assert tokens.grid is not None
        pooled = self._pooled_grid(tokens.grid)
        target = self._window_of_token(tokens.grid, tokens.features.device)  # [N]
        count = pooled[0] * pooled[1]

        frames, _, dim = tokens.features.shape
        sizes = tokens.sizes.new_zeros(frames, count).index_add(1, target, tokens.sizes)
        weighted = tokens.features.float() * tokens.sizes[..., None]
        features = weighted.new_zeros(frames, count, dim).index_add(1, target, weighted) / sizes[..., None]
        return tokens._replace(
            features=features.to(tokens.features.dtype),
            sizes=sizes,
            sources=None if tokens.sources is None else target[tokens.sources],
            grid=pooled,
        )

    def _pooled_grid(self, grid: Grid) -> Grid:
        """Rows and columns of windows."""
        if self.output is not None:
            return min(self.output[0], grid[0]), min(self.output[1], grid[1])
        assert self.window is not None
        return -(-grid[0] // self.window[0]), -(-grid[1] // self.window[1])

    def _window_of_token(self, grid: Grid, device: torch.device) -> Tensor:
        """Index of each token's window: [N] int64."""
        rows, columns = (torch.arange(side, device=device) for side in grid)
        pooled = self._pooled_grid(grid)
        if self.output is not None:
            rows, columns = rows * pooled[0] // grid[0], columns * pooled[1] // grid[1]
        elif self.window is not None:
            rows, columns = rows // self.window[0], columns // self.window[1]
        return (rows[:, None] * pooled[1] + columns).flatten()


def _pair(sides: Sides) -> Grid:
    return (sides, sides) if isinstance(sides, int) else sides
