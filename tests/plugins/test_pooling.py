"""Pooling against plain loops and against PyTorch's own pooling where its windows do not overlap."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from composer.parts import Grid, TokenShape, VisualTokens
from composer.testing import check_reducer
from composer_plugins.pooling import PoolingConfig
from composer_plugins.pooling.reducer import Pooling


def pooling(dim: int = 3, **options: Any) -> Pooling:
    return Pooling(**PoolingConfig(**options).model_dump(), dim=dim, depth=1)


def tokens(grid: Grid, dim: int = 3) -> VisualTokens:
    count = grid[0] * grid[1]
    features = torch.randn(2, count, dim, generator=torch.Generator().manual_seed(count))
    sources = torch.arange(count).expand(2, -1)
    return VisualTokens(features, torch.ones(2, count), sources, grid, torch.arange(2), torch.zeros(2))


def image(features: torch.Tensor, grid: Grid) -> torch.Tensor:
    return features.transpose(1, 2).unflatten(2, grid)


@pytest.mark.parametrize("grid", [(6, 6), (4, 10), (5, 7), (1, 3)])
@pytest.mark.parametrize("window", [1, 2, (3, 1), (2, 4)])
def test_window_equals_average_pooling_with_smaller_windows_at_the_edges(grid: Grid, window: int | Grid) -> None:
    got = pooling(window=window)(tokens(grid))
    expected = torch.nn.functional.avg_pool2d(
        image(tokens(grid).features, grid), window, ceil_mode=True, count_include_pad=False
    )
    assert got.grid == expected.shape[2:]
    torch.testing.assert_close(image(got.features, got.grid), expected)
    assert torch.equal(got.sizes.sum(dim=1), torch.full((2,), float(grid[0] * grid[1])))


@pytest.mark.parametrize(("grid", "output"), [((6, 6), 3), ((4, 10), (2, 5)), ((8, 3), (1, 1)), ((5, 7), (5, 7))])
def test_output_equals_adaptive_pooling_where_sides_divide(grid: Grid, output: int | Grid) -> None:
    got = pooling(output=output)(tokens(grid))
    expected = torch.nn.functional.adaptive_avg_pool2d(image(tokens(grid).features, grid), output)
    torch.testing.assert_close(image(got.features, got.grid), expected)


@pytest.mark.parametrize(("grid", "output"), [((5, 7), (2, 3)), ((7, 4), 3), ((3, 9), (5, 4))])
def test_output_windows_are_a_partition(grid: Grid, output: int | Grid) -> None:
    before, got = tokens(grid), pooling(output=output)(tokens(grid))
    rows, columns = (output, output) if isinstance(output, int) else output
    assert got.grid == (min(rows, grid[0]), min(columns, grid[1]))
    assert got.sources is not None
    for token in range(got.features.shape[1]):
        mine = (got.sources[0] == token).nonzero().flatten()
        assert len(mine) == got.sizes[0, token] > 0
        torch.testing.assert_close(got.features[0, token], before.features[0, mine].mean(dim=0))


def test_pooling_twice_weighs_tokens_by_their_patches() -> None:
    once = pooling(window=2)(tokens((3, 3)))  # windows of 4, 2, 2 and 1 patches
    twice = pooling(output=1)(once)
    torch.testing.assert_close(twice.features[:, 0], tokens((3, 3)).features.mean(dim=1))
    assert twice.sizes.tolist() == [[9.0], [9.0]]
    assert twice.sources is not None
    assert not twice.sources.any()


def test_shape_is_known_before_any_pixel() -> None:
    assert pooling().shape(TokenShape(35, 3, (5, 7))) == TokenShape(12, 3, (3, 4))
    assert pooling(output=[2, 3]).shape(TokenShape(35, 3, (5, 7))) == TokenShape(6, 3, (2, 3))


def test_half_precision_features_are_averaged_in_fp32() -> None:
    many = tokens((24, 24))._replace(features=torch.full((2, 576, 3), 1.001, dtype=torch.bfloat16))
    got = pooling(output=1)(many)
    assert got.features.dtype == torch.bfloat16
    assert torch.equal(got.features[:, 0], many.features[:, 0])


def test_options() -> None:
    assert PoolingConfig().window == 2
    assert PoolingConfig(output=3).window is None
    config = PoolingConfig(output=[2, 3])
    assert PoolingConfig.model_validate(config.model_dump(mode="json")) == config
    for options in ({"window": 2, "output": 3}, {"window": None}):
        with pytest.raises(ValidationError, match=r"got (neither|both) of window and output, expected one"):
            PoolingConfig(**options)


@pytest.mark.parametrize("options", [{"window": [3, 1]}, {"output": 4}, {"output": [3, 2]}])
def test_every_option_keeps_the_contract(options: dict[str, Any]) -> None:
    check_reducer(pooling(**options))
