"""Media of records: under which keys they are read, refused or left to `meta`, and in which forms."""

import base64
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import DataError
from composer.sample import Media, Sample
from composer_plugins.readers.captions import CaptionsReader
from composer_plugins.readers.llava import LlavaReader
from composer_plugins.readers.m3it import M3ITReader
from composer_plugins.readers.messages import MessagesReader
from composer_plugins.readers.sharegpt4video import ShareGPT4VideoReader

TALK = {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]}
CHAT = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cat."}]}


def only(folder: Path, reader: Any, record: dict[str, Any], **options: Any) -> Sample:
    (folder / "a.jsonl").write_text(json.dumps(record) + "\n")
    sample: Sample = reader(folder / "a.jsonl", **options)[0]
    return sample


@pytest.fixture(params=[(LlavaReader, TALK), (MessagesReader, CHAT)], ids=["llava", "messages"])
def layout(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    reader, record = request.param
    return reader, record


@pytest.mark.parametrize("key", ["image", "images", "video", "videos"])
@pytest.mark.parametrize("listed", [False, True])
def test_plain_keys_are_read(tmp_path: Path, layout: tuple[Any, dict[str, Any]], key: str, listed: bool) -> None:
    reader, record = layout
    sample = only(tmp_path, reader, {**record, key: ["a.x"] if listed else "a.x"})
    assert sample.media == (Media(key.removesuffix("s"), str(tmp_path / "a.x")),)  # type: ignore[arg-type]
    assert sample.meta == {}


@pytest.mark.parametrize(
    "extra",
    [
        {"image_path": "a.jpg"},
        {"Image": "a.jpg"},
        {"img": "a.jpg"},
        {"file_name": "a.JPEG"},
        {"file": "a b/c.tiff"},
        {"media": ["a.png", "b.png"]},
        {"media": [{"type": "image", "path": "a.png"}]},
        {"video_path": "clips/7"},
        {"videoFile": "a.mkv"},
        {"frames": ["1.png", "2.png"]},
        {"pictures": ["a"]},
        {"image_url": "https://example.com/image?id=3"},
        {"url": "https://example.com/a.webp?size=3"},
        {"image_base64": "iVBORw0KGgo"},
        {"content": {"picture": "data:image/png;base64,iVBORw0KGgo"}},
        {"clip": "a.webm"},
        {"img_str": "iVBORw0KGgo"},
        {"jpg": "/9j/" + "A" * 400},
        {"thumbnail": "a.avif"},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_media_under_other_keys_are_refused(
    tmp_path: Path, layout: tuple[Any, dict[str, Any]], extra: dict[str, Any]
) -> None:
    reader, record = layout
    (key,) = extra
    with pytest.raises(DataError, match=rf'a\.jsonl:1: .*"{key}": got media .*expected "image" or "video"'):
        only(tmp_path, reader, {"id": "x", **record, **extra})


@pytest.mark.parametrize(
    "extra",
    [
        {"source": "coco/train2017"},
        {"source": "coco/train2017/1.jpg"},
        {"data_source": "ai2d.png"},
        {"metadata": {"dataset": "HQ-Edit", "file": "a.jpg"}},
        {"url": "https://example.com/page.html"},
        {"image": None, "images": [], "video": ""},
        {"images": None, "boxes": [[1, 2], [3, 4]]},
        {"image_id": "000001", "frames": 8, "video_id": 7},
        {"model": "", "split": "train", "choice_list": None},
        {"caption": "It names a.png in\na text."},
        {"audio": None, "audios": []},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_says_where_a_text_comes_from_is_meta(
    tmp_path: Path, layout: tuple[Any, dict[str, Any]], extra: dict[str, Any]
) -> None:
    reader, record = layout
    sample = only(tmp_path, reader, {**record, **extra})
    assert sample.media == ()
    read = {"image", "images", "video"}
    assert sample.meta == {key: value for key, value in extra.items() if key not in read}


@pytest.mark.parametrize(
    "extra",
    [
        {"image": "a.jpg", "url": "https://example.com/a.jpg", "mask": "b.png", "image_url": "https://x.org/1.jpg"},
        {"image": "a.jpg", "file_name": "a.jpg", "coco_image": "train/a.jpg"},
        {"video": "a.mp4", "thumbnail": "a.jpg", "video_name": "a.mp4", "subtitles": "a.srt"},
        {"image": ["1.jpg", "2.jpg"], "source_video": "a.mp4", "video_url": "https://example.com/a.mp4"},
    ],
)
def test_next_to_media_other_files_are_meta(
    tmp_path: Path, layout: tuple[Any, dict[str, Any]], extra: dict[str, Any]
) -> None:
    reader, record = layout
    sample = only(tmp_path, reader, {**record, **extra})
    (first, *rest) = extra
    assert len(sample.media) == len(extra[first] if isinstance(extra[first], list) else [1])
    assert set(sample.meta) == set(rest)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"image": "a.jpg", "images": ["a.jpg"]}, '"image", "images": got media under both keys'),
        ({"image": "a.jpg", "video_path": "b.mp4"}, '"video_path": got media'),
        ({"video": "a.mp4", "image_file": "b.png"}, '"image_file": got media'),
        ({"image": "a.jpg", "audio": "b.wav"}, '"audio": sound is not supported'),
        ({"audios": ["b.mp3"]}, '"audios": sound is not supported'),
        (
            {"image": "https://example.com/a.jpg"},
            "got the URL 'https://example.com/a.jpg', expected a local path: download",
        ),
        ({"videos": ["S3://bucket/a.mp4"]}, "got the URL"),
        ({"image": "data:image/png;base64,???"}, '"image": not base64'),
        ({"image": {"bytes": "AAAA"}}, '"image": got str in "bytes", expected bytes'),
        ({"image": [["a.png"]]}, "\"image\": got ['a.png'], expected a path or a list of paths"),
        ({"video": "a.mp4", "start": float("inf")}, '"start": got inf, expected seconds'),
    ],
)
def test_media_that_cannot_be_read(
    tmp_path: Path, layout: tuple[Any, dict[str, Any]], extra: dict[str, Any], words: str
) -> None:
    reader, record = layout
    with pytest.raises(DataError) as caught:
        only(tmp_path, reader, {**record, **extra})
    assert words in str(caught.value)


def test_data_uris_and_file_urls(tmp_path: Path, layout: tuple[Any, dict[str, Any]]) -> None:
    reader, record = layout
    uri = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    sample = only(tmp_path, reader, {**record, "image": [uri, f"file://{tmp_path}/b.png"]})
    name = f"{tmp_path / 'a.jsonl'}, record 1, image 1"
    assert sample.media == (Media("image", name, data=b"\x89PNG"), Media("image", f"{tmp_path}/b.png"))


def test_media_in_a_turn_are_refused(tmp_path: Path) -> None:
    turn = {"from": "human", "value": "What?", "image": "a.jpg"}
    with pytest.raises(DataError, match=r'"conversations", turn 1: "image": got media'):
        only(tmp_path, LlavaReader, {"conversations": [turn, {"from": "gpt", "value": "A."}]})


def test_other_readers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'"image": got media .* expected "image_base64_str"'):
        only(tmp_path, M3ITReader, {"instruction": "Q?", "outputs": "A.", "image": "a.jpg"})
    with pytest.raises(DataError, match='"image_str": got media'):  # as M3IT's own files have it
        only(tmp_path, M3ITReader, {"instruction": "Q?", "outputs": "A.", "image_str": "/9j/4AAQ"})
    caption = {"image": "a.jpg", "url": "https://example.com/a.jpg", "caption": "A cat."}
    options = {"question": "Q?", "caption": "caption"}
    sample = only(tmp_path, CaptionsReader, caption, file="{image}", **options)
    assert sample.media[0].path == str(tmp_path / "a.jpg")
    assert sample.meta["url"] == caption["url"]
    with pytest.raises(DataError, match=r"got the URL '.*', expected a local path: download it first"):
        only(tmp_path, CaptionsReader, caption, file="{url}", **options)
    clip = {"video_path": "https://x.org/a.mp4", "captions": [{"idx": "-1", "content": "A hill."}]}
    with pytest.raises(DataError, match='"video_path": got the URL'):
        only(tmp_path, ShareGPT4VideoReader, clip, question="Q?")


LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.floats(),
    st.sampled_from(
        [
            "",
            " ",
            "user",
            "assistant",
            "human",
            "gpt",
            "tool",
            "text",
            "image",
            "video",
            "a.jpg",
            "<image>So?",
            "//",
            "é",
        ]
    ),
)
KEY = st.sampled_from(
    [
        *("id", "image", "images", "videos", "audios", "start", "system", "messages", "conversations", "prompt"),
        *("role", "content", "from", "value", "loss", "weight", "type", "text", "url", "image_url", "path", "bytes"),
        *("base64", "tools", "img", "tool_calls", "completion", "video_start"),
    ]
)
JSON = st.recursive(
    LEAF, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEY, below, max_size=4), max_leaves=12
)


@given(st.dictionaries(KEY, JSON, max_size=5), st.lists(st.dictionaries(KEY, JSON, max_size=4), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_record_holds_it_is_a_sample_or_a_data_error(
    record: dict[str, Any], turns: list[dict[str, Any]]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        for reader, key, speaker, text in (
            (LlavaReader, "conversations", "from", "value"),
            (MessagesReader, "messages", "role", "content"),
        ):
            conversation = [{speaker: "user", text: "So?"} | turn for turn in turns]
            path.write_text("\n".join(json.dumps(one) for one in (record, record | {key: conversation})))
            source = reader(path)
            for index in range(2):
                with suppress(DataError):
                    assert isinstance(source[index], Sample)
