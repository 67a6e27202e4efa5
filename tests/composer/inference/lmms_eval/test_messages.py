"""lmms-eval's chat messages as samples; nothing here needs lmms-eval."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from composer.data.media.image import read_image
from composer.errors import DataError
from composer.inference.lmms_eval.messages import sample_of
from composer.sample import Media, Message
from composer.transform import FrameTransform
from tests.composer.data.files import numbered


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def only_media(*parts: dict[str, Any]) -> Media:
    (media,) = sample_of(user(*parts), "7", "task (test)").media
    return media


def test_a_conversation_keeps_its_order() -> None:
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
        {"role": "user", "content": [{"type": "video", "url": "a.mp4"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        *user({"type": "text", "text": "And"}, {"type": "image", "url": "b.png"}, {"type": "text", "text": "here?"}),
    ]
    sample = sample_of(messages, "7", "task (test)")
    assert (sample.id, sample.source) == ("7", "task (test)")
    assert sample.messages == (
        Message("system", ("Be short.",)),
        Message("user", (Media("video", "a.mp4"), "What?")),
        Message("assistant", ("A cat.",)),
        Message("user", ("And", Media("image", "b.png"), "here?")),
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"url": "a.mp4", "start_time": 1.0, "end_time": 2.5}, Media("video", "a.mp4", 1.0, 2.5)),
        ({"url": {"path": "a.mp4", "video_start": 1, "video_end": 2}}, Media("video", "a.mp4", 1, 2)),
        ({"url": {"type": "video", "url": "a.mp4", "video_start": 1}}, Media("video", "a.mp4", 1)),
    ],
)
def test_segments_of_videos(part: dict[str, Any], expected: Media) -> None:
    assert only_media({"type": "video", **part}) == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_picture_in_memory_loses_nothing(mode: str) -> None:
    picture = Image.fromarray(numbered(0b1011, 32, 32))
    given = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 200) if mode == "I;16" else picture
    given = given if given.mode == mode else given.convert(mode)
    media = only_media({"type": "image", "url": given})
    with Image.open(io.BytesIO(media.data or b"")) as read:
        assert read.mode == mode
        assert np.array_equal(np.asarray(read), np.asarray(given))
    assert read_image(media, FrameTransform(32, 8)).shape == (32, 32, 3)


def test_a_picture_in_memory_is_upright_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture = Image.fromarray(numbered(0b10110001, 32, 64))
    picture.save(tmp_path / "turned.png", exif=exif)
    transform = FrameTransform(32, 8)
    with Image.open(tmp_path / "turned.png") as read:
        media = only_media({"type": "image", "url": read})
    from_file = read_image(Media("image", str(tmp_path / "turned.png")), transform)
    assert np.array_equal(read_image(media, transform), from_file)
    assert not np.array_equal(read_image(only_media({"type": "image", "url": picture}), transform), from_file)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (user({"type": "audio", "url": "a.wav"}), "got audio, expected text, image or video"),
        (user({"type": "video", "url": [1, 2]}), "got a video as list, expected a file's path"),
        (user({"type": "video", "url": {"video_start": 1}}), "got a video as NoneType"),
        (user({"type": "image", "url": b"x"}), "got an image as bytes, expected a file's path or a Pillow image"),
        ([{"role": "tool", "content": []}], "got a message of 'tool', expected one of system, user"),
    ],
)
def test_what_a_model_cannot_take_is_named(messages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=r"^task \(test\): document 7: ") as caught:
        sample_of(messages, "7", "task (test)")
    assert said in str(caught.value)
