"""Reads torch's files once: mapped to memory, the tensors that are used verified."""

import pickle
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from composer.errors import CheckpointError


class DamagedError(CheckpointError):
    """A file that is not complete, or not what was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"Checkpoint {path} cannot be read: {reason}. Use another checkpoint of its folder")
        self.reason = reason


_verified: set[tuple[object, ...]] = set()
"""Files that were verified in this process, so that gigabytes are not read again."""


def read_archive(path: Path, *, without: Collection[str] = ()) -> dict[str, object]:
    """Read the dictionary in a file of `torch.save`, its tensors in memory that is mapped to the file.

    Args:
        path: The file.
        without: Keys to skip. Their tensors are neither read nor verified.

    Raises:
        DamagedError: The file is truncated, a checksum is wrong, or it is not such a file.
        CheckpointError: It contains more than plain values and tensors, or is not a dictionary.
    """
    checksums = _directory(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"Checkpoint {path} contains more than plain values and tensors, so reading it could run code; it was not "
            f"read ({str(error).splitlines()[0]}). Use a checkpoint written by composer"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DamagedError(path, f"it is damaged ({str(error).partition(chr(10))[0]})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint written by `composer fit`: it does not contain a dictionary")
    content = {key: value for key, value in content.items() if key not in without}
    stat = path.stat()
    identity = (path.absolute(), stat.st_ino, stat.st_mtime_ns, stat.st_size, *without)
    if identity not in _verified:
        _verify(path, content, checksums)
        _verified.add(identity)
    return content


def _directory(path: Path) -> set[tuple[int, int]]:
    """Size and checksum of every record in one of torch's zip archives. Verifies the records without tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if "/data/" not in info.filename:
                    archive.read(info)
            return {(info.file_size, info.CRC) for info in archive.infolist()}
    except zipfile.BadZipFile as error:
        broken = str(error) if "CRC" in str(error) else "it is truncated, or not a checkpoint"
        raise DamagedError(path, broken) from error
    except OSError as error:
        raise DamagedError(path, f"{error.strerror}") from error


def _verify(path: Path, content: object, checksums: set[tuple[int, int]]) -> None:
    """Raise DamagedError if the bytes of a tensor have a checksum that no record of the archive has."""
    seen: set[int] = set()
    for name, tensor in _tensors(content, ""):
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
            if (storage.nbytes(), zlib.crc32(data.data)) not in checksums:
                raise DamagedError(path, f"its tensor {name} is damaged")


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested dicts, lists and tuples, with their keys."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
