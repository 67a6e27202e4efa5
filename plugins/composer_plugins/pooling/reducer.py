"""Average pooling on the patch grid. Legend: F frames, N tokens, M tokens after pooling, D channels."""

import torch
from torch import Tensor

from composer.parts import Grid, Reducer, TokenShape, VisualTokens
from composer_plugins.pooling import Sides


class Pooling(Reducer):
    """Averages the tokens of each window, weighted by their sizes, in fp32; windows never overlap.

    window: windows of [rows, columns] tokens from the top left; those at the right and at the bottom may be smaller.
    output: [rows, columns] windows as even as whole tokens allow; never more windows than tokens along a side.
    Unlike `adaptive_avg_pool2d`, whose windows overlap where sides do not divide, so that sizes sum to the patches.
    """

    needs_grid = True

    def __init__(self, *, window: Sides | None, output: Sides | None, dim: int, depth: int) -> None:
        super().__init__(dim=dim, depth=depth)
        self.window = None if window is None else _pair(window)
        self.output = None if output is None else _pair(output)

    def shape(self, tokens: TokenShape) -> TokenShape:
        assert tokens.grid is not None
        rows, columns = self._pooled(tokens.grid)
        return tokens._replace(count=rows * columns, grid=(rows, columns))

    def forward(self, tokens: VisualTokens) -> VisualTokens:
        assert tokens.grid is not None
        pooled = self._pooled(tokens.grid)
        target = self._targets(tokens.grid, tokens.features.device)  # [N]
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

    def _pooled(self, grid: Grid) -> Grid:
        """Rows and columns of windows on this grid."""
        if self.output is not None:
            return min(self.output[0], grid[0]), min(self.output[1], grid[1])
        assert self.window is not None
        return -(-grid[0] // self.window[0]), -(-grid[1] // self.window[1])

    def _targets(self, grid: Grid, device: torch.device) -> Tensor:
        """The window of each token: [N] int64."""
        rows, columns = (torch.arange(side, device=device) for side in grid)
        pooled = self._pooled(grid)
        if self.output is not None:
            rows, columns = rows * pooled[0] // grid[0], columns * pooled[1] // grid[1]
        elif self.window is not None:
            rows, columns = rows // self.window[0], columns // self.window[1]
        return (rows[:, None] * pooled[1] + columns).flatten()


def _pair(sides: Sides) -> Grid:
    return (sides, sides) if isinstance(sides, int) else sides
