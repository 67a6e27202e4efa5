"""Conformance of encoders. Legend: F frames, P patches, N tokens, D channels."""

import pickle

import torch
from torch import Tensor, nn

from composer.parts import BlockReducer, Encoder, TokenShape, VisualTokens
from composer.testing.module import check_checkpointing, check_module, close, require
from composer.transform import FrameTransform


def check_encoder(encoder: Encoder, *, in_blocks: bool = False) -> None:
    """Check that an encoder follows the contract of `composer.parts.Encoder`. Leaves it in eval mode.

    Args:
        encoder: A small encoder on the CPU.
        in_blocks: Whether its component declares that it runs reducers inside its blocks. If so, this is checked with
            a reducer that merges a pair of neighbors in every block.

    Raises:
        AssertionError: If the contract is broken. Names what to fix.
    """
    _check_attributes(encoder)
    square = (encoder.transform.size, encoder.transform.size)
    wide = (encoder.transform.size, encoder.transform.size + 2 * encoder.patch_size)
    encoder.eval()
    for height, width in (square, wide, wide[::-1]):
        _check_tokens(encoder, _frames(2, height, width))
    _check_batch(encoder, _frames(3, *wide))
    check_module(encoder, lambda part: part(_frames(2, *wide)).features)
    check_checkpointing(encoder, lambda part: part(_frames(2, *wide)).features, encoder.block_classes)
    if in_blocks:
        _check_hosting(encoder, _frames(2, *wide))


class MergeFirstPair(BlockReducer):
    """Minimal reducer inside blocks: merges the first two tokens in every block."""

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (1,) * self.depth

    def plan(self, metric: Tensor, r: int) -> Tensor:
        return (torch.arange(metric.shape[1]) - r).clamp(min=0).expand(metric.shape[:2])

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        return tokens


class MergeNothing(MergeFirstPair):
    """Reducer inside blocks that never merges."""

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (0,) * self.depth


def check_tokens(tokens: VisualTokens, shape: TokenShape, frames: int, patches: int) -> None:
    """Check that tokens have the shape that `shape()` returned, and that sizes and sources are consistent.

    Args:
        tokens: Output of an encoder or reducer.
        shape: Result of its `shape()`.
        frames: Number of frames of the input.
        patches: Number of patches per frame.

    Raises:
        AssertionError: If they do not match.
    """
    features, sizes, sources = tokens.features, tokens.sizes, tokens.sources
    expected = (frames, shape.count, shape.dim)
    require(features.shape == expected, f"features are {tuple(features.shape)}, but shape() returned {expected}")
    require(features.is_floating_point(), f"features are {features.dtype}, expected floating point")
    require(tokens.grid == shape.grid, f"grid is {tokens.grid}, but shape() returned {shape.grid}")
    require(sizes.shape == expected[:2], f"sizes are {tuple(sizes.shape)}, expected {expected[:2]}")
    require(sizes.dtype == torch.float32, f"sizes are {sizes.dtype}, expected float32 (bf16 cannot represent 257)")
    sums = sizes.sum(dim=1)
    require(
        close(sums, torch.full_like(sums, patches)),
        f"sizes sum to {sums.tolist()}, expected {patches} patches: a merged token has the sum of its tokens' sizes; "
        "add the size of a dropped token (and its patches in sources) to a remaining one",
    )
    for name, value in (("clip", tokens.clip), ("time", tokens.time)):
        require(value.shape == (frames,), f"{name} is {tuple(value.shape)}, expected ({frames},)")
    if sources is None:
        return
    require(sources.shape == (frames, patches), f"sources are {tuple(sources.shape)}, expected {(frames, patches)}")
    require(sources.dtype == torch.int64, f"sources are {sources.dtype}, expected int64")
    counted = torch.zeros_like(sizes).scatter_add(1, sources, torch.ones(sources.shape))
    require(torch.equal(counted, sizes), "sources assign different numbers of patches to the tokens than sizes")


def _check_attributes(encoder: Encoder) -> None:
    for name, kind in (("dim", int), ("depth", int), ("patch_size", int), ("transform", FrameTransform)):
        value = getattr(encoder, name, None)
        require(isinstance(value, kind), f"{name} is {value!r}: set it to a {kind.__name__} in __init__")
    classes = getattr(encoder, "block_classes", None)
    require(
        isinstance(classes, tuple) and all(isinstance(c, type) and issubclass(c, nn.Module) for c in classes),
        f"block_classes is {classes!r}: set it to a tuple of module classes in __init__ (it may be empty)",
    )
    require(
        encoder.transform.patch_size == encoder.patch_size,
        f"transform.patch_size is {encoder.transform.patch_size}, but patch_size is {encoder.patch_size}",
    )
    require(pickle.loads(pickle.dumps(encoder.transform)) == encoder.transform, "transform does not survive pickling")


def _check_tokens(encoder: Encoder, frames: Tensor) -> None:
    height, width = frames.shape[2:]
    shape = encoder.shape(height, width)
    require(shape.dim == encoder.dim, f"shape() returned {shape.dim} channels, but dim is {encoder.dim}")
    before = frames.clone()
    with torch.no_grad():
        tokens, kept = encoder(frames), encoder(frames, keep_sources=True)
    require(torch.equal(frames, before), "forward changed its input frames: copy them before writing")
    require(tokens.sources is None, "forward returned sources, although keep_sources is False: return None")
    require(kept.sources is not None, "sources are None, although keep_sources is True")
    for output in (tokens, kept):
        check_tokens(output, shape, len(frames), shape.count)


def _check_batch(encoder: Encoder, frames: Tensor) -> None:
    with torch.no_grad():
        together = encoder(frames).features
        alone = torch.cat([encoder(frame[None]).features for frame in frames])
    require(close(together, alone), "a frame's tokens depend on other frames of its batch")


def _check_hosting(encoder: Encoder, frames: Tensor) -> None:
    shape = encoder.shape(*frames.shape[2:])
    size = {"dim": encoder.dim, "depth": encoder.depth}
    merging, idle = MergeFirstPair(**size), MergeNothing(**size)
    with torch.no_grad():
        plain, unmerged = encoder(frames), encoder(frames, idle)
        merged, kept = encoder(frames, merging), encoder(frames, merging, keep_sources=True)
    require(torch.equal(plain.features, unmerged.features), "a reducer that merges nothing changes the features")
    check_tokens(merged, merging.shape(shape), len(frames), shape.count)
    check_tokens(kept, merging.shape(shape), len(frames), shape.count)
    expected = torch.ones_like(merged.sizes)
    expected[:, 0] += encoder.depth
    require(
        torch.equal(merged.sizes, expected),
        "sizes do not match one merge per block: call the reducer once per block",
    )
    check_module(encoder, lambda part: part(frames, merging).features)


def _frames(count: int, height: int, width: int) -> Tensor:
    """Create frames of noise, equal on every call: [F, 3, H, W] uint8."""
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
