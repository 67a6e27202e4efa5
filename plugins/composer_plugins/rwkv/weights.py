"""Reading RWKV's weights, wherever they are and in whatever layout. Nothing that is read can run code."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from composer.errors import CheckpointError
from composer_plugins.rwkv.layouts import Weights, detect, to_official

KEY = "model.backbone.pretrained"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_weights(pretrained: str, revision: str | None, version: str) -> Weights:
    """The weights of an RWKV-6 or RWKV-7 model under the author's names.

    pretrained: a .pth or .safetensors file, a folder with (sharded) safetensors or .bin files, or on the hub
    'owner/repo:file' or 'owner/repo'; in the author's layout, fla's, or that of the RWKV-6 repositories with own code.
    Raises CheckpointError where they are missing, damaged, refused, or not of this version.
    """
    weights: Weights = {}
    for path in _locate(pretrained, revision):
        weights |= _read(path)
    found = detect(weights)
    if found is None:
        names = ", ".join(sorted(weights)[:3]) or "nothing"
        raise CheckpointError(
            f"{KEY}: {pretrained} is not RWKV's: found {names}, ...; expected the names of BlinkDL's files, fla's or "
            f"those of the RWKV repositories. Take a file of BlinkDL/rwkv-{version}-world."
        )
    layout, its_version = found
    if its_version != version:
        component = f"the backbone rwkv{its_version}" if its_version in "67" else "RWKV-6 or RWKV-7, which composer has"
        raise CheckpointError(
            f"{KEY}: {pretrained} holds RWKV-{its_version}, and this backbone is RWKV-{version}: use {component}, or a "
            f"file of BlinkDL/rwkv-{version}-world."
        )
    return to_official(weights, layout, version)


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
        raise CheckpointError(f"{KEY}: {source} is not a whole model: {'; '.join(problems[:3])}{more}.")


def _locate(pretrained: str, revision: str | None) -> list[Path]:
    """The files that hold the weights."""
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
            f"{KEY}: got {pretrained!r}, which is no file or folder here and not 'owner/repo' or 'owner/repo:file' on "
            "the hub, such as BlinkDL/rwkv-6-world:RWKV-x060-World-1B6-v2.1-20240328-ctx4096.pth."
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
        raise CheckpointError(f"{KEY}: {pretrained} cannot be fetched: {error}") from error


def _shards(names: list[str], path_of: Any, source: str) -> list[Path]:
    """The weight files among a folder's files: what its index names, or all safetensors, or all .bin files."""
    for index in INDEXES:
        if index in names:
            wanted = sorted(set(json.loads(path_of(index).read_text())["weight_map"].values()))
            if missing := [name for name in wanted if name not in names]:
                raise CheckpointError(f"{KEY}: {source} lacks {', '.join(missing)}, which its {index} names.")
            return [path_of(name) for name in wanted]
    for suffix in (".safetensors", ".bin"):
        if wanted := [name for name in names if name.endswith(suffix) and "/" not in name]:
            return [path_of(name) for name in wanted]
    files = [name for name in names if name.endswith(".pth")]
    hint = f" Name one of its files: {source}:{files[0]}." if files else ""
    raise CheckpointError(f"{KEY}: {source} has no *.safetensors or *.bin file.{hint}")


def _read(path: Path) -> Weights:
    """The tensors of one file, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except SafetensorError as error:
        raise CheckpointError(f"{KEY}: {path} cannot be read: it is truncated, or no safetensors ({error}).") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{KEY}: {path} {_refusal(path, error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{KEY}: {path} cannot be read: it is truncated or damaged ({reason}).") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        held = type(weights).__name__
        if isinstance(weights, dict):
            name, value = next((n, v) for n, v in weights.items() if not isinstance(v, Tensor))
            held = f"a dict whose {name!r} is of type {type(value).__name__}"
        raise CheckpointError(f"{KEY}: {path} holds {held}, expected a dict of tensors and nothing else.")
    return weights


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _refusal(path: Path, error: Exception) -> str:
    """Why unpickling stopped: the file is something else, or it holds more than tensors."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"<"):
        return "is a web page, not weights: download the file itself (on the hub, its 'resolve' address)."
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not weights: run `git lfs pull`."
    if not start.startswith((b"PK", b"\x80")):
        return "is not a file of torch.save."
    return (
        "holds more than tensors, so reading it could run code; it was not read "
        f"({str(error).splitlines()[0]}). Take weights from their author, or a safetensors file."
    )
