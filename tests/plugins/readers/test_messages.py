"""Chat messages as five tools write them, and what is wrong with some."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from composer.errors import DataError
from composer.recipe.components import slot_config
from composer.registry import load_registry
from composer.sample import Media, Message, Sample
from composer_plugins.readers.messages import MessagesReader

ANSWER = {"role": "assistant", "content": "A cat."}
DOG = "resource/dog.jpg"


def only(folder: Path, record: dict[str, Any], **options: Any) -> Sample:
    (folder / "a.jsonl").write_text(json.dumps(record) + "\n")
    return MessagesReader(folder / "a.jsonl", **options)[0]


def record_of(content: Any, **record: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}, ANSWER], **record}


def image(folder: Path, name: str = "a.jpg") -> Media:
    return Media("image", str(folder / name))


def test_llama_factory(tmp_path: Path) -> None:
    """Texts with placeholders, `images` and `videos` of the record, a system text of its own column."""
    record = {
        "messages": [
            {"content": "<image>Who are they?<video>", "role": "user"},
            {"content": "They're Kane and Gretzka.", "role": "assistant"},
        ],
        "images": ["mllm_demo_data/1.jpg"],
        "videos": ["b.mp4"],
        "system": "Be brief.",
        "tools": "",
    }
    sample = only(tmp_path, record)
    video = Media("video", str(tmp_path / "b.mp4"))
    assert sample.messages == (
        Message("system", ("Be brief.",)),
        Message("user", (image(tmp_path, "mllm_demo_data/1.jpg"), "Who are they?", video)),
        Message("assistant", ("They're Kane and Gretzka.",)),
    )
    assert (sample.id, sample.meta) == ("a-0", {"tools": ""})
    unnamed = only(tmp_path, record_of("Who?", images=["a.jpg"]))
    assert unnamed.messages[0].content == (image(tmp_path), "Who?")


def test_ms_swift(tmp_path: Path) -> None:
    """Several media, and answers that are not trained on."""
    turns = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "<image><image>What differs?"},
        {"role": "assistant", "content": "The sky.", "loss": False},
        {"role": "user", "content": "And?", "loss": False},
        {"role": "assistant", "content": "The sea.", "loss": True},
    ]
    record = {"id": 4, "messages": turns, "images": ["/x/a.jpg", "/x/b.png"], "objects": {}, "rejected_response": "No."}
    sample = only(tmp_path, record)
    assert sample.messages[1].content == (Media("image", "/x/a.jpg"), Media("image", "/x/b.png"), "What differs?")
    assert [m.loss for m in sample.messages if m.role == "assistant"] == [False, True]
    assert (sample.id, sample.meta["rejected_response"]) == ("4", "No.")


def test_xtuner(tmp_path: Path) -> None:
    """Parts with the places of their media in the text, and turns whose keys are LLaVA's, as in its documentation."""
    part = {"type": "image_url", "image_url": {"url": DOG, "image_wh": [375, 500]}}
    text = {"type": "text", "text": "Look: <IMG_CONTEXT>\nWhat color is the dog?"}
    record = {
        "id": 2,
        "messages": [
            {"role": "user", "content": [part, text]},
            {"from": "assistant", "value": "Brown."},
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "a.mp4"}}, text | {"text": "So?"}]},
            ANSWER,
        ],
    }
    sample = only(tmp_path, record, media_root=tmp_path / "root")
    assert sample.messages == (
        Message("user", ("Look: ", image(tmp_path / "root", DOG), "What color is the dog?")),
        Message("assistant", ("Brown.",)),
        Message("user", (Media("video", str(tmp_path / "root/a.mp4")), "So?")),
        Message("assistant", ("A cat.",)),
    )


def test_trl(tmp_path: Path) -> None:
    """Parts that stand for the record's `images`; a prompt, whose answers are not trained on, and its completion."""
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}
    expected = (image(tmp_path), "What is it?")
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}
    assert only(tmp_path, {"messages": [user, answer], "images": ["a.jpg"]}).messages == (
        Message("user", expected),
        Message("assistant", ("A cat.",)),
    )
    assert only(tmp_path, {"messages": [user, answer], "image": "a.jpg"}).messages[0].content == expected
    prompt = [user, answer, {"role": "user", "content": "Sure?"}]
    sample = only(tmp_path, {"prompt": prompt, "completion": [ANSWER], "images": ["a.jpg"], "topic": "cats"})
    assert [(m.role, m.loss) for m in sample.messages if m.role == "assistant"] == [
        ("assistant", False),
        ("assistant", True),
    ]
    assert sample.meta == {"topic": "cats"}


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "image", "image": "a.jpg"}, Media("image", "/m/a.jpg")),
        ({"type": "image", "url": "a.jpg"}, Media("image", "/m/a.jpg")),
        ({"type": "image", "path": "a.jpg", "max_pixels": 9}, Media("image", "/m/a.jpg")),
        ({"type": "image_url", "image_url": "a.jpg"}, Media("image", "/m/a.jpg")),
        ({"type": "image", "image": "file:///x/a.jpg"}, Media("image", "/x/a.jpg")),
        ({"image": "a.jpg"}, Media("image", "/m/a.jpg")),
        ({"type": "video", "video": "a.mp4", "fps": 1.0, "thumbnail": "a.png"}, Media("video", "/m/a.mp4")),
        ({"type": "video", "path": "a.mp4", "video_start": 1, "video_end": 2.5}, Media("video", "/m/a.mp4", 1.0, 2.5)),
    ],
)
def test_transformers_and_qwen(tmp_path: Path, part: dict[str, Any], media: Media) -> None:
    sample = only(tmp_path, record_of(["First", part, {"type": "text", "text": "then."}]), media_root="/m")
    assert sample.messages[0].content == ("First", media, "then.")


