"""Families of vision towers in transformers: layers, embeddings, constants.

Legend: F frames, H and W pixels, R x C patches (P in total), N tokens, D channels, h heads, d channels per head.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.dinov2.modeling_dinov2 import Dinov2Layer
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer
from transformers.models.siglip2.modeling_siglip2 import Siglip2EncoderLayer

from composer.blocks import host, proportional_attention
from composer.parts import BlockReducer, BlockTokens, Grid

Color = tuple[float, float, float]
Embed = Callable[[Any, Tensor], tuple[Tensor, Grid]]

HALF: Color = (0.5, 0.5, 0.5)
CLIP_MEAN: Color = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Color = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Color = (0.485, 0.456, 0.406)
IMAGENET_STD: Color = (0.229, 0.224, 0.225)


class Family(NamedTuple):
    """Description of an architecture.

    Attributes:
        config: Config class.
        model: Model class.
        layer: Layer class that can run a reducer.
        layers: Name of the list of layers.
        norm: Name of the final norm.
        embed: Function from (tower, pixels [F, 3, H, W]) to ([F, prefix + P, D], (R, C)), the input of the first block.
        mean: Mean of the pixels, from 0 to 1.
        std: Standard deviation of the pixels, from 0 to 1.
        processor: Name of the image processor class, which imports torchvision.
    """

    config: type[Any]
    model: type[PreTrainedModel]
    layer: type[nn.Module]
    layers: str
    norm: str
    embed: Embed
    mean: Color
    std: Color
    processor: str


class ClipLikeLayer(nn.Module):
    """Layer of SigLIP, SigLIP2 or CLIP that can run a reducer between attention and MLP."""

    self_attn: nn.Module
    layer_norm1: nn.Module
    layer_norm2: nn.Module
    mlp: nn.Module

    def forward(self, tokens: BlockTokens, reducer: BlockReducer | None, r: int, prefix: int) -> BlockTokens:
        return host(tokens, reducer, r, prefix, attention=self._attention, mlp=self._mlp)

    def _attention(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        attn: Any = self.self_attn
        x = self.layer_norm1(x)
        dropout = attn.dropout if self.training else 0.0
        values, keys = attend(attn.q_proj(x), attn.k_proj(x), attn.v_proj(x), attn.num_heads, sizes, dropout)
        return attn.out_proj(values), keys

    def _mlp(self, x: Tensor) -> Tensor:
        return self.mlp(self.layer_norm2(x))


class Dinov2LikeLayer(nn.Module):
    """Layer of DINOv2 that can run a reducer between attention and MLP."""

    attention: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    layer_scale1: nn.Module
    layer_scale2: nn.Module
    drop_path: nn.Module

    def forward(self, tokens: BlockTokens, reducer: BlockReducer | None, r: int, prefix: int) -> BlockTokens:
        return host(tokens, reducer, r, prefix, attention=self._attention, mlp=self._mlp)

    def _attention(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        q_proj, k_proj, v_proj, out_proj, heads = self._projections()
        x = self.norm1(x)
        values, keys = attend(q_proj(x), k_proj(x), v_proj(x), heads, sizes)
        return self.drop_path(self.layer_scale1(out_proj(values))), keys

    def _mlp(self, x: Tensor) -> Tensor:
        return self.drop_path(self.layer_scale2(self.mlp(self.norm2(x))))

    def _projections(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module, int]:
        """Projections of queries, keys, values and output, and the number of heads."""
        attn: Any = self.attention
        if hasattr(attn, "q_proj"):
            return attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, attn.num_attention_heads
        inner = attn.attention  # before transformers 5.20
        return inner.query, inner.key, inner.value, attn.output.dense, inner.num_attention_heads


class HostSiglipLayer(ClipLikeLayer, SiglipEncoderLayer): ...


class HostSiglip2Layer(ClipLikeLayer, Siglip2EncoderLayer): ...


class HostClipLayer(ClipLikeLayer, CLIPEncoderLayer): ...


class HostDinov2Layer(Dinov2LikeLayer, Dinov2Layer): ...


class HostDinov2RegistersLayer(Dinov2LikeLayer, Dinov2WithRegistersLayer): ...


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, sizes: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Compute attention.

    Args:
        q: Projected queries [F, N, D].
        k: Projected keys [F, N, D].
        v: Projected values [F, N, D].
        heads: Number of heads.
        sizes: Sizes of tokens [F, N]; None if all are equal.
        dropout: Probability of dropout.

    Returns:
        Output before the last projection [F, N, D], and keys [F, h, N, d].
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return proportional_attention(q, k, v, sizes, dropout).transpose(1, 2).flatten(2), k


def embed_siglip(tower: SiglipVisionModel, pixels: Tensor) -> tuple[Tensor, Grid]:
    """Embed the patches of SigLIP; see `Family.embed`."""
    embeddings = tower.embeddings
    x, grid = _patches(embeddings.patch_embedding, pixels)
    return x + resample(embeddings.position_embedding.weight, grid), grid


def embed_siglip2(tower: Siglip2VisionModel, pixels: Tensor) -> tuple[Tensor, Grid]:
    """Embed the patches of SigLIP2; see `Family.embed`."""
    embeddings = tower.embeddings
    side = embeddings.patch_size
    x = pixels.unfold(2, side, side).unfold(3, side, side)  # [F, 3, R, C, side, side]
    grid = (x.shape[2], x.shape[3])
    x = embeddings.patch_embedding(x.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2))
    table = embeddings.position_embedding.weight
    return x + resample(table, grid, mode="bilinear", antialias=True), grid


def embed_clip(tower: CLIPVisionModel, pixels: Tensor) -> tuple[Tensor, Grid]:
    """Embed the patches of CLIP; see `Family.embed`."""
    embeddings = tower.embeddings
    x, grid = _patches(embeddings.patch_embedding, pixels)
    table = embeddings.position_embedding.weight
    first = (embeddings.class_embedding + table[0]).expand(x.shape[0], 1, -1)
    return tower.pre_layrnorm(torch.cat([first, x + resample(table[1:], grid)], dim=1)), grid


def embed_dinov2(tower: Dinov2Model, pixels: Tensor) -> tuple[Tensor, Grid]:
    """Embed the patches of DINOv2; see `Family.embed`."""
    embeddings = tower.embeddings
    x, grid = _patches(embeddings.patch_embeddings.projection, pixels)
    table = embeddings.position_embeddings[0]
    first = (embeddings.cls_token + table[:1]).expand(x.shape[0], -1, -1)
    return torch.cat([first, x + resample(table[1:], grid)], dim=1), grid


def embed_dinov2_registers(tower: Dinov2WithRegistersModel, pixels: Tensor) -> tuple[Tensor, Grid]:
    """Embed the patches of DINOv2 with registers; see `Family.embed`."""
    embeddings = tower.embeddings
    x, grid = _patches(embeddings.patch_embeddings.projection, pixels)
    table = embeddings.position_embeddings[0]
    first = (embeddings.cls_token + table[:1]).expand(x.shape[0], -1, -1)
    registers = embeddings.register_tokens.expand(x.shape[0], -1, -1)
    return torch.cat([first, registers, x + resample(table[1:], grid, antialias=True)], dim=1), grid


def resample(table: Tensor, grid: Grid, *, mode: str = "bicubic", antialias: bool = False) -> Tensor:
    """Interpolate position embeddings in fp32.

    Args:
        table: Embeddings of a square grid [side * side, D].
        grid: Rows and columns (R, C).
        mode: Mode of `torch.nn.functional.interpolate`.
        antialias: Whether to use antialiasing.

    Returns:
        Embeddings of the grid [R * C, D], row by row.
    """
    side = math.isqrt(table.shape[0])
    if grid == (side, side):
        return table
    square = table.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resampled = nn.functional.interpolate(square, size=grid, mode=mode, align_corners=False, antialias=antialias)
    return resampled[0].flatten(1).T.to(table.dtype)


def _patches(convolution: nn.Module, pixels: Tensor) -> tuple[Tensor, Grid]:
    x = convolution(pixels)
    return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


FAMILIES = {
    "siglip": Family(
        SiglipVisionConfig,
        SiglipVisionModel,
        HostSiglipLayer,
        "layers",
        "post_layernorm",
        embed_siglip,
        HALF,
        HALF,
        "SiglipImageProcessor",
    ),
    "siglip2": Family(
        Siglip2VisionConfig,
        Siglip2VisionModel,
        HostSiglip2Layer,
        "layers",
        "post_layernorm",
        embed_siglip2,
        HALF,
        HALF,
        "Siglip2ImageProcessor",
    ),
    "clip": Family(
        CLIPVisionConfig,
        CLIPVisionModel,
        HostClipLayer,
        "layers",
        "post_layernorm",
        embed_clip,
        CLIP_MEAN,
        CLIP_STD,
        "CLIPImageProcessor",
    ),
    "dinov2": Family(
        Dinov2Config,
        Dinov2Model,
        HostDinov2Layer,
        "layer",
        "layernorm",
        embed_dinov2,
        IMAGENET_MEAN,
        IMAGENET_STD,
        "BitImageProcessor",
    ),
    "dinov2-registers": Family(
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        HostDinov2RegistersLayer,
        "layer",
        "layernorm",
        embed_dinov2_registers,
        IMAGENET_MEAN,
        IMAGENET_STD,
        "BitImageProcessor",
    ),
}
