"""`composer convert` for RWKV: conversion of weights between layouts."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from composer.atomic import replacing
from composer.errors import ConfigError
from composer_plugins.rwkv.backbone import RWKV6Backbone, RWKV7Backbone, RWKVBackbone
from composer_plugins.rwkv.layouts import Weights, from_official
from composer_plugins.rwkv.sizes import RWKV6Sizes, RWKV7Sizes
from composer_plugins.rwkv.weights import check_weights, read_weights


def convert_rwkv6(source: str, target: Path, layout: str, revision: str | None) -> None:
    """Convert RWKV-6 weights to another layout, with the same dtype.

    Args:
        source: Weights, as in the option `pretrained`.
        target: File or folder to write.
        layout: `official` for a .pth file; `safetensors` for a file with the author's names; `fla` or `hf` for a folder
            with model.safetensors and config.json.
        revision: Commit, tag or branch on the hub.

    Raises:
        CheckpointError: If the weights cannot be used.
        ConfigError: If the suffix of `target` does not match the layout.
    """
    _convert(RWKV6Backbone, source, target, layout, revision)


def convert_rwkv7(source: str, target: Path, layout: str, revision: str | None) -> None:
    """Convert RWKV-7 weights, like `convert_rwkv6`; there is no layout `hf`."""
    _convert(RWKV7Backbone, source, target, layout, revision)


def _convert(backbone: type[RWKVBackbone], source: str, target: Path, layout: str, revision: str | None) -> None:
    suffix = {"official": ".pth", "safetensors": ".safetensors"}.get(layout, "")
    if target.suffix not in (suffix, "") if suffix else target.suffix in (".pth", ".safetensors"):
        raise ConfigError(
            f"TARGET: got {target}, but --to {layout} writes a {f'file *{suffix}' if suffix else 'folder'}"
        )
    weights = read_weights(source, revision, backbone.version)
    sizes = backbone.sizes_class.of_weights(weights)
    with torch.device("meta"):
        model = backbone.model_class(sizes)
    check_weights(weights, {name: value.shape for name, value in model.state_dict().items()}, source)
    weights = {name: value.contiguous() for name, value in weights.items()}
    if layout == "official":
        with replacing(target) as temporary, temporary.open("wb") as file:
            torch.save(weights, file)
    elif layout == "safetensors":
        _save(weights, target)
    elif layout == "fla":
        _save(from_official(weights, "fla", backbone.version), target / "model.safetensors")
        _write_config(_fla_config(sizes), target)
    else:
        _save(from_official(weights, "hf", backbone.version), target / "model.safetensors")
        _write_config(_hf_config(sizes), target)


def _save(weights: Weights, path: Path) -> None:
    with replacing(path) as temporary:
        save_file(weights, temporary, {"format": "pt"})


def _write_config(config: dict[str, object], folder: Path) -> None:
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def _fla_config(sizes: RWKV6Sizes | RWKV7Sizes) -> dict[str, object]:
    """Content of config.json for fla's model. RWKV World ends texts with id 0."""
    common = {
        "vocab_size": sizes.vocab,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.depth,
        "intermediate_size": sizes.ffn,
        "hidden_ratio": sizes.ffn / sizes.width,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "norm_eps": 1e-5,  # fla's RWKV-6 uses it for the norm of heads too; the author's eps there is 64e-5
    }
    if isinstance(sizes, RWKV6Sizes):
        return common | {
            "model_type": "rwkv6",
            "architectures": ["RWKV6ForCausalLM"],
            "expand_k": 1.0,
            "num_heads": sizes.heads,
            "proj_low_rank_dim": sizes.mix_rank,
            "gate_low_rank_dim": sizes.decay_rank,
        }
    return common | {
        "model_type": "rwkv7",
        "architectures": ["RWKV7ForCausalLM"],
        "head_dim": sizes.head,
        "decay_low_rank_dim": sizes.decay_rank,
        "a_low_rank_dim": sizes.rate_rank,
        "v_low_rank_dim": sizes.value_rank,
        "gate_low_rank_dim": sizes.gate_rank,
    }


def _hf_config(sizes: RWKV6Sizes | RWKV7Sizes) -> dict[str, object]:
    """Content of config.json of the RWKV-6 repositories, without references to their code."""
    return {
        "model_type": "rwkv6",
        "architectures": ["Rwkv6ForCausalLM"],
        "vocab_size": sizes.vocab,
        "hidden_size": sizes.width,
        "attention_hidden_size": sizes.width,
        "head_size": sizes.head,
        "num_hidden_layers": sizes.depth,
        "intermediate_size": sizes.ffn,
        "layer_norm_epsilon": 1e-5,
    }
