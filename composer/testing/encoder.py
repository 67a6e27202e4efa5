"""Conformance of encoders. Legend: F frames, P patches, N tokens, D channels."""

import pickle

import torch
from torch import Tensor, nn

from composer.parts import BlockReducer, Encoder, TokenShape, VisualTokens
from composer.testing.module import check_checkpointing, check_module, close, require
from composer.transform import FrameTransform


def check_encoder(encoder: Encoder, *, in_blocks: bool = False) -> None:
    """Whether an encoder keeps the contract of `composer.parts.Encoder`; leaves it in eval mode on the CPU.

    in_blocks: whether its component says that it hosts reducers, which is then checked with one that merges a pair of
    neighbours in every block. Raises AssertionError with what to mend.
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
    """Merges the first two tokens of every block: the smallest reducer that works inside blocks."""

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (1,) * self.depth

    def plan(self, metric: Tensor, r: int) -> Tensor:
        return (torch.arange(metric.shape[1]) - r).clamp(min=0).expand(metric.shape[:2])

    def finish(self, tokens: VisualTokens) -> VisualTokens:
        return tokens


class MergeNothing(MergeFirstPair):
    """Hosted, and never asks for a merge."""

    def schedule(self, patches: int) -> tuple[int, ...]:
        return (0,) * self.depth


def check_tokens(tokens: VisualTokens, shape: TokenShape, frames: int, patches: int) -> None:
    """Whether tokens of `frames` frames of `patches` patches have the announced shape and keep the accounts."""
    features, sizes, sources = tokens.features, tokens.sizes, tokens.sources
    expected = (frames, shape.count, shape.dim)
    require(features.shape == expected, f"features are {tuple(features.shape)}, and shape() announced {expected}")
    require(features.is_floating_point(), f"features are {features.dtype}, expected floating point")
    require(tokens.grid == shape.grid, f"grid is {tokens.grid}, and shape() announced {shape.grid}")
    require(sizes.shape == expected[:2], f"sizes are {tuple(sizes.shape)}, expected {expected[:2]}")
    require(sizes.dtype == torch.float32, f"sizes are {sizes.dtype}, expected float32 (bf16 cannot hold 257)")
    sums = sizes.sum(dim=1)
    require(
        close(sums, torch.full_like(sums, patches)),
        f"sizes sum to {sums.tolist()}, expected {patches} patches: a merged token has the sum of its tokens' sizes, "
        "and the size of a dropped one (and its patches in sources) goes to a token that is kept",
    )
    for name, value in (("clip", tokens.clip), ("time", tokens.time)):
        require(value.shape == (frames,), f"{name} is {tuple(value.shape)}, expected ({frames},)")
    if sources is None:
        return
    require(sources.shape == (frames, patches), f"sources are {tuple(sources.shape)}, expected {(frames, patches)}")
    require(sources.dtype == torch.int64, f"sources are {sources.dtype}, expected int64")
    counted = torch.zeros_like(sizes).scatter_add(1, sources, torch.ones(sources.shape))
    require(torch.equal(counted, sizes), "sources send other numbers of patches to the tokens than sizes say")


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
        f"transform.patch_size is {encoder.transform.patch_size}, and patch_size is {encoder.patch_size}",
    )
    require(pickle.loads(pickle.dumps(encoder.transform)) == encoder.transform, "transform does not survive pickling")


def _check_tokens(encoder: Encoder, frames: Tensor) -> None:
    height, width = frames.shape[2:]
    shape = encoder.shape(height, width)
    require(shape.dim == encoder.dim, f"shape() announces {shape.dim} channels, and dim is {encoder.dim}")
    before = frames.clone()
    with torch.no_grad():
        tokens, kept = encoder(frames), encoder(frames, keep_sources=True)
    require(torch.equal(frames, before), "forward changed the frames it was given: copy before writing")
    require(tokens.sources is None, "sources are given though nobody asked: keep them under keep_sources=True only")
    require(kept.sources is not None, "sources are None though keep_sources=True asked for them")
    for answer in (tokens, kept):
        check_tokens(answer, shape, len(frames), shape.count)


def _check_batch(encoder: Encoder, frames: Tensor) -> None:
    with torch.no_grad():
        together = encoder(frames).features
        alone = torch.cat([encoder(frame[None]).features for frame in frames])
    require(close(together, alone), "a frame's tokens depend on the other frames of its batch")


def _check_hosting(encoder: Encoder, frames: Tensor) -> None:
    shape = encoder.shape(*frames.shape[2:])
    size = {"dim": encoder.dim, "depth": encoder.depth}
    merging, idle = MergeFirstPair(**size), MergeNothing(**size)
    with torch.no_grad():
        plain, unmerged = encoder(frames), encoder(frames, idle)
        merged, kept = encoder(frames, merging), encoder(frames, merging, keep_sources=True)
    require(
        torch.equal(plain.features, unmerged.features), "hosting a reducer that merges nothing changes the features"
    )
    check_tokens(merged, merging.shape(shape), len(frames), shape.count)
    check_tokens(kept, merging.shape(shape), len(frames), shape.count)
    expected = torch.ones_like(merged.sizes)
    expected[:, 0] += encoder.depth
    require(torch.equal(merged.sizes, expected), "a merge in every block did not add up: merge once in every block")
    check_module(encoder, lambda part: part(frames, merging).features)


def _frames(count: int, height: int, width: int) -> Tensor:
    """Frames of noise, the same on every call: [F, 3, H, W] uint8."""
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
