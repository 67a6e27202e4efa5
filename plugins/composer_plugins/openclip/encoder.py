"""SigLIP and CLIP vision towers of open_clip, built as a timm ViT.

Legend: F frames, H and W pixels, P patches, N tokens, D channels, h heads, d channels per head.
"""

from typing import Any

import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from composer.blocks import blocks_up_to, host, proportional_attention, run_blocks
from composer.errors import ComposeError, ConfigError
from composer.parts import BlockReducer, BlockTokens, Encoder, Resolved, VisualTokens
from composer.transform import WHOLE_PATCHES, FrameTransform, Resample, Resize
from composer_plugins.openclip.tower import TINY, Tower
from composer_plugins.openclip.weights import load_weights


class OpenClipEncoder(Encoder):
    """Encoder with a vision tower of open_clip, without pooling head, projection or text tower.

    The output is that of the last block after the final norm, or of an earlier `layer` without it. Keys of the tower's
    state dict are timm's (`tower.blocks.0.attn.qkv.weight`). The position embeddings are a table for a grid of
    `image_size`; for other grids, `forward` interpolates them (bicubic, antialiased, fp32). The buffers `mean` and
    `std` (of pixels from 0 to 255) and `transform` are those of the tag, or of the model family for a local file;
    `resize` and `image_size` override the transform.

    Raises:
        ComposeError: If open_clip does not have the model or the tag, or the tower is not a plain ViT.
        CheckpointError: If the weights do not match the tower.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        model: str | None,
        pretrained: str | None,
        image_size: int | None,
        resize: Resize | None,
        patch_size: int | None,
        width: int | None,
        depth: int | None,
        heads: int | None,
        layer: int = -1,
        resolved: Resolved | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._plan = plan = _plan(model, pretrained) if resolved is None else _stored(model, resolved)
        sizes = {"img_size": image_size, "patch_size": patch_size, "embed_dim": width, "depth": depth}
        options = plan.options | {k: v for k, v in (sizes | {"num_heads": heads}).items() if v is not None}
        self.tower = _build(plan.timm_name, options, model)
        if resolved is None and pretrained is not None:
            load_weights(self.tower, model, pretrained)
        elif resolved is None and plan.is_siglip:
            _initialize_siglip(self.tower)
        self.tower.blocks = blocks_up_to(layer, self.tower.blocks)
        if layer < -1:
            self.tower.norm = nn.Identity()

        embed = self.tower.patch_embed
        self.dim, self.depth, self.patch_size = self.tower.embed_dim, len(self.tower.blocks), embed.patch_size[0]
        self.transform = self._transform(image_size, resize or plan.resize, plan.resample)
        self.block_classes = (HostBlock,)
        self.register_buffer("mean", 255 * torch.tensor(plan.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(plan.std)[:, None, None])

    def resolved(self) -> Resolved:
        return {"model": self._model, **self._plan._asdict()}

    def _transform(self, image_size: int | None, resize: Resize, resample: Resample) -> FrameTransform:
        """Frame transform of the tower. A patch of 14 does not divide SO400M's 384 pixels; complete patches are 378."""
        embed = self.tower.patch_embed
        native = embed.grid_size[0] * self.patch_size if resize in WHOLE_PATCHES else embed.img_size[0]
        return FrameTransform(image_size or native, self.patch_size, resize, resample)

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        tower = self.tower
        height, width = (side // self.patch_size * self.patch_size for side in frames.shape[2:])
        pixels = ((frames[..., :height, :width].float() - self.mean) / self.std).to(tower.patch_embed.proj.weight.dtype)
        x = tower.patch_embed(pixels)  # [F, rows, columns, D]
        rows, columns = x.shape[1:3]
        x = tower.norm_pre(tower._pos_embed(x))
        return run_blocks(
            tower.blocks,
            x,
            grid=(rows, columns),
            prefix=tower.num_prefix_tokens,
            norm=tower.norm,
            reducer=reducer,
            keep_sources=keep_sources,
        )


class HostBlock(Block):
    """Block of timm that can run a reducer between attention and MLP."""

    def forward(self, tokens: BlockTokens, reducer: BlockReducer | None, r: int, prefix: int) -> BlockTokens:
        return host(tokens, reducer, r, prefix, attention=self._attention, mlp=self._mlp)

    def _attention(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output of self-attention for x [F, N, D], without the residual, and its keys [F, h, N, d]."""
        attn = self.attn
        qkv = attn.qkv(self.norm1(x)).unflatten(-1, (3, attn.num_heads, attn.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = attn.q_norm(q), attn.k_norm(k)
        dropout = attn.attn_drop.p if self.training else 0.0
        values = proportional_attention(q, k, v, sizes, dropout).transpose(1, 2).flatten(2)
        return self.drop_path1(self.ls1(attn.proj_drop(attn.proj(attn.norm(values))))), k

    def _mlp(self, x: Tensor) -> Tensor:
        return self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


@torch.no_grad()
def _initialize_siglip(tower: VisionTransformer) -> None:
    """Initialize like SigLIP (big_vision, models/vit.py): Xavier; positions with standard deviation 1 / sqrt(width)."""
    tower.init_weights("jax", needs_reset=False)
    nn.init.normal_(tower.pos_embed, std=tower.embed_dim**-0.5)


def _plan(model: str | None, pretrained: str | None) -> Tower:
    if model is None:
        return TINY
    from composer_plugins.openclip.named import named_tower  # open_clip takes seconds to import

    return named_tower(model, pretrained)


def _stored(model: str | None, resolved: Resolved) -> Tower:
    """Return the tower of a checkpoint. Raises ConfigError if `model` is different."""
    plan = dict(resolved)
    trained = plan.pop("model")
    if model != trained:
        raise ConfigError(f"model.encoder.model: got {model!r}, but the checkpoint has {trained!r}: remove it")
    return Tower(**plan)


def _build(timm_name: str, options: dict[str, Any], model: str | None) -> VisionTransformer:
    width, heads = options.get("embed_dim"), options.get("num_heads")
    try:
        return timm.create_model(
            timm_name, num_classes=0, global_pool="", dynamic_img_size=True, block_fn=HostBlock, **options
        )
    except AssertionError as error:
        raise ComposeError(
            f"model.encoder: cannot build {model or 'a tower'} with width {width} and {heads} heads: {error}: "
            "set heads to a divisor of the width"
        ) from error
