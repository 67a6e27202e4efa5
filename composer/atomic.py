"""Writing a file so that it is whole or absent, and saying what the system refuses to read or write. No torch here."""

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
"""What a write fails with where the disk is full, the user's share of it, or what a process may write (ulimit -f)."""

_OF_RUST = re.compile(r"\(os error (\d+)\)")
_OF_WORKER = re.compile(r"\[Errno (\d+)\] [^:\n]*(?:: '(.+)')?$", re.MULTILINE)

_PERMISSIONS = "give another path, or change its permissions or owner"
_DISK = "check the disk or its mount, or give another path"
_OPEN_FILES = "raise the limit (`ulimit -n`), or use fewer workers"
REMEDIES = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "give a path on a file system that can be written",
    errno.ENOTDIR: "a file is where a folder should be: give another path, or remove that file",
    errno.EISDIR: "this is a folder: give a file's path",
    errno.ENOTEMPTY: "this folder is not empty: give another path, or remove it",
    errno.EEXIST: "something of this name exists: give another path, or remove it",
    errno.ENOENT: "check the path: it, or a folder on the way to it, is missing",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "symbolic links lead in a circle: give another path",
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "another process uses it: try again later, or give another path"),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), _DISK),
}
"""What a user can do where the system refuses to read or write a file, by the error's number."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block has written it and it is on the disk.

    A process killed at any moment leaves the old file, the new one, or none of this name, and never a part of one.
    Makes the folder where it is missing. Raises FileError as `writing` does.
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
    """Raises FileError if the system refuses to read or write a file inside the block; DiskFullError if it is full.

    path: what the block writes, a file or a folder, named where the system's error names no file; None if it is not
    known. An error that was raised because of a full disk is a DiskFullError too.
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
            raise FileError(_refused(error, path)) from error
        raise


def check_writable(path: Path) -> None:
    """Raise FileError if the file `path` cannot be written, before the work whose result it will hold.

    Leaves no trace. Folders on the way to it may be missing: they are made later.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(place for place in path.absolute().parents if os.path.lexists(place))
        for name in (*path.absolute().relative_to(folder).parts, _temporary(path)):
            with suppress(FileNotFoundError):
                os.lstat(folder / name)  # fails if the name is too long there
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if _code(error) in FULL:
            raise DiskFullError(_no_room(path, os.strerror(_code(error)))) from error
        raise FileError(_refused(OSError(error.errno, error.strerror), path)) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> int:
    """The system's number of an error, 0 if it has none. It is in the text of those of safetensors, and of those that
    come from a data loader's worker."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    match = (_OF_WORKER if isinstance(error, OSError) else _OF_RUST).search(str(error))
    return int(match[1]) if match else 0


def _refused(error: Exception, path: Path | None) -> str:
    """What the system refuses, with the path of the error, else `path`, and what a user can do."""
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
    """The name that a file has while it is written."""
    return f".{path.name}.tmp"


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
