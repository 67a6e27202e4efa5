"""Files that end before their containers do, in a file, in memory and in a stretch of an archive."""

from pathlib import Path

import pytest

from composer.data.media.truncated import is_truncated
from composer.sample import Media
from tests.composer.data.files import write_video

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("a.mp4", "mpeg4", {}),
        ("b.mp4", "mpeg4", FRAGMENTS),
        ("a.mov", "mpeg4", {}),
        ("a.mkv", "mpeg4", {}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("stored", ["file", "memory", "archive"])
def test_a_file_is_compared_with_its_container(
    tmp_path: Path, name: str, codec: str, muxer: dict[str, str], stored: str
) -> None:
    path = write_video(tmp_path / name, 20, codec=codec, key_every=5, muxer=muxer)
    data = path.read_bytes()
    for size in (len(data), len(data) - 100, len(data) // 2):
        media = Media("video", str(path))
        path.write_bytes(data[:size])
        if stored == "memory":
            media = Media("video", "record", data=data[:size])
        if stored == "archive":
            path.write_bytes(b"before" + data[:size] + b"after")
            media = Media("video", str(path), span=(6, size))
        assert is_truncated(media) == (size < len(data))


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "mpeg2video"), ("a.flv", "flv"), ("a.gif", "gif")])
def test_other_formats_do_not_say(tmp_path: Path, name: str, codec: str) -> None:
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    path = write_video(tmp_path / name, 20, rate=25, codec=codec, pixel_format=pixels)
    path.write_bytes(path.read_bytes()[:-200])
    assert not is_truncated(Media("video", str(path)))


def test_a_stream_whose_end_was_not_known(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", 20, codec="libvpx", muxer={"live": "1"})
    assert not is_truncated(Media("video", str(path)))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"\x1aE\xdf\xa3", b"\x1aE\xdf\xa3\x01", b"\0\0\0\x01ftyp", b"\0" * 40])
def test_bytes_that_are_nothing(data: bytes) -> None:
    is_truncated(Media("video", "record", data=data))
