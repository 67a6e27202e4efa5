"""Loading of vision tower weights from open_clip's tags and local files, in all public layouts."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from composer.errors import CheckpointError, ComposeError

# Names of open_clip's ViT and of timm's. Replacements are applied in this order.
OWN_VIT_TO_TIMM = (
    ("conv1.", "patch_embed.proj."),
    ("class_embedding", "cls_token"),
    ("positional_embedding", "pos_embed"),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    ("attn.in_proj_", "attn.qkv."),
    ("attn.out_proj.", "attn.proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)
POOLING = ("attn_pool.", "fc_norm.", "head.", "proj")


def load_weights(tower: VisionTransformer, model: str | None, pretrained: str) -> None:
    """Load the weights of a tower.

    Args:
        tower: Tower to load into.
        model: Name of the model in open_clip; None for a tower without a name.
        pretrained: Local file, or tag of open_clip.

    Raises:
        ComposeError: If open_clip does not have the tag.
        CheckpointError: If the weights cannot be read or do not match the tower.
    """
    path = Path(pretrained) if Path(pretrained).is_file() else _download(model, pretrained)
    state = tower_state(read_state(path), path)
    grid = tower.patch_embed.grid_size
    if "pos_embed" in state:
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"], new_size=list(grid), num_prefix_tokens=tower.num_prefix_tokens
        )
    _check(state, tower.state_dict(), path)
    tower.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .bin or .pt file, without running code from it. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"model.encoder.pretrained: {path} cannot be read: {error}; expected .safetensors, or a state dict "
            "saved with torch.save"
        ) from error
    return content.get("state_dict", content)


def tower_state(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Extract a tower's tensors, with timm's names.

    Args:
        state: Tensors of a complete CLIP, of a tower, or of a timm model.
        path: File of the tensors, for messages.

    Returns:
        Tensors of the tower.

    Raises:
        CheckpointError: If there is no vision tower.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    for prefix in ("visual.trunk.", "trunk.", "visual."):
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            break
    if "conv1.weight" in state:
        state = {_timm_name(key): value for key, value in state.items()}
        state["cls_token"] = state["cls_token"].reshape(1, 1, -1)
        state["pos_embed"] = state["pos_embed"][None]
    state = {key: value for key, value in state.items() if not key.startswith(POOLING)}
    if "patch_embed.proj.weight" not in state:
        raise CheckpointError(
            f"model.encoder.pretrained: {path} has no vision tower: got keys "
            f"{', '.join(list(state)[:3]) or 'none'}, expected for example visual.trunk.patch_embed.proj.weight or "
            "visual.conv1.weight"
        )
    return state


def _timm_name(key: str) -> str:
    for own, timm_name in OWN_VIT_TO_TIMM:
        key = key.replace(own, timm_name)
    return key


def _download(model: str | None, tag: str) -> Path:
    """Download the file of a tag. Raises ComposeError if open_clip does not have it, CheckpointError if that fails."""
    if model is None:
        raise ComposeError(
            f"model.encoder.pretrained: {tag!r} is not a file, and an open_clip tag also needs model.encoder.model"
        )
    import open_clip  # takes seconds to import

    config = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ComposeError(
            f"model.encoder.pretrained: got {tag!r}, expected an existing file or a tag of {model}: {tags}"
        )
    if config.get("quick_gelu", False) and not open_clip.get_model_config(model).get("quick_gelu", False):
        raise ComposeError(f"model.encoder.pretrained: {tag!r} was trained with QuickGELU: use model {model}-quickgelu")
    try:
        return Path(open_clip.download_pretrained(config))
    except Exception as error:
        raise CheckpointError(
            f"model.encoder.pretrained: {tag!r} of {model} cannot be downloaded: {error}; use a local file instead"
        ) from error


def _check(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if tensors are missing, unexpected, or have a different shape."""
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = shapes + [f"{key} is missing" for key in missing] + [f"{key} is not expected" for key in extra]
    if problems:
        raise CheckpointError(
            f"model.encoder.pretrained: {path} does not match the tower ({len(problems)} differences): "
            f"{'; '.join(problems[:3])}; check model, width, depth and patch_size"
        )
