"""Conformance of reducers. Legend: F frames, P patches, N tokens, D channels."""

import torch
from torch import Tensor

from composer.parts import BlockReducer, BlockTokens, Grid, Reducer, TokenShape, VisualTokens
from composer.testing.encoder import check_tokens
from composer.testing.module import check_module, close, require

GRIDS: tuple[Grid, ...] = ((8, 8), (6, 9), (5, 7))


def check_reducer(reducer: Reducer | BlockReducer) -> None:
    """Check that a reducer follows the contract of `composer.parts`. Leaves it in eval mode.

    Runs it on square, rectangular and odd grids.

    Args:
        reducer: A small reducer on the CPU.

    Raises:
        AssertionError: If the contract is broken. Names what to fix.
    """
    reducer.eval()
    if isinstance(reducer, BlockReducer):
        _check_block_reducer(reducer)
    else:
        _check_reducer(reducer)


def _check_reducer(reducer: Reducer) -> None:
    for grid in GRIDS:
        tokens = _tokens(grid, reducer.dim)
        shape = reducer.shape(TokenShape(grid[0] * grid[1], reducer.dim, grid))
        again = reducer.shape(TokenShape(grid[0] * grid[1], reducer.dim, grid))
        require(shape == again, f"shape() is not pure: it returned {shape}, then {again}")
        before = _tokens(grid, reducer.dim)
        with torch.no_grad():
            reduced = reducer(tokens)
            alone = [reducer(_frame(tokens, f)).features for f in range(len(tokens.features))]
        require(_same(tokens, before), "forward changed its input tokens: copy them before writing")
        check_tokens(reduced, shape, len(tokens.features), grid[0] * grid[1])
        require(close(reduced.features, torch.cat(alone)), "a frame's tokens depend on other frames of its batch")
        same = torch.equal(reduced.clip, tokens.clip) and torch.equal(reduced.time, tokens.time)
        require(same, "clip and time differ from the input's: return them unchanged")
    check_module(reducer, lambda part: part(_tokens(GRIDS[1], reducer.dim)).features)
    leaf = _tokens(GRIDS[1], reducer.dim)
    leaf.features.requires_grad_(True)
    reduced = reducer(leaf)
    require(reduced.features.requires_grad, "no gradient reaches the features: the encoder could not be trained")
    reduced.features.square().sum().backward()
    require(leaf.features.grad is not None, "no gradient reaches the features: the encoder could not be trained")


def _check_block_reducer(reducer: BlockReducer) -> None:
    for grid in GRIDS:
        patches = grid[0] * grid[1]
        schedule = reducer.schedule(patches)
        require(schedule == reducer.schedule(patches), "schedule() is not pure")
        require(len(schedule) == reducer.depth, f"schedule() has {len(schedule)} blocks, expected {reducer.depth}")
        require(
            all(isinstance(r, int) and r >= 0 for r in schedule) and sum(schedule) < patches,
            f"schedule({patches}) is {schedule}, expected numbers >= 0 that leave at least one token",
        )
        _check_run(reducer, grid, schedule)


def _check_run(reducer: BlockReducer, grid: Grid, schedule: tuple[int, ...]) -> None:
    """Run all blocks' merges on random tokens after one prefix token, then `finish`."""
    visual = _tokens(grid, reducer.dim)
    frames, patches, _ = visual.features.shape
    first = torch.full((frames, 1, reducer.dim), 7.0)
    tokens = BlockTokens(torch.cat([first, visual.features], dim=1), None, visual.sources)
    for r in schedule:
        count = tokens.x.shape[1]
        metric = tokens.x[..., : max(reducer.dim // 2, 1)]
        if r > 0:
            _check_plan(reducer, metric[:, 1:], r)
        tokens = reducer.merge(tokens, metric, r, 1)
        require(tokens.x.shape[1] == count - r, f"merging {r} of {count} tokens left {tokens.x.shape[1]}")
    require(torch.equal(tokens.x[:, :1], first), "a prefix token was merged or changed")
    total = visual.features.sum(dim=1)
    sizes = torch.ones(frames, patches) if tokens.sizes is None else tokens.sizes[:, 1:].float()
    require(
        close((tokens.x[:, 1:] * sizes[..., None]).sum(dim=1), total),
        "features are not averages weighted by size",
    )
    finished = reducer.finish(
        VisualTokens(tokens.x[:, 1:], sizes, tokens.sources, None if sum(schedule) else grid, visual.clip, visual.time)
    )
    check_tokens(finished, reducer.shape(TokenShape(patches, reducer.dim, grid)), frames, patches)
    require(
        close((finished.features * finished.sizes[..., None]).sum(dim=1), total),
        "finish() separates features from their sizes: reorder both in the same way",
    )


def _check_plan(reducer: BlockReducer, metric: Tensor, r: int) -> None:
    frames, count, _ = metric.shape
    plan = reducer.plan(metric, r)
    require(plan.shape == (frames, count), f"plan() is {tuple(plan.shape)}, expected {(frames, count)}")
    require(plan.dtype == torch.int64, f"plan() is {plan.dtype}, expected int64")
    for row in plan:
        got = row.unique().tolist()
        require(got == list(range(count - r)), f"plan() for r={r} of {count} tokens does not use all {count - r}")
    require(torch.equal(plan, reducer.plan(metric, r)), "plan() is not deterministic")
    alone = torch.cat([reducer.plan(row[None], r) for row in metric])
    require(torch.equal(plan, alone), "plan() of a frame depends on other frames of its batch")


def _tokens(grid: Grid, dim: int, frames: int = 2) -> VisualTokens:
    """Create random tokens as an encoder returns them, equal on every call."""
    generator = torch.Generator().manual_seed(grid[0] * 100 + grid[1])
    patches = grid[0] * grid[1]
    return VisualTokens(
        torch.randn(frames, patches, dim, generator=generator),
        torch.ones(frames, patches),
        torch.arange(patches).expand(frames, -1).clone(),
        grid,
        torch.arange(frames),
        torch.arange(frames, dtype=torch.float32) / 2,
    )


def _frame(tokens: VisualTokens, index: int) -> VisualTokens:
    rows = slice(index, index + 1)
    return VisualTokens(
        tokens.features[rows],
        tokens.sizes[rows],
        None if tokens.sources is None else tokens.sources[rows],
        tokens.grid,
        tokens.clip[rows],
        tokens.time[rows],
    )


def _same(tokens: VisualTokens, others: VisualTokens) -> bool:
    pairs = zip(tokens, others, strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor))
