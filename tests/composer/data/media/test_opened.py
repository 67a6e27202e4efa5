"""Media within records, archives and folders; the frames that MVBench's code counts."""

import io
import struct
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from PIL import Image

from composer.data.media.clip import load_clip
from composer.data.media.opened import ByteRange, decoding
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import number_of, numbered, shown_at, write_video

PLAIN = FrameTransform(64, 8)


def shown(media: Media, frames: int) -> list[int]:
    return [number_of(picture.permute(1, 2, 0).numpy()) for picture in load_clip(media, PLAIN, frames).pixels]


def times(media: Media, frames: int) -> list[float]:
    return load_clip(media, PLAIN, frames).time.tolist()


def archived(path: Path, *members: Path) -> dict[str, tuple[int, int]]:
    """Put files into an uncompressed archive; where each one's bytes are in it."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.add(member, member.name)
    with tarfile.open(path) as archive:
        return {member.name: (member.offset_data, member.size) for member in archive}


def test_a_picture_in_its_record(tmp_path: Path) -> None:
    Image.fromarray(numbered(77)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    media = Media("image", "a.jsonl, record 1, image 1", data=data)
    assert shown(media, 1) == [77]
    with pytest.raises(MediaError, match=r"^a\.jsonl, record 1, image 1: not an image that Pillow can read"):
        load_clip(Media("image", media.path, data=b"no picture"), PLAIN, 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.ts"])
def test_a_video_in_its_record_or_in_an_archive(tmp_path: Path, name: str) -> None:
    codec = {"a.webm": "libvpx", "a.avi": "mpeg4"}.get(name, "libx264")
    path = write_video(tmp_path / name, 60, codec=codec, key_every=10)
    other = write_video(tmp_path / "other.mp4", 5)
    where = archived(tmp_path / "all.tar", other, path, other)
    for start, end in ((None, None), (2.0, 4.5)):
        expected = load_clip(Media("video", str(path), start, end), PLAIN, 7)
        for media in (
            Media("video", "a.jsonl, record 1", start, end, data=path.read_bytes()),
            Media("video", str(tmp_path / "all.tar"), start, end, span=where[name]),
        ):
            found = load_clip(media, PLAIN, 7)
            assert (found.pixels == expected.pixels).all()
            assert (found.time == expected.time).all()


def test_a_picture_in_an_archive_and_what_is_wrong_with_some(tmp_path: Path) -> None:
    Image.fromarray(numbered(5)).save(tmp_path / "a.png")
    where = archived(tmp_path / "a.tar", tmp_path / "a.png")
    media = Media("image", str(tmp_path / "a.tar"), span=where["a.png"])
    assert shown(media, 1) == [5]
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:600])
    with pytest.raises(MediaError, match=r"a\.tar: got an archive of 600 bytes, expected a file at bytes 1,536 to"):
        load_clip(media, PLAIN, 1)
    for kind in ("image", "video"):
        with pytest.raises(MediaError, match=r"gone\.tar: no such file"):
            load_clip(Media(kind, str(tmp_path / "gone.tar"), span=(0, 5)), PLAIN, 1)  # type: ignore[arg-type]


def test_a_stretch_reads_as_the_bytes_themselves() -> None:
    whole = bytes(range(200))
    stretch, plain = io.BufferedReader(ByteRange(io.BytesIO(whole), 50, 100), 16), io.BytesIO(whole[50:150])
    random = np.random.default_rng(0)
    for _ in range(300):
        whence = int(random.integers(3))
        offset = int(random.integers(0, 120)) - (100 if whence == 2 else plain.tell() if whence == 1 else 0)
        assert stretch.seek(offset, whence) == plain.seek(offset, whence)
        count = int(random.integers(0, 40))
        assert stretch.read(count) == plain.read(count)
        assert stretch.tell() == plain.tell()
    with pytest.raises(ValueError, match="expected 0 or more"):
        ByteRange(io.BytesIO(whole), 50, 100).seek(-1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "frames"
    pictures.mkdir()
    for number in range(30):
        Image.fromarray(numbered(number)).save(pictures / f"{number + 1:05d}.png")
    (pictures / "index.txt").write_text("no picture")
    return pictures


@pytest.mark.parametrize("frames", [1, 4, 7, 30, 50])
@pytest.mark.parametrize("bounds", [(None, None), (2.0, 7.0), (3.3, None), (None, 99.0)])
def test_a_folder_shows_what_a_video_of_the_same_pictures_does(
    tmp_path: Path, folder: Path, frames: int, bounds: tuple[float | None, float | None]
) -> None:
    path = write_video(tmp_path / "a.mkv", 30, rate=3)
    video, pictures = Media("video", str(path), *bounds), Media("video", str(folder), *bounds, fps=3.0)
    assert times(video, frames) == pytest.approx(times(pictures, frames), abs=1e-2)
    start = bounds[0] or 0.0
    asked = [start + time for time in times(pictures, frames)]
    assert shown(pictures, frames) == [min(int((time + 1e-3) * 3), 29) for time in asked]


def mvbench(frames: int, fps: float, max_frame: int, bound: tuple[float, float] | None, first: int = 0) -> list[int]:
    """The frames as MVBench's description has them, written anew from it."""
    start, end = bound or (-100000, 100000)
    start_idx, end_idx = max(first, round(start * fps)), min(round(end * fps), max_frame)
    size = float(end_idx - start_idx) / frames
    return [int(start_idx + (size / 2) + np.round(size * i)) for i in range(frames)]


