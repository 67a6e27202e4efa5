"""Images as cameras, scanners and designers make them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from composer.data.media import image, limits
from composer.data.media.headers import Header, read_header
from composer.data.media.image import BACKGROUND
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform

SAME = FrameTransform(16, 8)
RNG = np.random.default_rng(0)
SQUARE = RNG.integers(0, 255, (16, 16, 3), dtype=np.uint8)


def read_image(path: str, transform: FrameTransform) -> np.ndarray:
    return image.read_image(Media("image", path), transform)


def save(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def test_pixels_are_kept_where_nothing_is_to_do(tmp_path: Path) -> None:
    assert np.array_equal(read_image(save(tmp_path / "a.png", Image.fromarray(SQUARE)), SAME), SQUARE)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation(tmp_path: Path, orientation: int, undo: object) -> None:
    wide = RNG.integers(0, 255, (16, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(wide), exif=exif)
    assert np.array_equal(read_image(path, SAME), undo(wide))  # type: ignore[operator]


def jpeg_with_exif(*entries: tuple[int, int, int, int]) -> bytes:
    """A gray JPEG of 24 x 16 with hand-made EXIF: (tag, type, count, value) each."""
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (90, 90, 90)).save(file, "JPEG")
    tags = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags + bytes(20)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + file.getvalue()[2:]


@pytest.mark.parametrize(
    ("entries", "upright"),
    [
        ([(0x0112, 3, 1, 6)], (24, 16)),
        ([(0x0112, 3, 1, 6), (0x8769, 2, 4, 0x303030)], (24, 16)),  # another tag is text, and should be a number
        ([(0x0112, 3, 1, 6), (0x0111, 2, 4, 0x30303030)], (24, 16)),
        ([(0x0112, 3, 1, 6), (0x011A, 2, 4, 0x303030)], (24, 16)),
        ([(0x0112, 3, 1, 9)], (16, 24)),
        ([(0x0112, 2, 2, 0x36)], (16, 24)),  # the orientation is text
        ([(0x0112, 7, 1, 6)], (16, 24)),
    ],
)
def test_odd_exif(entries: list[tuple[int, int, int, int]], upright: tuple[int, int]) -> None:
    media = Media("image", "a.jpg", data=jpeg_with_exif(*entries))
    assert image.read_image(media, SAME).shape == (*upright, 3)
    assert read_header(media) == Header(*upright, 1)


def test_whatever_a_decoder_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pillow does for AVIF with damaged bytes, where it is built with it."""

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("Failed to decode frame")

    media = Media("image", "a.jpg", data=jpeg_with_exif())
    monkeypatch.setattr(Image, "open", fail)
    for read in (lambda: image.read_image(media, SAME), lambda: read_header(media)):
        with pytest.raises(MediaError, match=r"a\.jpg: cannot (decode|read) this image: RuntimeError: Failed"):
            read()


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((16, 16, 1), np.uint8)
    alpha[:, 8:] = 255
    alpha[:, 4:8] = 51  # a fifth
    path = save(tmp_path / "a.png", Image.fromarray(np.concatenate([SQUARE, alpha], axis=-1)))
    share = alpha / 255
    expected = SQUARE * share + np.array(BACKGROUND) * (1 - share)
    assert np.abs(read_image(path, SAME) - expected).max() <= 1


def test_transparent_palette_and_gray_with_alpha(tmp_path: Path) -> None:
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([200, 0, 0, 0, 90, 0])
    palette.paste(1, (0, 0, 8, 16))
    picture = read_image(save(tmp_path / "a.gif", palette, transparency=0), SAME)
    assert (picture[:, :8] == (0, 90, 0)).all()
    assert (picture[:, 8:] == BACKGROUND).all()
    gray = Image.merge("LA", [Image.new("L", (16, 16), 40), Image.new("L", (16, 16), 0)])
    assert (read_image(save(tmp_path / "b.png", gray), SAME) == 255).all()


def test_opaque_palette(tmp_path: Path) -> None:
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([200, 0, 0, 0, 90, 7])
    assert (read_image(save(tmp_path / "a.png", palette), SAME) == (0, 90, 7)).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        picture = read_image(save(tmp_path / name, Image.fromarray(deep)), SAME)
        assert np.array_equal(picture, np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=-1))


def test_gray_one_bit_float_and_print_colors(tmp_path: Path) -> None:
    gray = read_image(save(tmp_path / "l.png", Image.fromarray(SQUARE[..., 0])), SAME)
    assert np.array_equal(gray, np.repeat(SQUARE[..., :1], 3, axis=-1))
    bit = Image.fromarray(SQUARE[..., 0] > 127)
    assert set(np.unique(read_image(save(tmp_path / "1.png", bit), SAME))) == {0, 255}
    real = Image.fromarray((SQUARE[..., 0] / 255).astype(np.float32))
    assert np.array_equal(read_image(save(tmp_path / "f.tif", real), SAME), gray)
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow are red
    red = read_image(save(tmp_path / "c.jpg", ink), SAME)[8, 8]
    assert red[0] > 200
    assert red[1:].max() < 60