def test_bytes_in_parts(tmp_path: Path) -> None:
    text = base64.b64encode(b"\xff\xd8picture").decode()
    parts = [
        {"type": "image", "base64": text},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{text}"}},
    ]
    sample = only(tmp_path, record_of([*parts, "So?"]))
    name = f"{tmp_path / 'a.jsonl'}, record 1, image"
    assert sample.media == tuple(Media("image", f"{name} {n}", data=b"\xff\xd8picture") for n in (1, 2))


def test_parquet(tmp_path: Path) -> None:
    """Parts of one struct, with null under the keys of the others, and images within the rows."""
    part = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.string())])
    turn = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("loss", pa.bool_())])
    stored = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("messages", pa.list_(turn)), ("images", pa.list_(stored))])
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "So?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}], "loss": True},
    ]
    rows = [{"messages": turns, "images": [{"bytes": b"\x89PNG", "path": "a.png"}]}]
    parquet.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
    (sample,) = MessagesReader(tmp_path)
    image = Media("image", f"{tmp_path / 'a.parquet'}, record 1, image 1", data=b"\x89PNG")
    assert sample.messages == (Message("user", (image, "So?")), Message("assistant", ("A cat.",)))


USER = {"role": "user", "content": "So?"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"conversations": []}, '"messages": got NoneType, expected a list of turns'),
        ({"messages": [ANSWER]}, "no user turn"),
        ({"messages": ["So?"]}, '"messages", turn 1: got \'So?\', expected {"role": ..., "content": ...}'),
        (
            {"messages": [USER, {"role": "assistant", "content": None}]},
            'turn 2: "content": got NoneType, expected text or a list',
        ),
        ({"messages": [{"content": "So?"}]}, 'turn 1: "role": got None, expected one of'),
        ({"messages": [USER, {"role": "pretrain", "content": "x"}]}, "turn 2: \"role\": got 'pretrain'"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "turn 2: got a tool call or a tool result"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "turn 2: got a tool call"),
        ({"messages": [USER, ANSWER], "tools": [{"type": "function"}]}, '"tools": tool definitions are not supported'),
        (record_of("<image>Find it", images=["a.jpg"], objects={"ref": ["a"]}), '"objects": grounding boxes'),
        (record_of("<audio>So?", audios=["a.wav"]), '"audios": sound is not supported'),
        (record_of([{"type": "audio", "audio": "a.wav"}]), "turn 1: part 1: audio: sound is not supported"),
        (record_of([{"type": "file", "file": "a.pdf"}]), "part 1: \"type\": got 'file', expected one of text, image"),
        (record_of([{"type": "text", "text": None}]), 'part 1: "text": got None, expected text'),
        (record_of([{"type": "text", "text": "So?", "image": "a.jpg"}]), 'part 1: "image": got media'),
        (record_of([{"type": "image", "file_name": "a.jpg"}]), 'part 1: "file_name": got media'),
        (record_of([{"type": ["image"]}]), "part 1: \"type\": got ['image'], expected one of"),
        (record_of([3]), "part 1: got 3, expected"),
        (record_of([{"type": "image", "url": "https://x.org/a.jpg"}]), '"url": got the URL'),
        (record_of([{"type": "image"}, "So?"]), "more placeholders than media"),
        (record_of([{"type": "image", "image": "a.jpg"}, "<image> and <image>"]), "more placeholders than media"),
        (record_of([{"type": "image", "image": "a.jpg"}], images=["b.jpg"]), "got media in the turns and under keys"),
        (record_of("So?", images=["a.jpg", "b.jpg"]) | {"video_path": "a.mp4"}, '"video_path": got media'),
        ({"messages": [USER | {"images": ["aGk="]}, ANSWER]}, 'turn 1: "images": got media'),
        ({"prompt": "So?", "completion": "Yes."}, '"prompt": got str, expected a list of turns'),
        (record_of([{"type": "video", "video": "v", "video_start": 3, "video_end": 2}]), "expected start < end"),
    ],
)
def test_bad_records(tmp_path: Path, record: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        only(tmp_path, {"id": "x", **record})
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}:1: id 'x': ")
    assert words in str(caught.value)


def test_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(record_of("So?", images=["a.jpg"])))
    config = slot_config("reader", "messages")(name="messages", path=str(tmp_path / "a.jsonl"), media_root="/m")
    (sample,) = load_registry().build("reader", config)
    assert sample.media == (Media("image", "/m/a.jpg"),)
