"""A small convolutional encoder. Legend: F frames, H and W pixels, P patches, D channels."""

import torch
from torch import Tensor, nn

from composer.parts import BlockReducer, Encoder, VisualTokens
from composer.transform import FrameTransform


class Block(nn.Module):
    """Mixes neighbors, then channels. Input and output: [F, D, rows, columns]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.neighbors = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channels = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.channels(self.neighbors(x))


class ConvEncoder(Encoder):
    """Encoder with one token per patch, for frames of any size and shape."""

    def __init__(self, *, width: int, depth: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.dim, self.depth, self.patch_size = width, depth, patch_size
        self.transform = FrameTransform(image_size, patch_size)
        self.block_classes = (Block,)
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        pixels = (frames.float() / 127.5 - 1).to(self.patches.weight.dtype)
        x = self.blocks(self.patches(pixels))  # [F, D, rows, columns]
        count, _, rows, columns = x.shape
        features = self.norm(x.flatten(2).transpose(1, 2))  # [F, P, D]
        sources = torch.arange(rows * columns, device=x.device).expand(count, -1)
        return VisualTokens(
            features,
            sizes=torch.ones(count, rows * columns, device=x.device),
            sources=sources if keep_sources else None,
            grid=(rows, columns),
            clip=torch.zeros(count, dtype=torch.int64, device=x.device),
            time=torch.zeros(count, device=x.device),
        )
