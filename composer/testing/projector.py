"""Conformance of projectors."""

import torch
from torch import Tensor

from composer.parts import Projector
from composer.testing.module import check_module, close, require


def check_projector(projector: Projector) -> None:
    """Check that a projector follows the contract of `composer.parts.Projector`. Leaves it in eval mode.

    Args:
        projector: A small projector on the CPU.

    Raises:
        AssertionError: If the contract is broken. Names what to fix.
    """
    projector.eval()
    features = _features(projector.in_dim)
    before = features.clone()
    with torch.no_grad():
        projected = projector(features)
        alone = torch.stack([projector(frame) for frame in features])
    expected = (*features.shape[:-1], projector.out_dim)
    require(projected.shape == expected, f"the output is {tuple(projected.shape)}, expected {expected}")
    require(projected.is_floating_point(), f"the output is {projected.dtype}, expected floating point")
    require(torch.equal(features, before), "forward changed its input features: copy them before writing")
    require(close(projected, alone), "a frame's tokens depend on the other frames, or on the number of dimensions")
    check_module(projector, lambda part: part(_features(projector.in_dim)))
    leaf = _features(projector.in_dim).requires_grad_(True)
    projector(leaf).square().sum().backward()
    require(leaf.grad is not None, "no gradient reaches the features: the encoder could not be trained")


def _features(channels: int) -> Tensor:
    """Create features of 2 frames of 5 tokens, equal on every call: [2, 5, channels]."""
    return torch.randn(2, 5, channels, generator=torch.Generator().manual_seed(0))
