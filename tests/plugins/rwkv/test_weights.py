"""Weights in files, folders and on the hub; and every way in which they can be unusable."""

import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from composer.errors import CheckpointError
from composer_plugins.rwkv.layouts import from_official
from composer_plugins.rwkv.weights import check_weights, read_weights
from tests.plugins.rwkv.author import random_model


@pytest.fixture(scope="module", params=["6", "7"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def weights(version: str) -> dict[str, Tensor]:
    return random_model(version, width=64, depth=2, head_size=32).model.state_dict()


def require_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def contiguous(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in weights.items()}


def shard(weights: dict[str, Tensor], folder: Path) -> None:
    """Two safetensors files and their index, as transformers writes them."""
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in halves.items():
        save_file({name: weights[name].contiguous() for name in chosen}, folder / file)
    index = {"weight_map": {name: file for file, chosen in halves.items() for name in chosen}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_files(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "model.pth")
    require_equal(read_weights(str(tmp_path / "model.pth"), None, version), weights)
    save_file(contiguous(weights), tmp_path / "model.safetensors")
    require_equal(read_weights(str(tmp_path / "model.safetensors"), None, version), weights)
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    require_equal(read_weights(str(tmp_path / "old.pth"), None, version), weights)


def test_folders(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    shard(from_official(weights, "fla", version), tmp_path)
    require_equal(read_weights(str(tmp_path), None, version), weights)
    (tmp_path / "bin").mkdir()
    torch.save(weights, tmp_path / "bin" / "pytorch_model.bin")
    require_equal(read_weights(str(tmp_path / "bin"), None, version), weights)


def test_the_hub(version: str, weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's two calls answered from a folder; the revision reaches both."""
    shard(weights, tmp_path)
    torch.save(weights, tmp_path / "model.pth")
    requests: list[Any] = []

    def download(repository: str, name: str, revision: str | None = None) -> str:
        requests.append((repository, name, revision))
        return str(tmp_path / name)

    def files(_: Any, repository: str, revision: str | None = None) -> list[str]:
        requests.append((repository, revision))
        return sorted(os.listdir(tmp_path))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", files)
    require_equal(read_weights("owner/repo:model.pth", "abc", version), weights)
    assert requests == [("owner/repo", "model.pth", "abc")]
    require_equal(read_weights("owner/repo", "abc", version), weights)
    assert ("owner/repo", "abc") in requests
    for path in tmp_path.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"select one of its files: owner/repo:model\.pth"):
        read_weights("owner/repo", None, version)


def refused(path: Path | str, version: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_weights(str(path), None, version)


def test_missing_and_damaged_files(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    refused(tmp_path / "missing.pth", version, r"expected an existing file or folder, or 'owner/repo'")
    refused("missing.pth", version, "expected an existing file or folder")
    refused("some/missing.pth", version, "expected an existing file or folder")
    torch.save(weights, tmp_path / "full.pth")
    content = (tmp_path / "full.pth").read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 10):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        refused(tmp_path / "cut.pth", version, r"cut\.pth (cannot be read|is not a file)")
    save_file(contiguous(weights), tmp_path / "full.safetensors")
    content = (tmp_path / "full.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-10])
    refused(tmp_path / "cut.safetensors", version, r"cut\.safetensors cannot be read: it is truncated")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html></html>")
    refused(tmp_path / "page.pth", version, "is a web page")
    (tmp_path / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(tmp_path / "lfs.pth", version, "git-lfs pointer")


def test_folders_without_weights(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    refused(tmp_path, version, r"no \*\.safetensors")
    shard(weights, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    refused(tmp_path, version, r"has no model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json lists")


class Harmful:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    version: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    for name, zipped in (("zip.pth", True), ("old.pth", False)):
        torch.save(weights | {"extra": Harmful(mark)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        refused(tmp_path / name, version, "could run code; it was not read")
        assert not mark.exists()
    torch.load(tmp_path / "zip.pth", weights_only=False)
    assert mark.exists(), "the file runs no code, so the test shows nothing"


def test_other_content_than_tensors_is_refused(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", version, "got list, expected a dict of tensors")
    torch.save({"model": weights}, tmp_path / "nested.pth")
    refused(tmp_path / "nested.pth", version, "a dict whose 'model' is of type (dict|OrderedDict)")


def test_other_versions_are_named(version: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "model.pth")
    other = {"6": "7", "7": "6"}[version]
    refused(tmp_path / "model.pth", other, rf"is RWKV-{version}, but.*RWKV-{other}: use the backbone rwkv{version}")
    torch.save(
        {"blocks.0.att.time_decay": torch.ones(1), "blocks.0.att.ln_x.weight": torch.ones(1)}, tmp_path / "5.pth"
    )
    refused(tmp_path / "5.pth", version, "is RWKV-5, but.*use RWKV-6 or RWKV-7")
    torch.save({"model.layers.0.mlp.weight": torch.ones(1)}, tmp_path / "llama.pth")
    refused(tmp_path / "llama.pth", version, r"is not an RWKV model: got model\.layers\.0\.mlp\.weight")


def test_an_incomplete_model_is_refused(weights: dict[str, Tensor]) -> None:
    expected = {name: value.shape for name, value in weights.items()}
    check_weights(weights, expected, "it")
    less = {name: value for name, value in weights.items() if name != "ln_out.bias"}
    with pytest.raises(CheckpointError, match=r"it does not match the model: ln_out\.bias \[64\] is missing$"):
        check_weights(less, expected, "it")
    with pytest.raises(CheckpointError, match=r"extra \[1\] is not expected"):
        check_weights(weights | {"extra": torch.ones(1)}, expected, "it")
    with pytest.raises(CheckpointError, match=r"ln_out\.bias is \[3\], expected \[64\]"):
        check_weights(weights | {"ln_out.bias": torch.ones(3)}, expected, "it")