@pytest.mark.parametrize("resize", ["keep-aspect", "squash", "center-crop", "pad"])
def test_resize_modes(tmp_path: Path, resize: str) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (90, 50), (10, 20, 30)))
    transform = FrameTransform(32, 16, resize)  # type: ignore[arg-type]
    picture = read_image(path, transform)
    assert picture.shape == (*transform.size_of(50, 90), 3)
    assert (picture[16, 16] == (10, 20, 30)).all()


def test_scaling_averages_what_it_leaves_out(tmp_path: Path) -> None:
    board = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = read_image(save(tmp_path / "a.png", Image.fromarray(board)), SAME)
    assert np.abs(picture.astype(int) - 127).max() <= 4


def test_a_large_jpeg_is_decoded_at_its_full_size(tmp_path: Path) -> None:
    noise = RNG.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(noise))
    expected = Image.open(path).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(read_image(path, FrameTransform(16, 8, "squash")), np.asarray(expected))


def test_large_jpeg_is_close_to_its_area_average(tmp_path: Path) -> None:
    rows, columns = np.indices((512, 768))
    smooth = np.stack([rows // 3, columns // 4, (rows + columns) // 6], axis=-1).astype(np.uint8)
    picture = read_image(save(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95), FrameTransform(32, 8))
    expected = smooth.reshape(32, 16, 48, 16, 3).mean(axis=(1, 3))
    assert np.abs(picture - expected).max() < 6


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif"])
def test_truncated(tmp_path: Path, name: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / name
    noise.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=rf"{name}: cannot decode this image: "):
        read_image(str(path), SAME)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.png: "):
        read_image(str(path), SAME)


OTHER_FILES = {
    "HEIC: convert": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEIC: convert it": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "PostScript: convert": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n",
    "PDF: convert": b"%PDF-1.4\n",
    "a Windows metafile": b"\xd7\xcd\xc6\x9a\0\0" + bytes(40),
    "a Windows metafile: ": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(80),
    "a Git LFS pointer: run `git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "a web page: download": b"\n<!DOCTYPE html><html><title>404</title>",
    "SVG: convert": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_under_an_images_name_are_never_opened(tmp_path: Path, kind: str) -> None:
    """Pillow would hand PostScript to Ghostscript, which runs it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(OTHER_FILES[kind])
    for media in (Media("image", str(path)), Media("image", "a.jpg", data=OTHER_FILES[kind])):
        for read in (lambda media=media: image.read_image(media, SAME), lambda media=media: read_header(media)):
            with pytest.raises(MediaError, match=rf"a\.jpg: not an image but {kind}"):
                read()


def test_postscript_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
    source = io.BytesIO()
    Image.fromarray(SQUARE).save(source, "EPS")
    for name in ("a.eps", "a.jpg"):
        (tmp_path / name).write_bytes(source.getvalue())
        with pytest.raises(MediaError, match="not an image but PostScript"):
            read_image(str(tmp_path / name), SAME)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "jp2", "png", "ppm", "pgm", "tif", "webp", "avif"])
def test_raster_formats_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow is built without AVIF")
    plain = Image.new("L", (16, 16), 90).convert("L" if suffix == "pgm" else "RGB")
    assert np.abs(read_image(save(tmp_path / f"a.{suffix}", plain), SAME).astype(int) - 90).max() <= 2


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "caf\u00e9"
    folder.mkdir()
    save(folder / "\u00e9.png", Image.fromarray(SQUARE))
    for name in ("caf\u00e9/e\u0301.png", "cafe\u0301/\u00e9.png", "cafe\u0301/e\u0301.png"):
        with pytest.raises(MediaError, match=r"no such file, but one .* different Unicode characters \(NFC\)"):
            read_image(str(tmp_path / name), SAME)
    for path in ("https://example.com/a.jpg", f"{tmp_path}/https:/example.com/a.jpg", "s3://bucket/a.jpg"):
        with pytest.raises(MediaError, match="got a web address, expected a file: download it"):
            read_image(path, SAME)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.png: no such file; paths are relative to media_root"):
        read_image(str(tmp_path / "gone.png"), SAME)
    with pytest.raises(MediaError, match="cannot decode"):
        read_image(str(tmp_path), SAME)


@pytest.mark.parametrize("side", [9_000, 100_000])
def test_a_small_file_that_would_fill_the_memory(tmp_path: Path, side: int) -> None:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99))]
    path = tmp_path / "bomb.png"
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(MediaError, match=r"bomb\.png: .*at most 67 million"):
        read_image(str(path), SAME)


def test_too_thin(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (limits.MAX_ASPECT * 4 + 1, 4)))
    with pytest.raises(MediaError, match=r"a\.png: 129 x 4 is too thin, expected an aspect ratio of at most 32:1"):
        read_image(path, SAME)
