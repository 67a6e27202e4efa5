"""Reading of RWKV weights from files, folders or the hub, in any layout. No code from files is run."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from composer.errors import CheckpointError
from composer_plugins.rwkv.layouts import Weights, detect, to_official

KEY = "model.backbone.pretrained"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_weights(pretrained: str, revision: str | None, version: str) -> Weights:
    """Read the weights of an RWKV-6 or RWKV-7 model.

    Args:
        pretrained: A .pth or .safetensors file, a folder with (sharded) safetensors or .bin files, or on the hub
            'owner/repo:file' or 'owner/repo'; in any layout of `composer_plugins.rwkv.layouts`.
        revision: Commit, tag or branch on the hub.
        version: "6" or "7".

    Returns:
        Weights by the author's names.

    Raises:
        CheckpointError: If the weights are missing, damaged, unsafe, or of a different version.
    """
    weights: Weights = {}
    for path in _locate(pretrained, revision):
        weights |= _read(path)
    detected = detect(weights)
    if detected is None:
        names = ", ".join(sorted(weights)[:3]) or "nothing"
        raise CheckpointError(
            f"{KEY}: {pretrained} is not an RWKV model: got {names}, ..., expected the names of BlinkDL's files, fla "
            f"or the RWKV repositories; use a file of BlinkDL/rwkv-{version}-world"
        )
    layout, its_version = detected
    if its_version != version:
        component = f"the backbone rwkv{its_version}" if its_version in "67" else "RWKV-6 or RWKV-7"
        raise CheckpointError(
            f"{KEY}: {pretrained} is RWKV-{its_version}, but this backbone is RWKV-{version}: use {component}, or a "
            f"file of BlinkDL/rwkv-{version}-world"
        )
    return to_official(weights, layout, version)


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size], source: str) -> None:
    """Check that weights are complete.

    Args:
        weights: The weights.
        expected: Shape of each parameter.
        source: Name of the weights, for messages.

    Raises:
        CheckpointError: If a parameter is missing, unexpected, or has a different shape.
    """
    problems = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in weights]
    problems += [f"{name} {list(weights[name].shape)} is not expected" for name in weights if name not in expected]
    problems += [
        f"{name} is {list(weights[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{KEY}: {source} does not match the model: {'; '.join(problems[:3])}{more}")


def _locate(pretrained: str, revision: str | None) -> list[Path]:
    """Find the files with the weights; those on the hub are downloaded."""
    path = Path(pretrained)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _shards(sorted(file.name for file in path.iterdir()), lambda name: path / name, pretrained)
    repository, _, file = pretrained.partition(":")
    if (
        path.is_absolute()
        or repository.count("/") != 1
        or (path.suffix in (".pth", ".safetensors", ".bin") and not file)
    ):
        raise CheckpointError(
            f"{KEY}: got {pretrained!r}, expected an existing file or folder, or 'owner/repo' or 'owner/repo:file' on "
            "the hub, for example BlinkDL/rwkv-6-world:RWKV-x060-World-1B6-v2.1-20240328-ctx4096.pth"
        )
    from huggingface_hub import HfApi, hf_hub_download

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(repository, name, revision=revision))

    try:
        if file:
            return [fetch(file)]
        return _shards(HfApi().list_repo_files(repository, revision=revision), fetch, pretrained)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{KEY}: {pretrained} cannot be downloaded: {error}") from error


def _shards(names: list[str], path_of: Callable[[str], Path], source: str) -> list[Path]:
    """Select the weight files of a folder: those in its index, or all safetensors, or all .bin files."""
    for index in INDEXES:
        if index in names:
            shards = sorted(set(json.loads(path_of(index).read_text())["weight_map"].values()))
            if missing := [name for name in shards if name not in names]:
                raise CheckpointError(
                    f"{KEY}: {source} has no {', '.join(missing)}, which {index} lists; download it again"
                )
            return [path_of(name) for name in shards]
    for suffix in (".safetensors", ".bin"):
        if shards := [name for name in names if name.endswith(suffix) and "/" not in name]:
            return [path_of(name) for name in shards]
    files = [name for name in names if name.endswith(".pth")]
    hint = f"; select one of its files: {source}:{files[0]}" if files else ""
    raise CheckpointError(f"{KEY}: {source} has no *.safetensors or *.bin file{hint}")


def _read(path: Path) -> Weights:
    """Read the tensors of one file to the CPU."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except SafetensorError as error:
        raise CheckpointError(f"{KEY}: {path} cannot be read: it is truncated or not safetensors ({error})") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{KEY}: {path} {_refusal(path, error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{KEY}: {path} cannot be read: it is truncated or damaged ({reason})") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        content = type(weights).__name__
        if isinstance(weights, dict):
            name, value = next((n, v) for n, v in weights.items() if not isinstance(v, Tensor))
            content = f"a dict whose {name!r} is of type {type(value).__name__}"
        raise CheckpointError(f"{KEY}: {path}: got {content}, expected a dict of tensors")
    return weights


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _refusal(path: Path, error: Exception) -> str:
    """Explain why a file cannot be unpickled: it has a different format, or contains more than tensors."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"<"):
        return "is a web page, not weights: download the file itself (on the hub, the URL with 'resolve')"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not weights: run `git lfs pull`"
    if not start.startswith((b"PK", b"\x80")):
        return "is not a file written by torch.save"
    return (
        "contains more than tensors, so reading it could run code; it was not read "
        f"({str(error).splitlines()[0]}): use weights from their author, or a safetensors file"
    )
