"""Writing a file so that it is whole or absent, and saying so where there is no room for it. No torch here."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from composer.errors import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with where the disk is full, the user's share of it, or what a process may write (ulimit -f)."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block has written it and it is on the disk.

    A process killed at any moment leaves the old file, the new one, or none of this name, and never a part of one.
    Makes the folder where it is missing. Raises DiskFullError as `writing` does.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises DiskFullError, which names `path`, where the block found no room: a failed write itself names no file.

    `path` may be a folder in which the block writes. An error that was raised because of a failed write is one too.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        for cause in _chain(error):
            if isinstance(cause, DiskFullError):
                raise DiskFullError(str(cause)) from error
        for cause in _chain(error):
            if (reason := _full(cause)) is not None:
                raise DiskFullError(_no_room(path, reason)) from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _full(error: BaseException) -> str | None:
    """What the system says where an error means that there is no room."""
    for code in FULL:
        if (isinstance(error, OSError) and error.errno == code) or f"(os error {code})" in str(error):  # safetensors'
            return os.strerror(code)
    return None


def _no_room(path: Path, reason: str) -> str:
    folder = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    return (
        f"{path}: cannot be written: {reason}; {free:,.0f} MiB are free in {folder}. Make room there, then run the "
        "same command again: what was finished is kept, and no file is left half written as if it were whole."
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
