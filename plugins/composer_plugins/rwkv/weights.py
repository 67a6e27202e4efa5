"""Official RWKV-6 weights: where they are, and the sizes that their shapes tell."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from composer.errors import CheckpointError


def read_weights(pretrained: str, revision: str | None, version: str) -> dict[str, Tensor]:
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
    mark = {"6": "blocks.0.att.time_maa_w1", "7": "blocks.0.att.r_k"}[version]
    if not isinstance(weights, dict) or mark not in weights:
        found = ", ".join(sorted(map(str, weights))[:3]) if isinstance(weights, Mapping) else type(weights).__name__
        raise CheckpointError(
            f"{path}: expected the author's layout of RWKV-{version}, with {mark}; found {found}, ... "
            f"Take a file of BlinkDL/rwkv-{version}-world."
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


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size], source: str) -> None:
    """Raise CheckpointError where a parameter is missing, left over, or of another shape than `expected`."""
    problems = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in weights]
    problems += [f"{name} {list(weights[name].shape)} is not expected" for name in weights if name not in expected]
    problems += [
        f"{name} is {list(weights[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems[:3])}{more}.")