BOUNDS = [None, (0.0, 3.0), (1.26, 3.14), (2.0, 99.0), (0.5, 0.61), (2.0, 2.0)]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("name", "rate"), [("a.mp4", 10), ("a.mkv", 10), ("a.mp4", 25)])
def test_mvbench_counts_frames(tmp_path: Path, name: str, rate: int, bound: tuple[float, float] | None) -> None:
    count = 80
    path = write_video(tmp_path / name, count, rate=rate, key_every=15)
    for frames in (1, 4, 8, 16, 100):
        media = Media("video", str(path), *(bound or (None, None)), rule="mvbench")
        expected = mvbench(frames, rate, count - 1, bound)
        assert shown(media, frames) == expected
        start = bound[0] if bound else 0.0
        assert times(media, frames) == pytest.approx([max(n / rate - start, 0) for n in expected], abs=2e-3)
    if bound is None:
        assert shown(media, 8) != shown_at(path, [(i + 0.5) * count / rate / 8 for i in range(8)])


@pytest.mark.parametrize("bound", [None, (0.0, 4.0), (1.26, 7.5), (2.0, 99.0)])
def test_mvbench_counts_pictures_from_one(folder: Path, bound: tuple[float, float] | None) -> None:
    for frames in (1, 8, 16, 40):
        media = Media("video", str(folder), *(bound or (None, None)), fps=3.0, rule="mvbench")
        assert shown(media, frames) == [n - 1 for n in mvbench(frames, 3.0, 30, bound, first=1)]


def test_mvbench_beyond_the_end(tmp_path: Path, folder: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    with pytest.raises(
        MediaError,
        match=r"a\.mp4: no frames between 50 and 19; the last of the video is frame 19, at 10 frames per second",
    ):
        shown(Media("video", str(path), 5.0, 7.0, rule="mvbench"), 4)
    with pytest.raises(MediaError, match=r"frames: no frames between 60 and 30"):
        shown(Media("video", str(folder), 20.0, 22.0, fps=3.0, rule="mvbench"), 4)


def test_bad_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MediaError, match=r"gone: no such folder"):
        shown(Media("video", str(tmp_path / "gone"), fps=3.0), 4)
    with pytest.raises(MediaError, match=r"00001\.png: cannot read this folder of frames: Not a directory"):
        shown(Media("video", str(folder / "00001.png"), fps=3.0), 4)
    with pytest.raises(MediaError, match=r"frames: got 0 frames per second, expected more than 0"):
        shown(Media("video", str(folder), fps=0.0), 4)
    with pytest.raises(MediaError, match=r"frames: no frame between 11 and 10 s, the video is 10\.00 s long"):
        shown(Media("video", str(folder), 11.0, fps=3.0), 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match=r"empty: no images in this folder, expected files that end in \.bmp"):
        shown(Media("video", str(tmp_path / "empty"), fps=3.0), 4)
    Image.fromarray(numbered(3, 32, 64)).save(folder / "00005.png")
    with pytest.raises(MediaError, match=r"frames: got frames of several sizes"):
        load_clip(Media("video", str(folder), fps=3.0), FrameTransform(64, 8, "keep-aspect"), 30)


def test_a_defect_of_ours_is_not_bad_media(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyAV 19 dropped an argument that we passed, and every video counted as bad media."""
    write_video(tmp_path / "a.mp4", [numbered(1)] * 4)
    open_compiled = av.open
    monkeypatch.setattr("av.open", lambda *args, **options: open_compiled(*args, **options, no_such_argument=1))
    monkeypatch.setitem(globals(), "__name__", "composer.stand_in")  # the wrong call is one of composer's lines
    with pytest.raises(TypeError, match="no_such_argument"):
        load_clip(Media("video", str(tmp_path / "a.mp4")), PLAIN, 2)


def test_a_wrong_call_of_a_decoder_or_of_numpy_is_not_bad_media(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(globals(), "__name__", "composer.stand_in")  # the wrong calls are composer's lines
    path = str(write_video(tmp_path / "a.mp4", 2))
    with pytest.raises(TypeError, match="bogus"), decoding(path, "cannot be read"):
        av.open(path, bogus=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="frame"), decoding(path, "cannot be read"):
        VideoReformatter().reformat(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same shape"), decoding(path, "cannot be read"):
        np.stack([np.zeros(2), np.zeros(3)])


@pytest.mark.parametrize("error", [KeyError("frame"), TypeError("bad marker"), struct.error("short")])
def test_whatever_a_decoder_raises_is_bad_media(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Image.fromarray(numbered(1)).save(tmp_path / "a.png")

    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(MediaError, match=r"a\.png: cannot decode this image"):
        load_clip(Media("image", str(tmp_path / "a.png")), PLAIN, 1)
