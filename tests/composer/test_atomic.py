"""A file is whole or absent, whatever happens while it is written."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from composer.atomic import replacing, writing
from composer.errors import DiskFullError


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
    assert "Make room there, then run the same command again" in str(caught.value)
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


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (OSError(errno.EIO, "broken"), ValueError("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, writing(tmp_path):
            raise error
        assert caught.value is error
