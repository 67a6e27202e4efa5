"""Which pictures of a folder are shown, and in which order."""

from pathlib import Path

import pytest
from PIL import Image

from composer.data.media.folder import list_images, natural_key, read_folder
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import number_of, numbered


@pytest.mark.parametrize(
    "names",
    [
        [f"{n}.jpg" for n in range(1, 13)],
        [f"frame_{n}.jpg" for n in range(1, 13)],
        [f"frame_{n:04d}.jpg" for n in range(9995, 10006)],
        [f"s2_{n}.png" for n in range(8, 12)] + [f"s10_{n}.png" for n in range(8, 12)],
        ["07.png", "7.png", "8.PNG", "x.png", "x1.png"],
    ],
)
def test_names_are_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    for n, name in reversed(list(enumerate(names))):
        Image.fromarray(numbered(n)).save(tmp_path / name, quality=95)
    media = Media("video", str(tmp_path), fps=1.0)
    pictures, _ = read_folder(media, FrameTransform(64, 8), len(names))
    assert [number_of(picture) for picture in pictures] == list(range(len(names)))


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    Image.fromarray(numbered(3)).save(tmp_path / "1.jpg")
    for name in ("._1.jpg", ".2.jpg"):
        (tmp_path / name).write_bytes(b"\0\5\26\7" * 20)
    media = Media("video", str(tmp_path), fps=1.0)
    assert [picture.path for picture in list_images(media)] == [str(tmp_path / "1.jpg")]
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(MediaError, match="no images in this folder"):
        list_images(media)


def test_names_without_numbers_or_with_other_digits_have_an_order() -> None:
    assert sorted(["b", "a²", "a", "1", "٣", ""], key=natural_key) == ["", "1", "a", "a²", "b", "٣"]
