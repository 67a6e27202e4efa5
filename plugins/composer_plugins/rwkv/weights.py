"""Official RWKV-6 weights: where they are, and the sizes that their shapes tell."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from composer.errors import CheckpointError
from composer_plugins.rwkv.rwkv6 import Sizes


def read_weights(pretrained: str, revision: str | None) -> dict[str, Tensor]:
    """The tensors of a local .pth or .safetensors file, or of one on the hub ('owner/repo:file').

    Raises CheckpointError where the file is missing, unreadable or not in the author's layout of RWKV-6.
    """
    path = _locate(pretrained, revision)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error
    if not isinstance(weights, dict) or "blocks.0.att.time_maa_w1" not in weights:
        found = ", ".join(sorted(map(str, weights))[:3]) if isinstance(weights, Mapping) else type(weights).__name__
        raise CheckpointError(
            f"{path}: expected the author's layout of RWKV-6, with blocks.0.att.time_maa_w1; found {found}, ... "
            "Take a file of BlinkDL/rwkv-6-world."
        )
    return weights


def _locate(pretrained: str, revision: str | None) -> Path:
    path = Path(pretrained)
    if path.is_file():
        return path
    repository, _, file = pretrained.partition(":")
    if not file or path.is_absolute():
        raise CheckpointError(
            f"model.backbone.pretrained: got {pretrained!r}, which is no file here and not 'owner/repo:file' on the "
            "hub, such as BlinkDL/rwkv-6-world:RWKV-x060-World-1B6-v2.1-20240328-ctx4096.pth."
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:
        raise CheckpointError(f"model.backbone.pretrained: {pretrained} cannot be fetched: {error}") from error


def sizes_of(weights: Mapping[str, Tensor]) -> Sizes:
    """The sizes of the model that these weights are for."""
    vocab, width = weights["emb.weight"].shape
    return Sizes(
        vocab=vocab,
        width=width,
        depth=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks.")),
        head=weights["blocks.0.att.time_faaaa"].shape[-1],
        ffn=weights["blocks.0.ffn.key.weight"].shape[0],
        mix_rank=weights["blocks.0.att.time_maa_w2"].shape[1],
        decay_rank=weights["blocks.0.att.time_decay_w1"].shape[1],
    )
