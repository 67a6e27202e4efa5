"""Token merging against a brute force written from the paper's five steps, in fp64 and plain loops."""

import logging
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from composer.parts import BlockTokens, TokenShape, VisualTokens
from composer.testing import check_reducer
from composer_plugins.tome import TomeConfig
from composer_plugins.tome.reducer import Tome, _report_clamp

KEPT = {1.0: 576, 0.9: 528, 0.7: 408, 0.5: 288, 0.3: 192, 0.2: 120, 0.1: 72, 0.08: 48, 0.05: 48}


def tome(*, dim: int = 8, depth: int = 4, **options: Any) -> Tome:
    return Tome(**TomeConfig(**options).model_dump(), dim=dim, depth=depth)


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / norms


def brute_force(
    x: list[list[float]], sizes: list[int], patches: list[set[int]], metric: list[list[float]], r: int
) -> tuple[list[list[float]], list[int], list[set[int]]]:
    """One frame: (1) split alternately, (2) an edge from each of A to its nearest of B, (3) keep the r best edges,
    (4) average the connected tokens by size, (5) put the sets together again."""
    if r == 0:
        return x, sizes, patches
    a, b = range(0, len(x), 2), range(1, len(x), 2)
    edges = []
    for i in a:
        nearest = b[0]
        for j in b:
            if cosine(metric[i], metric[j]) > cosine(metric[i], metric[nearest]):
                nearest = j
        edges.append((cosine(metric[i], metric[nearest]), i, nearest))
    edges.sort(key=lambda edge: -edge[0])  # Python's sort is stable
    groups = [[i] for _, i, _ in edges[r:]] + [[j] + [i for _, i, n in edges[:r] if n == j] for j in b]
    new_x, new_sizes, new_patches = [], [], []
    for group in groups:
        total = sum(sizes[i] for i in group)
        new_x.append([sum(x[i][c] * sizes[i] for i in group) / total for c in range(len(x[0]))])
        new_sizes.append(total)
        new_patches.append(set().union(*(patches[i] for i in group)))
    return new_x, new_sizes, new_patches


