"""Files of torch.save, damaged everywhere: what is used of them is verified, once."""

import zlib
from pathlib import Path

import pytest
import torch

from composer.errors import CheckpointError
from composer.model.archive import DamagedError, read_archive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shared = torch.arange(1000.0)
    content = {
        "weights": {"a": shared, "b": shared[10:20], "c": torch.randn(50, 7).T, "empty": torch.zeros(0)},
        "optimizer": [{"state": (torch.randn(3000),)}],
        "step": 7,
    }
    torch.save(content, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of tensors whose checksum was computed."""
    sizes: list[int] = []
    checksum = zlib.crc32

    def counting(data: memoryview) -> int:
        sizes.append(data.nbytes)
        return checksum(data)

    monkeypatch.setattr(zlib, "crc32", counting)
    return sizes


def test_values_are_those_of_torch_load(path: Path) -> None:
    ours, theirs = read_archive(path), torch.load(path)
    torch.testing.assert_close(ours["weights"], theirs["weights"], rtol=0, atol=0)
    assert torch.equal(ours["optimizer"][0]["state"][0], theirs["optimizer"][0]["state"][0])
    assert ours["step"] == 7
    ours["weights"]["a"].add_(1)  # a copy of the mapped pages: the file stays as it was
    assert torch.equal(torch.load(path)["weights"]["a"], torch.arange(1000.0))


def test_each_tensor_is_verified_once_and_what_is_left_out_never(path: Path, verified: list[int]) -> None:
    assert "optimizer" not in read_archive(path, without=("optimizer",))
    assert sum(verified) == 4 * (1000 + 350)
    read_archive(path, without=("optimizer",))
    assert sum(verified) == 4 * (1000 + 350)
    read_archive(path)
    assert sum(verified) == 4 * (1000 + 350) + 4 * (1000 + 350 + 3000)
    path.write_bytes(path.read_bytes())
    read_archive(path)  # another file
    assert sum(verified) == 4 * (1000 + 350) + 2 * 4 * (1000 + 350 + 3000)


def test_no_damage_goes_unnoticed(path: Path) -> None:
    """A lost block of 64 bytes anywhere in the file gives the error, or every value as it was."""
    content, expected = path.read_bytes(), torch.load(path)
    refused = 0
    for start in range(0, len(content), 64):
        path.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
        try:
            read = read_archive(path)
        except DamagedError as error:
            refused += "cannot be read" in str(error)
            continue
        torch.testing.assert_close(read["weights"], expected["weights"], rtol=0, atol=0)
        torch.testing.assert_close(read["optimizer"], expected["optimizer"], rtol=0, atol=0)
    assert refused > 0.9 * (4 * (1000 + 350 + 3000)) / 64


def test_what_is_left_out_may_be_damaged(path: Path) -> None:
    content = path.read_bytes()
    lost = content.index(torch.load(path)["optimizer"][0]["state"][0].numpy().tobytes())
    path.write_bytes(content[: lost + 100] + bytes(64) + content[lost + 164 :])
    assert read_archive(path, without=("optimizer",))["step"] == 7
    with pytest.raises(DamagedError, match=r"its tensor optimizer\.0\.state\.0 is damaged"):
        read_archive(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="it does not contain a dictionary"):
        read_archive(tmp_path / "list.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(DamagedError, match="it is truncated, or not a checkpoint"):
        read_archive(tmp_path / "text.ckpt")
