"""Sampling against decoding everything; files as they come from phones, screens, and broken downloads."""

import errno
from pathlib import Path

import numpy as np
import pytest
from av.video.stream import VideoStream

from composer.data.media import limits, video
from composer.data.media.headers import read_header
from composer.data.media.opened import ByteRange
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import number_of, numbered, shown_at, write_video

PLAIN = FrameTransform(64, 8)
SMALL = FrameTransform(32, 8)


def read_video(path: str, transform: FrameTransform, frames: int, **segment: float) -> tuple[np.ndarray, np.ndarray]:
    return video.read_video(Media("video", path, **segment), transform, frames)  # type: ignore[arg-type]


def numbers(pictures: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in pictures]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every frame that a cursor decodes."""
    counted: list[int] = []
    advance = video.Cursor._advance

    def counting(self: video.Cursor) -> None:
        counted.append(1)
        advance(self)

    monkeypatch.setattr(video.Cursor, "_advance", counting)
    return counted


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 20, 40, 100])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.ts", "libx264")],
)
def test_frames_are_those_on_screen_in_the_middle_of_equal_parts(
    tmp_path: Path, name: str, codec: str, frames: int
) -> None:
    path = write_video(tmp_path / name, 40, codec=codec, key_every=12)
    pictures, times = read_video(str(path), PLAIN, frames)
    assert pictures.shape == (frames, 64, 64, 3)
    assert pictures.dtype == np.uint8
    assert times.dtype == np.float32
    assert times == pytest.approx([(i + 0.5) * 4.0 / frames for i in range(frames)], abs=2e-3)
    assert numbers(pictures) == shown_at(path, times.tolist())


def test_a_frame_for_every_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 24)
    assert numbers(read_video(str(path), PLAIN, 24)[0]) == list(range(24))


def test_frames_that_begin_at_the_very_time_are_taken(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        path = write_video(tmp_path / name, 48, rate=24)
        assert numbers(read_video(str(path), PLAIN, 24)[0]) == list(range(1, 48, 2))


def test_segment(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100, key_every=10)
    pictures, times = read_video(str(path), PLAIN, 4, start=4.0, end=6.0)
    assert times == pytest.approx([0.25, 0.75, 1.25, 1.75])
    assert numbers(pictures) == [42, 47, 52, 57]
    assert numbers(read_video(str(path), PLAIN, 2, start=8.0)[0]) == [85, 95]
    assert numbers(read_video(str(path), PLAIN, 2, start=8.0, end=99.0)[0]) == [85, 95]
    with pytest.raises(MediaError, match=r"a\.mp4: no frame between 12 and 14 s, the video is 10\.00 s long"):
        read_video(str(path), PLAIN, 4, start=12.0, end=14.0)


def test_frames_of_uneven_length(tmp_path: Path) -> None:
    ticks = [0, 1, 2, 3, 40, 41, 42, 80, 81, 90]  # a screen that stands still for seconds
    for name in ("a.mp4", "a.mkv"):
        path = write_video(tmp_path / name, 10, ticks=ticks)
        pictures, times = read_video(str(path), PLAIN, 9)
        assert numbers(pictures) == shown_at(path, times.tolist())
        assert numbers(pictures)[:4] == [3, 3, 3, 3]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(("key_every", "frames"), [(10, 3), (10, 8), (25, 6), (25, 9), (60, 5), (250, 16), (7, 50)])
def test_seeking_finds_the_same_frames(tmp_path: Path, name: str, key_every: int, frames: int) -> None:
    path = write_video(tmp_path / name, 250, key_every=key_every)
    pictures, times = read_video(str(path), PLAIN, frames)
    assert numbers(pictures) == shown_at(path, times.tolist())


def test_far_frames_are_sought_and_near_frames_decoded_once(tmp_path: Path, decoded: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(i % 256) for i in range(1200)], key_every=12)
    read_video(str(path), SMALL, 8)
    assert len(decoded) <= 8 * (12 + 2)
    decoded.clear()
    read_video(str(path), SMALL, 400)
    assert len(decoded) <= 1201


def test_key_frames_far_apart_cost_little_more_than_decoding_once(tmp_path: Path, decoded: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", 250, key_every=250)
    read_video(str(path), SMALL, 10)
    assert len(decoded) <= 250 + 50


@pytest.mark.skipif(not hasattr(VideoStream, "set_display_rotation"), reason="this PyAV cannot write a rotation")
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_metadata(tmp_path: Path, rotation: int) -> None:
    corner = np.full((48, 64, 3), 20, np.uint8)
    corner[:16, :16] = 235  # white at the top left of what is stored
    path = write_video(tmp_path / "a.mp4", [corner] * 3, rotation=rotation)
    pictures, _ = read_video(str(path), FrameTransform(48, 8), 1)
    expected = np.rot90(corner, rotation // 90)  # a display matrix counts counter-clockwise
    assert pictures[0].shape == expected.shape
    assert np.abs(pictures[0].astype(int) - expected).mean() < 12


def test_header_without_counts_or_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "live.webm", 30, codec="libvpx", muxer={"live": "1"})
    pictures, times = read_video(str(path), PLAIN, 6)
    assert times[-1] == pytest.approx(2.75, abs=0.05)
    assert numbers(pictures) == shown_at(path, times.tolist())


def test_fragmented_mp4(tmp_path: Path) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(tmp_path / "a.mp4", 60, key_every=10, muxer=fragments)
    pictures, times = read_video(str(path), PLAIN, 6)
    assert times == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    assert numbers(pictures) == [5, 15, 25, 35, 45, 55]


def test_edit_list_counts_what_is_shown(tmp_path: Path) -> None:
    """A cut without encoding again: the header counts 40 frames of 4 s, the edit list shows 2 s from 1 s on."""
    path = write_video(tmp_path / "a.mp4", 40, key_every=10)
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # past the type, version and flags, and the count
    media_time = int.from_bytes(data[entry + 4 : entry + 8], "big")
    timescale = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    data[entry : entry + 4] = (2000).to_bytes(4, "big")  # in the movie's milliseconds
    data[entry + 4 : entry + 8] = (media_time + timescale).to_bytes(4, "big")
    path.write_bytes(data)
    pictures, times = read_video(str(path), PLAIN, 4)
    assert times == pytest.approx([0.25, 0.75, 1.25, 1.75])
    assert numbers(pictures) == [12, 17, 22, 27]


def test_longer_sound_does_not_count(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = write_video(tmp_path / name, 20, audio_seconds=6.0)
        assert numbers(read_video(str(path), PLAIN, 4)[0]) == [2, 7, 12, 17]


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "yuv444p"), ("libx264", "yuv444p"), ("ffv1", "gray")])
def test_odd_sizes_and_pixel_formats(tmp_path: Path, codec: str, pixels: str) -> None:
    frames = [numbered(i, 61, 83) for i in range(8)]
    path = write_video(tmp_path / "a.mkv", frames, codec=codec, pixel_format=pixels)
    pictures, _ = read_video(str(path), FrameTransform(64, 16), 8)
    assert pictures.shape == (8, 64, 80, 3)
    assert numbers(pictures) == list(range(8))


@pytest.mark.parametrize("resize", ["keep-aspect", "squash", "center-crop", "pad"])
def test_resize_modes(tmp_path: Path, resize: str) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(i, 48, 96) for i in range(4)])
    transform = FrameTransform(32, 8, resize)  # type: ignore[arg-type]
    assert read_video(str(path), transform, 2)[0].shape == (2, *transform.size_of(48, 96), 3)


def test_scaling_averages_what_it_leaves_out(tmp_path: Path) -> None:
    board = np.indices((128, 128)).sum(axis=0) % 2 * 215 + 20
    frame = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    path = write_video(tmp_path / "a.mkv", [frame] * 2, codec="ffv1", pixel_format="yuv444p")
    picture = read_video(str(path), FrameTransform(16, 8), 1)[0][0]
    assert np.abs(picture.astype(int) - 127).max() < 8


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, key_every=10)
    first, second = (read_video(str(path), SMALL, 5)[0] for _ in range(2))
    assert np.array_equal(first, second)


def noisy(count: int) -> list[np.ndarray]:
    """Numbered pictures under a line of noise, so that the file is no handful of bytes."""
    rng = np.random.default_rng(0)
    pictures = [numbered(i, 96, 96) for i in range(count)]
    for picture in pictures:
        picture[:32] = rng.integers(0, 255, (32, 96, 3))
    return pictures


@pytest.mark.parametrize(("name", "muxer"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.avi", {})])
def test_truncated(tmp_path: Path, name: str, muxer: dict[str, str]) -> None:
    path = write_video(tmp_path / name, noisy(60), key_every=10, muxer=muxer)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(
        MediaError, match=rf"{name}: .*(truncated|corrupt).*: no frame can be decoded at [34]\.50 s of 6\.00 s"
    ):
        read_video(str(path), PLAIN, 6)
    assert numbers(read_video(str(path), PLAIN, 4, end=2.0)[0]) == [2, 7, 12, 17]


def test_an_index_that_leads_beyond_the_end(tmp_path: Path) -> None:
    """A truncated file whose outermost parts were made to fit."""
    path = write_video(tmp_path / "a.mp4", noisy(60), key_every=10, muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes()[: path.stat().st_size * 6 // 10])
    start = data.index(b"mdat") - 4
    data[start : start + 4] = (len(data) - start).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.mp4: .*truncated.* of 6\.00 s"):
        read_video(str(path), PLAIN, 6)
    assert numbers(read_video(str(path), PLAIN, 4, end=2.0)[0]) == [2, 7, 12, 17]


def test_truncated_before_its_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be read as a video: "):
        read_video(str(path), PLAIN, 6)


def test_corrupt_middle(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noisy(60), key_every=60, muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.mp4: corrupt"):
        read_video(str(path), PLAIN, 12)
    assert numbers(read_video(str(path), PLAIN, 2, end=2.0)[0]) == [5, 15]


def test_flipped_bits_are_mostly_found(tmp_path: Path) -> None:
    """Not always: a flip may decode to a wrong picture without a mark, as FFmpeg's own decoder has no check sums."""
    path = write_video(tmp_path / "a.mp4", noisy(30), key_every=30)
    data, start = path.read_bytes(), path.read_bytes().index(b"mdat") + 1000
    truth = read_video(str(path), PLAIN, 30)[0].astype(int)
    rng, silent = np.random.default_rng(0), 0
    for _ in range(20):
        flipped = bytearray(data)
        flipped[rng.integers(start, len(data) - 4000)] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            silent += bool(np.abs(read_video(str(path), PLAIN, 30)[0] - truth).max() > 32)
        except MediaError:
            continue
    assert silent <= 6


