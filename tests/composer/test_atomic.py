"""A file is whole or absent, whatever happens while it is written."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from composer.atomic import REMEDIES, check_writable, replacing, writing
from composer.errors import DataError, DiskFullError, FileError


def test_the_file_appears_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from composer.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "old"


def full(code: int = errno.ENOSPC) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_that_names_the_file_and_the_room(tmp_path: Path, code: int) -> None:
    path = tmp_path / "new" / "file.bin"

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise full(code)

    with pytest.raises(DiskFullError, match=r"new/file\.bin: cannot be written: .*; [\d,]+ MiB are free in ") as caught:
        write()
    assert os.strerror(code) in str(caught.value)
    assert "Free some space and run the same command again" in str(caught.value)
    assert os.listdir(path.parent) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "it comes out of worker processes"


def test_a_full_disk_behind_other_errors_is_found(tmp_path: Path) -> None:
    def torch_fails() -> None:
        try:
            raise full()
        except OSError:
            raise RuntimeError("unexpected pos 576 vs 534")  # noqa: B904  # as torch.save does

    def safetensors_fails() -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    def twice() -> None:
        try:
            with writing(tmp_path / "inner"):
                raise full()
        finally:
            raise full()

    for fails, named in ((torch_fails, "outer"), (safetensors_fails, "outer"), (twice, "inner")):
        with pytest.raises(DiskFullError, match=f"{named}: cannot be written"), writing(tmp_path / "outer"):
            fails()


def missing_folder(folder: Path) -> Path:
    return folder / "new" / "file.txt"


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "new" / "file.txt"


def a_folder(folder: Path) -> Path:
    (folder / "file.txt").mkdir()
    return folder / "file.txt"


def a_long_name(folder: Path) -> Path:
    return folder / "new" / ("x" * 300)


def a_name_that_is_too_long_while_it_is_written(folder: Path) -> Path:
    return folder / ("x" * 253)


def a_circle_of_links(folder: Path) -> Path:
    (folder / "circle").symlink_to(folder / "circle")
    return folder / "circle" / "file.txt"


def of_the_kernel(folder: Path) -> Path:
    return Path("/proc/no-such/file.txt")


REFUSED = {
    below_a_file: r"(Not a directory; expected a folder, got a file|File exists; )",
    a_folder: "Is a directory; expected a file, got a folder",
    a_long_name: "File name too long; give a shorter path",
    a_name_that_is_too_long_while_it_is_written: "File name too long; give a shorter path",
    a_circle_of_links: r"(Too many levels of symbolic links; symbolic links form a cycle|File exists; )",
    of_the_kernel: "No such file or directory; check the path",
}


@pytest.mark.parametrize("where", REFUSED)
def test_what_the_system_refuses_is_known_before_and_said_after(where: Callable[[Path], Path], tmp_path: Path) -> None:
    path = where(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match=REFUSED[where]) as raised:
        check_writable(path)
    assert str(raised.value).startswith(f"{path}: ")
    with pytest.raises(FileError, match=REFUSED[where]), replacing(path) as temporary:
        temporary.write_text("new")
    assert sorted(p for p in tmp_path.rglob("*") if p.name != "new") == [p for p in before if p.name != "new"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_check_of_what_can_be_written_leaves_no_trace(tmp_path: Path, existing: bool) -> None:
    path = missing_folder(tmp_path)
    if existing:
        path.parent.mkdir()
        path.write_text("old")
    before = sorted(tmp_path.rglob("*"))
    check_writable(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert not existing or path.read_text() == "old"


@pytest.mark.parametrize("code", REMEDIES)
def test_every_refusal_names_the_file_and_a_remedy(code: int) -> None:
    error = OSError(code, os.strerror(code), "a/file.txt")
    with pytest.raises(FileError) as raised, writing(Path("folder")):
        raise error
    assert raised.value.__cause__ is error
    place = "" if code in (errno.EMFILE, errno.ENFILE) else "a/file.txt: "
    assert str(raised.value) == f"{place}{os.strerror(code)}; {REMEDIES[code]}"
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_refusal_that_names_no_file_names_what_is_written() -> None:
    with pytest.raises(FileError, match=r"^folder: Permission denied; "), writing(Path("folder")):
        raise RuntimeError("Error while serializing: I/O error: Permission denied (os error 13)")  # as safetensors
    text = (
        "Caught PermissionError in DataLoader worker process 0.\nTraceback:\n{}: [Errno 13] Permission denied: 'a: b'\n"
    )
    with pytest.raises(FileError, match=r"^a: b: Permission denied; "), writing(Path("folder")):
        raise PermissionError(text)
    with pytest.raises(FileError, match=r"^Permission denied; "), writing():
        raise OSError(errno.EACCES, "?")


def test_an_error_for_users_and_a_defect_after_a_refusal_stay_what_they_are() -> None:
    def handled(other: Exception) -> None:
        try:
            raise OSError(errno.ENOENT, "?", "a")
        except OSError as error:
            raise other from error

    for other in (DataError("a: no such record"), KeyError("a")):
        with pytest.raises(type(other)) as raised, writing():
            handled(other)
        assert raised.value is other


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (
        OSError(errno.ECONNREFUSED, "no network"),
        OSError("of no number"),
        ValueError("wrong"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught, writing(tmp_path):
            raise error
        assert caught.value is error
