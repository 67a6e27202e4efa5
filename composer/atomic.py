"""Atomic writes, and readable errors for files that cannot be read or written. Does not import torch."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from composer.errors import ComposerError, DiskFullError, FileError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a write that fails because of a full disk, a disk quota, or a limit on file size (ulimit -f)."""

_OF_RUST = re.compile(r"\(os error (\d+)\)")
_OF_WORKER = re.compile(r"\[Errno (\d+)\] [^:\n]*(?:: '(.+)')?$", re.MULTILINE)

_PERMISSIONS = "give another path, or change its permissions or owner"
_DISK = "check the disk or its mount, or give another path"
_OPEN_FILES = "raise the limit (`ulimit -n`), or use fewer workers"
REMEDIES = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "give a path on a writable file system",
    errno.ENOTDIR: "expected a folder, got a file: give another path, or remove that file",
    errno.EISDIR: "expected a file, got a folder: give the path of a file",
    errno.ENOTEMPTY: "this folder is not empty: give another path, or remove it",
    errno.EEXIST: "this name is taken: give another path, or remove the file or folder of this name",
    errno.ENOENT: "check the path: it or one of its parent folders is missing",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "symbolic links form a cycle: give another path",
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "in use by another process: try again later, or give another path"),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), _DISK),
}
"""Remedy by error number, for files that cannot be read or written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically.

    A process that is killed leaves the old file, the new one, or none, but never part of a file.

    Args:
        path: The file to write; missing parent folders are created.

    Yields:
        Temporary path next to `path`. Once the block has written it, it is synced to disk and renamed to `path`.

    Raises:
        FileError: As in `writing`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_temporary(path))
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def writing(path: Path | None = None) -> Iterator[None]:
    """Convert operating system errors about files in the block to errors for users.

    Args:
        path: File or folder that the block writes, named if the system's error names no file; None if unknown.

    Raises:
        FileError: If a file cannot be read or written.
        DiskFullError: If the disk is full, also if this is only the cause of another error.
    """
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        for cause in _chain(error):
            if isinstance(cause, DiskFullError):
                raise DiskFullError(str(cause)) from error
        for cause in _chain(error):
            if (code := _code(cause)) in FULL:
                raise DiskFullError(_no_room(path or Path.cwd(), os.strerror(code))) from error
        if not isinstance(error, ComposerError) and _code(error) in REMEDIES:
            raise FileError(_refusal(error, path)) from error
        raise


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work that produces its content. Writes nothing.

    Args:
        path: The file; its parent folders may be missing, they are created later.

    Raises:
        FileError: If the file cannot be written.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        for name in (*path.absolute().relative_to(folder).parts, _temporary(path)):
            with suppress(FileNotFoundError):
                os.lstat(folder / name)  # fails if the name is too long there
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if _code(error) in FULL:
            raise DiskFullError(_no_room(path, os.strerror(_code(error)))) from error
        raise FileError(_refusal(OSError(error.errno, error.strerror), path)) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, followed by its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> int:
    """The system's number of an error, or 0. Errors of safetensors and of data workers have it in their text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    match = (_OF_WORKER if isinstance(error, OSError) else _OF_RUST).search(str(error))
    return int(match[1]) if match else 0


def _refusal(error: Exception, path: Path | None) -> str:
    """Message of a refused access: the error's own path or `path`, the reason, and the remedy."""
    name = getattr(error, "filename", None)
    if name is None and (match := _OF_WORKER.search(str(error))):
        name = match[2]
    if isinstance(name, bytes | os.PathLike):
        name = os.fsdecode(name)
    if path is not None and (not isinstance(name, str) or Path(name).name == _temporary(path)):
        name = str(path)
    code = _code(error)
    place = f"{name}: " if isinstance(name, str) and code not in (errno.EMFILE, errno.ENFILE) else ""
    return f"{place}{os.strerror(code)}; {REMEDIES.get(code, 'give another path')}"


def _temporary(path: Path) -> str:
    """Name of a file while it is being written."""
    return f".{path.name}.tmp"


def _no_room(path: Path, reason: str) -> str:
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    return (
        f"{path}: cannot be written: {reason}; {free:,.0f} MiB are free in {folder}. Free some space and run the same "
        "command again: finished work is kept, and no incomplete file was left"
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