@pytest.mark.parametrize("kind", ["continuous", "ties"])
def test_merging_equals_the_brute_force(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for case in range(200):
        most = 120 if case % 20 == 0 else 25  # short rows are sorted stably whatever one asks for
        count = int(torch.randint(2, most, (), generator=generator))
        prefix = case % 3
        reducer = tome()
        x = torch.randn(2, prefix + count, 8, generator=generator)
        sources = torch.arange(count).expand(2, -1)
        tokens = BlockTokens(x, None, sources)
        frames = [(row[prefix:].tolist(), [1] * count, [{p} for p in range(count)]) for row in x.double()]
        for _ in range(3):
            left = tokens.x.shape[1] - prefix
            r = int(torch.randint(0, left // 2 + 1, (), generator=generator))
            metric = torch.randn(2, prefix + left, 4, generator=generator)
            if kind == "ties":  # cosines of signs in four dimensions are exact, and there are only five of them
                metric = metric.sign()
            tokens = reducer.merge(tokens, metric, r, prefix)
            frames = [
                brute_force(*frame, keys, r)
                for frame, keys in zip(frames, metric[:, prefix:].double().tolist(), strict=True)
            ]
        assert torch.equal(tokens.x[:, :prefix], x[:, :prefix])
        for f, (features, sizes, patches) in enumerate(frames):
            torch.testing.assert_close(tokens.x[f, prefix:], torch.tensor(features))
            got = torch.ones(len(sizes)) if tokens.sizes is None else tokens.sizes[f, prefix:]
            assert got.tolist() == sizes
            assert tokens.sources is not None
            assert [set((tokens.sources[f] == t).nonzero().flatten().tolist()) for t in range(len(sizes))] == patches


@pytest.mark.parametrize(("ratio", "kept"), KEPT.items())
def test_token_counts_of_the_paper(ratio: float, kept: int) -> None:
    """576 patches and 24 blocks: every row of the table of ratios."""
    reducer = tome(keep_ratio=ratio, depth=24)
    assert len(set(reducer.schedule(576))) == 1
    assert reducer.shape(TokenShape(576, 8, (24, 24))) == TokenShape(kept, 8, (24, 24) if kept == 576 else None)


def test_floor_is_that_of_exact_arithmetic() -> None:
    """(1 - 0.9) * 400 / 4 is 9.99... in floating point."""
    assert tome(keep_ratio=0.9, depth=4).schedule(400) == (10,) * 4
    for percent in range(1, 101):
        for patches in (100, 400, 1200):
            expected = (100 - percent) * patches // (100 * 12)
            assert tome(keep_ratio=percent / 100, depth=12).schedule(patches)[0] == min(expected, patches // 2)


def test_no_block_merges_more_than_half(caplog: pytest.LogCaptureFixture) -> None:
    _report_clamp.cache_clear()
    reducer = tome(r=10, depth=4)
    assert reducer.schedule(20) == (10, 5, 2, 1)
    with caplog.at_level(logging.WARNING):
        assert reducer.shape(TokenShape(20, 8, None)).count == 2
        reducer.shape(TokenShape(20, 8, None))
        tome(keep_ratio=0.1, depth=24).shape(TokenShape(576, 8, None))
    assert len(caplog.records) == 1
    assert "keeps 2 tokens" in caplog.text


@pytest.mark.parametrize(
    ("patches", "target", "depth"), [(576, 72, 24), (700, 72, 24), (64, 5, 4), (64, 4, 4), (50, 64, 4)]
)
def test_target_tokens_is_reached_on_every_grid(patches: int, target: int, depth: int) -> None:
    schedule = tome(target_tokens=target, depth=depth).schedule(patches)
    assert patches - sum(schedule) == min(target, patches)
    assert list(schedule) == sorted(schedule, reverse=True)


def test_target_tokens_shares_out_the_surplus() -> None:
    assert tome(target_tokens=50, depth=4).schedule(64) == (4, 4, 3, 3)
    assert tome(target_tokens=10, depth=3).schedule(64) == (24, 20, 10)
    assert tome(target_tokens=1, depth=2).schedule(8) == (4, 2)


@pytest.mark.parametrize("order", ["ascending", "descending", "none", "raster"])
def test_order_of_the_finished_tokens(order: str) -> None:
    sizes = torch.tensor([[2.0, 1.0, 1.0, 3.0, 1.0]])
    sources = torch.tensor([[3, 0, 3, 1, 4, 0, 2, 3]])
    features = torch.arange(5.0)[None, :, None]
    tokens = VisualTokens(features, sizes, sources, None, torch.zeros(1), torch.zeros(1))
    expected = {
        "ascending": [1, 2, 4, 0, 3],
        "descending": [3, 0, 1, 2, 4],
        "none": [0, 1, 2, 3, 4],
        "raster": [3, 0, 1, 4, 2],
    }[order]
    got = tome(order=order).finish(tokens)
    assert got.features.flatten().tolist() == expected
    assert got.sizes[0].tolist() == [sizes[0, i] for i in expected]
    assert got.sources is not None
    assert [expected[i] for i in got.sources[0]] == sources[0].tolist()


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_tokens_of_one_size_keep_their_order(order: str) -> None:
    features = torch.arange(300.0)[None, :, None]
    sizes = torch.ones(1, 300)
    sizes[0, ::3] = 2
    got = tome(order=order).finish(VisualTokens(features, sizes, None, None, torch.zeros(1), torch.zeros(1)))
    halves = [sorted(range(0, 300, 3)), [i for i in range(300) if i % 3]]
    expected = halves[0] + halves[1] if order == "descending" else halves[1] + halves[0]
    assert got.features.flatten().tolist() == expected


def test_plan_is_fp32_inside_autocast() -> None:
    """In bf16 most of these similarities tie, and another plan results."""
    metric = torch.randn(4, 96, 16, generator=torch.Generator().manual_seed(0)) + 3
    reducer = tome()
    plain = reducer.plan(metric, 20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reducer.plan(metric, 20), plain)
    assert not torch.equal(reducer.plan(metric.bfloat16(), 20), plain)


def test_merging_adds_sizes_beyond_what_bf16_can_count() -> None:
    reducer = tome()
    x = torch.ones(1, 600, 2, dtype=torch.bfloat16)
    tokens = BlockTokens(x, None, torch.arange(600)[None])
    while tokens.x.shape[1] > 1:
        tokens = reducer.merge(tokens, tokens.x, tokens.x.shape[1] // 2)
    assert tokens.sizes is not None
    assert tokens.sizes.tolist() == [[600]]
    assert tokens.x.dtype == torch.bfloat16


def test_gradient_of_a_merge_is_that_of_the_weighted_mean() -> None:
    x = torch.randn(2, 10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    metric = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(2))
    reducer = tome()
    target = reducer.plan(metric, 4)

    def merged(x: Tensor) -> Tensor:
        matrix = torch.nn.functional.one_hot(target).double().transpose(1, 2)  # [F, N - r, N]
        return (matrix / matrix.sum(dim=-1, keepdim=True)) @ x

    weights = torch.randn(2, 6, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad((merged(x) * weights).sum(), x)
    (got,) = torch.autograd.grad((reducer.merge(BlockTokens(x, None, None), metric, 4).x * weights).sum(), x)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "amounts"),
    [
        ({}, (0.5, None, None)),
        ({"keep_ratio": 0.25}, (0.25, None, None)),
        ({"r": 3}, (None, 3, None)),
        ({"target_tokens": 72}, (None, None, 72)),
        ({"keep_ratio": None, "r": 3}, (None, 3, None)),
    ],
)
def test_the_default_ratio_gives_way(options: dict[str, Any], amounts: tuple[Any, ...]) -> None:
    config = TomeConfig(**options)
    assert (config.keep_ratio, config.r, config.target_tokens) == amounts
    assert TomeConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("options", [{"keep_ratio": 0.5, "r": 3}, {"r": 3, "target_tokens": 4}, {"keep_ratio": None}])
def test_one_amount_exactly(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected one of keep_ratio, r and target_tokens"):
        TomeConfig(**options)


EVERY = [{"r": 3, "order": "raster"}, {"target_tokens": 9, "order": "descending"}, {"keep_ratio": 1}, {"order": "none"}]


@pytest.mark.parametrize("options", EVERY)
def test_every_option_keeps_the_contract(options: dict[str, Any]) -> None:
    check_reducer(tome(**options))
