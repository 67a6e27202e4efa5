"""Vision towers of open_clip, by model name."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from composer.errors import ComposeError
from composer.transform import Resize
from composer_plugins.openclip.tower import Tower, siglip

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

RESIZE: dict[str, Resize] = {"shortest": "center-crop", "longest": "pad", "squash": "squash"}
"""Resize modes by open_clip's names."""


def named_tower(model: str, pretrained: str | None) -> Tower:
    """Return the tower of an open_clip model.

    Args:
        model: Name of the model.
        pretrained: Tag, whose normalization and resizing are used, or a local file; None for random weights.

    Returns:
        The tower.

    Raises:
        ComposeError: If open_clip does not have the model, or its tower is not a plain ViT.
    """
    tower = _architecture(model)
    if pretrained is None or Path(pretrained).is_file():
        return tower
    import open_clip  # takes seconds

    tag = open_clip.get_pretrained_cfg(model, pretrained)
    return tower._replace(
        mean=tag.get("mean", tower.mean),
        std=tag.get("std", tower.std),
        resize=RESIZE.get(tag.get("resize_mode", ""), tower.resize),
        resample="bilinear" if tag.get("interpolation") == "bilinear" else "bicubic",
    )


def _architecture(model: str) -> Tower:
    """Return the tower of a model, with the normalization of its family."""
    config = open_clip_config(model)
    if config is None:
        raise ComposeError(f"model.encoder.model: open_clip has no model {model!r}; see open_clip.list_models()")
    vision = config["vision_cfg"]
    name = vision.get("timm_model_name")
    if name is None and not _is_plain_clip(vision):
        raise ComposeError(f"model.encoder.model: the tower of {model!r} is not a plain ViT; use a SigLIP or CLIP ViT")
    if name is None:
        return _clip(vision, quick_gelu=config.get("quick_gelu", False))
    if "siglip" not in name:
        raise ComposeError(f"model.encoder.model: the tower of {model!r} is timm's {name}; use a SigLIP or CLIP ViT")
    return siglip(name, {"img_size": vision["image_size"]})


def open_clip_config(model: str) -> dict[str, Any] | None:
    """Return the configuration of one of open_clip's models, None if it has no such model.

    It is read from open_clip's files as `open_clip.get_model_config` does: importing open_clip takes seconds.
    """
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    files = {path.stem: path for path in Path(package.origin).with_name("model_configs").glob("*.json")}
    if model not in files:
        return None
    config: dict[str, Any] = json.loads(files[model].read_text(encoding="utf-8"))
    return config


def _clip(vision: dict[str, Any], *, quick_gelu: bool) -> Tower:
    """Return the tower of a model with open_clip's own ViT, with the options of timm's equivalent ViT."""
    options = {
        "img_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "embed_dim": vision["width"],
        "depth": vision["layers"],
        "num_heads": vision["width"] // vision.get("head_width", 64),
        "mlp_ratio": vision.get("mlp_ratio", 4.0),
        "act_layer": "quick_gelu" if quick_gelu else "gelu",
    }
    return Tower("vit_base_patch32_clip_224", options, CLIP_MEAN, CLIP_STD, "center-crop")


def _is_plain_clip(vision: dict[str, Any]) -> bool:
    known = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
    return set(vision) <= known and isinstance(vision["layers"], int)