def test_no_picture_at_all(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(MediaError, match=r"a\.mp4: "):
        read_video(str(path), PLAIN, 4)


def test_no_video_stream(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        samples.rate = 8000
        container.mux(stream.encode(samples))
    with pytest.raises(MediaError, match=r"a\.wav: no video stream; the file contains audio"):
        read_video(str(path), PLAIN, 4)


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 50, bytes(5000)])
def test_no_video_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be read as a video"):
        read_video(str(path), PLAIN, 4)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_a_title_that_is_not_utf8(tmp_path: Path, name: str, codec: str) -> None:
    """It changes no picture, and old cameras and editors write it."""
    path = write_video(tmp_path / name, 20, codec=codec, title="TITLE")
    expected = read_video(str(path), PLAIN, 5)[0]
    data = path.read_bytes()
    assert data.count(b"TITLE") == 1
    path.write_bytes(data.replace(b"TITLE", "Café!".encode("latin-1")))
    assert (read_video(str(path), PLAIN, 5)[0] == expected).all()
    mvbench = Media("video", str(path), rule="mvbench")
    assert len(video.read_video(mvbench, PLAIN, 5)[0]) == 5
    assert read_header(mvbench).frames == 20


def test_a_codec_that_is_not_known(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 5, codec="mpeg4", pixel_format="yuv420p")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    for read in (lambda media: video.read_video(media, PLAIN, 2), read_header):
        with pytest.raises(MediaError, match=r"a\.avi: FFmpeg does not know this video's codec: encode it again"):
            read(Media("video", str(path)))


def test_whatever_a_decoder_or_a_disk_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", 5)
    packed = Media("video", str(path), span=(0, path.stat().st_size))
    for error, said in (
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (AttributeError("no such thing"), "AttributeError: no such thing"),
    ):

        def fail(self: ByteRange, buffer: memoryview, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(ByteRange, "readinto", fail)
        for read in (lambda media: video.read_video(media, PLAIN, 2), read_header):
            with pytest.raises(MediaError, match=rf"a\.mkv: cannot be read as a video: {said}"):
                read(packed)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        read_video(str(tmp_path / "gone.mp4"), PLAIN, 4)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    monkeypatch.setattr(limits, "MAX_PIXELS", 64 * 63)
    with pytest.raises(MediaError, match=r"a\.mp4: 64 x 64 is"):
        read_video(str(path), PLAIN, 1)
