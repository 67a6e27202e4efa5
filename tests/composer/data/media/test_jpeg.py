"""Damage that libjpeg only warns of, made in good files of every kind that Pillow and FFmpeg write."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from composer.data.media.image import check_image, read_image
from composer.data.media.jpeg import find_damage
from composer.data.tools.check import OpenSource, check_records
from composer.errors import MediaError
from composer.reader import Reader
from composer.sample import Media, Message, Sample
from composer.transform import FrameTransform

RNG = np.random.default_rng(0)
THUMBNAIL = FrameTransform(32, 1, "squash")

KINDS = {
    "baseline": {},
    "best": {"quality": 100, "subsampling": 0},
    "worst": {"quality": 1, "subsampling": 2},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "short restarts": {"restart_marker_blocks": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_blocks": 3},
    "rgb": {"keep_rgb": True, "subsampling": 0},
    "with a profile": {"icc_profile": RNG.bytes(3000), "exif": RNG.bytes(500), "comment": b"\xff\xd9" * 9},
}


def scene(height: int = 120, width: int = 168) -> Image.Image:
    """Smooth shades with some noise and an even lower part, as photos have."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows + columns, 2 * rows, 255 - columns], axis=-1) % 256
    pixels = np.clip(pixels + RNG.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    pixels[-height // 4 :] = 255
    return Image.fromarray(pixels)


def save(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def start_of_scan(file: bytes) -> int:
    at = file.index(b"\xff\xda")
    return at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_good_files_pass(kind: str, mode: str) -> None:
    for image in (scene(), scene(8, 8), scene(1, 1), scene(33, 17), Image.new("RGB", (64, 40), (255, 255, 255))):
        file = save(image.convert(mode), **KINDS[kind])
        assert find_damage(file) is None
        assert find_damage(file + RNG.bytes(300)) is None
        assert find_damage(file.replace(b"\xff\xdb", b"\xff\xff\xff\xdb")) is None  # markers may be preceded by fill


@pytest.mark.parametrize("layout", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_good_files_of_ffmpeg_pass(layout: str) -> None:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 168, 120, layout, Fraction(1, 25)
    packets = encoder.encode(av.VideoFrame.from_image(scene()).reformat(format=layout)) + encoder.encode(None)
    assert find_damage(bytes(packets[0])) is None


@pytest.mark.parametrize(
    ("subsampling", "factors", "height", "width"),
    [(2, 0x41, 64, 352), (2, 0x14, 256, 88), (1, 0x12, 240, 88)],
)
def test_good_files_of_rare_layouts_pass(subsampling: int, factors: int, height: int, width: int) -> None:
    """4:1:1, its vertical counterpart, and 4:4:0: as many blocks in as many units as 4:2:0 or 4:2:2 have."""
    file = bytearray(save(scene(), subsampling=subsampling))
    frame = file.index(b"\xff\xc0")
    file[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    file[frame + 11] = factors
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        assert image.size == (width, height)
    assert find_damage(bytes(file)) is None
    assert find_damage(bytes(file[: len(file) // 2]) + b"\xff\xd9") is not None


def test_several_images_in_a_file_and_thumbnails_pass() -> None:
    file = io.BytesIO()
    scene().save(file, "MPO", save_all=True, append_images=[scene()], exif=b"Exif\0\0" + save(scene(16, 16)))
    assert find_damage(file.getvalue()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_missing_at_the_end(kind: str) -> None:
    file = save(scene(), **KINDS[kind])
    start = start_of_scan(file)
    for share in (0.1, 0.5, 0.8):
        cut = file[: start + int(share * (len(file) - start))] + b"\xff\xd9"
        with Image.open(io.BytesIO(cut)) as image:
            image.load()  # Pillow says nothing
        assert find_damage(cut) is not None


@pytest.mark.parametrize("kind", ["baseline", "optimized", "best", "restarts", "short restarts"])
def test_data_that_is_missing_or_too_much_in_the_middle(kind: str) -> None:
    file = save(scene(), **KINDS[kind])
    start, middle = start_of_scan(file), len(file) // 2 + 200
    block = slice(max(middle - 700, start), middle)
    damaged = {
        "dropped": file[: block.start] + file[block.stop :],
        "zeros": file[: block.start] + bytes(block.stop - block.start) + file[block.stop :],
        "twice": file[: block.stop] + file[block.start :],
    }
    for name, content in damaged.items():
        assert find_damage(content) is not None, name


def test_only_the_check_refuses_it() -> None:
    file = save(scene())
    media = Media("image", "a.jpg", data=file[: len(file) * 2 // 3] + b"\xff\xd9")
    assert read_image(media, THUMBNAIL).shape == (32, 32, 3)
    with pytest.raises(MediaError, match=r"^a\.jpg: this JPEG is damaged: its compressed data ends before the image"):
        check_image(media)
    check_image(Media("image", "a.jpg", data=file))


class OneImage(Reader):
    """A reader of one record with one image."""

    def __init__(self, data: bytes) -> None:
        self.media = Media("image", "a.jpg", data=data)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample("0", "s", (Message("user", (self.media, "What is it?")),))

    def location(self, index: int) -> str:
        return "records.jsonl:1"


@pytest.mark.parametrize(("decode", "problems"), [(True, 1), (False, 0)])
def test_data_check_finds_it_if_it_decodes(decode: bool, problems: int) -> None:
    file = save(scene())
    reader = OneImage(file[: len(file) * 2 // 3] + b"\xff\xd9")
    (found,) = check_records([OpenSource("s", reader, needs_answers=False)], decode=decode, num_workers=0)
    assert len(found.problems) == problems
    assert all("this JPEG is damaged" in str(problem) for problem in found.problems)


def test_a_path_and_other_formats_are_checked_too(tmp_path: object) -> None:
    path = f"{tmp_path}/a.jpg"
    file = save(scene())
    with open(path, "wb") as target:
        target.write(file[: len(file) // 2] + b"\xff\xd9")
    with pytest.raises(MediaError, match="this JPEG is damaged"):
        check_image(Media("image", path))
    scene().save(f"{tmp_path}/a.png")
    check_image(Media("image", f"{tmp_path}/a.png"))
