"""What a medium's file says of it, against what decoding shows."""

from pathlib import Path

import pytest
from PIL import Image

from composer.data.media.headers import Header, read_header
from composer.errors import MediaError
from composer.sample import Media
from tests.composer.data.files import numbered, write_video


def test_images_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(numbered(3, 40, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "turned.jpg", exif=exif)
    picture.save(tmp_path / "turned.tif", exif=exif)
    assert read_header(Media("image", str(tmp_path / "a.jpg"))) == Header(40, 64, 1)
    for name in ("turned.jpg", "turned.tif"):
        assert read_header(Media("image", str(tmp_path / name))) == Header(64, 40, 1)


def test_videos_and_segments(tmp_path: Path) -> None:
    pictures = [numbered(n, 48, 64) for n in range(20)]
    video = str(write_video(tmp_path / "a.mp4", pictures))
    assert read_header(Media("video", video)) == Header(48, 64, 20)
    assert read_header(Media("video", video, 0.5, 1.2)) == Header(48, 64, 7)


def test_folders(tmp_path: Path) -> None:
    for n in range(5):
        Image.fromarray(numbered(n, 48, 64)).save(tmp_path / f"{n}.png")
    assert read_header(Media("video", str(tmp_path), fps=2)) == Header(48, 64, 5)
    assert read_header(Media("video", str(tmp_path), end=1, fps=2)) == Header(48, 64, 2)
    with pytest.raises(MediaError, match="expected more than 0"):
        read_header(Media("video", str(tmp_path), fps=0))


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_is_no_medium(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_text("nothing")
    for path in (tmp_path / "a", tmp_path / "gone"):
        with pytest.raises(MediaError, match=str(path)):
            read_header(Media(kind, str(path)))  # type: ignore[arg-type]
