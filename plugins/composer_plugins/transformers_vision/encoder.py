"""Vision towers of transformers. Legend: F frames, H and W pixels, P patches, D channels."""

import json
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from composer.blocks import blocks_up_to, run_blocks
from composer.errors import CheckpointError, ComposeError
from composer.parts import BlockReducer, Encoder, Resolved, VisualTokens
from composer.transform import Resize
from composer_plugins.transformers_vision import FamilyName
from composer_plugins.transformers_vision.families import FAMILIES, Family
from composer_plugins.transformers_vision.preprocessor import Preprocessor, read_preprocessor


class TransformersVisionEncoder(Encoder):
    """Encoder with a vision tower of transformers, without pooling head.

    The output is that of the last layer after the final norm, or of an earlier `layer` without it; class and register
    tokens are dropped. Keys of the tower's state dict are those of transformers. Position embeddings are for the
    checkpoint's grid; for other grids, `forward` interpolates them in fp32, as transformers does. Weights are read from
    safetensors only, in fp32, and no code of a repository is run. The buffers `mean` and `std` (of pixels from 0 to
    255) and `transform` are those of the checkpoint's preprocessor_config.json, or of the family; `resize` and
    `image_size` override the transform.

    Raises:
        ComposeError: If the architecture is not one of the families.
        CheckpointError: If the weights cannot be read or are incomplete, or mean or std do not have three channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        pretrained: str | None,
        family: FamilyName | None,
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
        if resolved:
            self.family = FAMILIES[resolved["family"]]
            config = self.family.config.from_dict(resolved["config"])
            self.tower = self.family.model(config)
            preprocessor = Preprocessor(**resolved["preprocessor"])
        elif pretrained is not None:
            self.family, config = _read_config(pretrained)
            self.tower = _read_weights(self.family, config, pretrained)
            preprocessor = read_preprocessor(self.family, pretrained, resize)
        else:
            self.family = FAMILIES[family or "siglip"]
            config = _tiny_config(family or "siglip", image_size or 64, patch_size or 8, width, depth, heads)
            self.tower = self.family.model(config)
            preprocessor = Preprocessor(self.family.mean, self.family.std, like="open_clip")
        self._read = None if pretrained is None else (config, preprocessor)
        layers = blocks_up_to(layer, getattr(self.tower.encoder, self.family.layers))
        for place, native in enumerate(layers):
            layers[place] = _to_host(self.family.layer, native, config)
        setattr(self.tower.encoder, self.family.layers, layers)
        if layer < -1:
            setattr(self.tower, self.family.norm, nn.Identity())
        if getattr(self.tower.embeddings, "mask_token", None) is not None:
            self.tower.embeddings.mask_token = None  # for pretraining only, it would never get a gradient
        self.tower.train()

        self.dim, self.depth, self.patch_size = config.hidden_size, len(layers), config.patch_size
        self.transform = preprocessor.transform(self.patch_size, _native_size(config), resize, image_size)
        self.block_classes = (self.family.layer,)
        self.register_buffer("mean", 255 * torch.tensor(preprocessor.mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(preprocessor.std, dtype=torch.float32)[:, None, None])

    def resolved(self) -> Resolved:
        if self._read is None:
            return {}
        config, preprocessor = self._read
        family = next(name for name, family in FAMILIES.items() if family is self.family)
        plain = json.loads(config.to_json_string(use_diff=False)) | {"_name_or_path": ""}
        return {"family": family, "config": plain, "preprocessor": preprocessor._asdict()}

    def forward(
        self, frames: Tensor, reducer: BlockReducer | None = None, *, keep_sources: bool = False
    ) -> VisualTokens:
        pixels = ((frames.float() - self.mean) / self.std).to(next(self.tower.parameters()).dtype)
        x, grid = self.family.embed(self.tower, pixels)
        return run_blocks(
            getattr(self.tower.encoder, self.family.layers),
            x,
            grid=grid,
            prefix=x.shape[1] - grid[0] * grid[1],
            norm=getattr(self.tower, self.family.norm),
            reducer=reducer,
            keep_sources=keep_sources,
        )


def _tiny_config(
    family: FamilyName, image_size: int, patch_size: int, width: int | None, depth: int | None, heads: int | None
) -> Any:
    """Create the config of a tower with random weights, tiny by default. Raises ComposeError."""
    width, depth, heads = width or 96, depth or 4, heads or 4
    if width % heads:
        raise ComposeError(f"model.encoder: width {width} is not a multiple of heads {heads}; set a divisor")
    sizes: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "patch_size": patch_size,
    }
    if family == "siglip2":
        sizes["num_patches"] = (image_size // patch_size) ** 2
    else:
        sizes["image_size"] = image_size
    if family.startswith("dinov2"):
        sizes["mlp_ratio"] = 4
    else:
        sizes["intermediate_size"] = 4 * width
    if family.startswith("siglip"):
        sizes["vision_use_head"] = False
    return FAMILIES[family].config(**sizes)


def _read_config(pretrained: str) -> tuple[Family, Any]:
    """Read the family and the vision part of a checkpoint's config.json."""
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"model.encoder.pretrained: {pretrained!r} is neither a local folder with a config.json nor a model that "
            f"can be downloaded: {error}"
        ) from error
    config = getattr(config, "vision_config", config)
    for family in FAMILIES.values():
        if config.model_type == family.config.model_type:
            config.vision_use_head = False
            return family, config
    raise ComposeError(
        f"model.encoder.pretrained: {pretrained!r} is a {config.model_type!r}, expected one of {', '.join(FAMILIES)}"
    )


def _read_weights(family: Family, config: Any, pretrained: str) -> PreTrainedModel:
    """Read the tower in fp32; the text tower of a complete CLIP or SigLIP is skipped."""
    try:
        # Lightning builds models inside `with device:`, which transformers treats as device_map; it needs accelerate.
        with torch.device("cpu"):
            tower, info = family.model.from_pretrained(
                pretrained, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"model.encoder.pretrained: weights of {pretrained!r} cannot be read: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"model.encoder.pretrained: {len(missing)} weights of the vision tower are missing in {pretrained!r}, for "
            f"example {missing[0]}"
        )
    return tower


def _to_host(kind: type[nn.Module], layer: nn.Module, config: Any) -> nn.Module:
    """Convert a layer to its subclass that can run a reducer, with the same parameters."""
    with torch.device("meta"):
        host = kind(config)
    host.load_state_dict(layer.state_dict(), assign=True)
    return host


def _native_size(config: Any) -> int:
    """Side in pixels of the square image that the position embeddings are for."""
    if hasattr(config, "num_patches"):
        return math.isqrt(config.num_patches) * config.patch_size
    return config.image_size
