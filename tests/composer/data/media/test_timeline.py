"""Which frame is on screen when, in files whose headers or packets do not simply say so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from composer.data.media import timeline
from composer.data.media.packets import open_video
from composer.data.media.video import read_video, video_stream
from composer.errors import MediaError
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import CASES, block_number, number_of, numbered, write_video

PLAIN = FrameTransform(64, 8, "squash")
EIGHTHS = [6, 18, 31, 43, 56, 68, 81, 93]
"""The frames in the middles of eight equal parts of 100."""


def case(name: str, frames: int, **segment: float) -> list[int]:
    """The numbers of the frames that are read of a stored file."""
    media = Media("video", str(CASES / name), **segment)  # type: ignore[arg-type]
    return [block_number(picture) for picture in read_video(media, FrameTransform(96, 1, "squash"), frames)[0]]


def read(path: Path, frames: int) -> list[int]:
    return [number_of(picture) for picture in read_video(Media("video", str(path)), PLAIN, frames)[0]]


def test_a_header_that_ends_before_the_last_frames() -> None:
    """Its 30 s that move and 5 slides of 10 s are 80 s, the stream's header says 60."""
    assert case("dense_then_slides.mp4", 8) == [125, 375, 625, 1000, 1001, 1002, 1003, 1004]
    assert case("dense_then_slides.mp4", 2, start=65.0, end=75.0) == [1003, 1004]


def test_a_tag_that_is_a_length_and_not_an_end() -> None:
    assert case("late3.mkv", 8) == EIGHTHS


@pytest.mark.parametrize("name", ["slow_h264.avi", "slow_xvid.avi"])
def test_avi_whose_frames_are_reordered(name: str) -> None:
    assert case(name, 20) == list(range(20))
    assert case(name, 4, start=10.0, end=18.0) == [11, 13, 15, 17]


def test_avi_with_two_frames_in_a_packet() -> None:
    assert case("packed.avi", 8) == EIGHTHS


def test_reordered_frames_are_counted_as_they_are_shown() -> None:
    media = Media("video", str(CASES / "slow_xvid.avi"), rule="mvbench")
    pictures, _ = read_video(media, FrameTransform(96, 1, "squash"), 5)
    assert [block_number(picture) for picture in pictures] == timeline.mvbench_frames(media, 5, 1.0, 0, 19)


def test_avi_whose_last_frame_is_held_by_empty_chunks() -> None:
    assert case("still_end.avi", 8) == [6, 18, 31, 39, 39, 39, 39, 39]
    assert case("still_end.avi", 2, start=3.0) == [39, 39]


def test_avi_whose_header_counts_too_many_frames(tmp_path: Path) -> None:
    data = bytearray((CASES / "still_end.avi").read_bytes())
    place = data.index(b"strh") + 40
    assert int.from_bytes(data[place : place + 4], "little") == 100
    data[place : place + 4] = (200).to_bytes(4, "little")
    (tmp_path / "a.avi").write_bytes(data)
    pictures, _ = read_video(Media("video", str(tmp_path / "a.avi")), FrameTransform(96, 1, "squash"), 8)
    assert [block_number(picture) for picture in pictures] == [6, 18, 31, 39, 39, 39, 39, 39]


def test_one_frame_without_a_duration() -> None:
    assert case("one.webm", 4) == [7, 7, 7, 7]


def test_the_largest_stream_of_several(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=10) for _ in range(3)]
        for stream, side in zip(streams, (32, 96, 64), strict=True):
            stream.height = stream.width = side
            stream.pix_fmt = "yuv420p"
        for n in range(20):
            for stream in streams:
                picture = numbered(n + stream.width, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert read(path, 4) == [96 + n for n in (2, 7, 12, 17)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_the_span_of_a_long_video_reads_its_two_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    frames = [numbered(n % 256, 32, 32) for n in range(1500)]
    path = write_video(tmp_path / name, frames, codec="mpeg4", key_every=12)
    counted = []
    packets_of = timeline.packets_of

    def counting(container: Any, stream: Any) -> Iterator[Any]:
        for packet in packets_of(container, stream):
            counted.append(1)
            yield packet

    monkeypatch.setattr(timeline, "packets_of", counting)
    media = Media("video", str(path))
    with open_video(media) as container:
        span = timeline.span_of(media, container, video_stream(str(path), container))
    assert span.length == pytest.approx(150.0, abs=1e-3)
    assert len(counted) <= timeline.HEAD + 12 + 1


def test_frames_without_times() -> None:
    with pytest.raises(MediaError, match=r"raw\.h264: frames carry no time; put the stream into mp4 or mkv"):
        case("raw.h264", 2)


@pytest.mark.skipif(int(av.__version__.partition(".")[0]) >= 19, reason="FFmpeg 9 reads animated WebP")
def test_animated_webp() -> None:
    with pytest.raises(MediaError, match=r"anim\.webp: FFmpeg cannot read animated WebP; convert it to GIF or mp4"):
        case("anim.webp", 2)
