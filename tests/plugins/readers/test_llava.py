"""LLaVA records as the public sets write them, and what is wrong with some."""

import json
from pathlib import Path
from typing import Any

import pytest

from composer import records
from composer.data.open_sources import unique_samples
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.llava import LlavaReader


def turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


def talk(*values: str) -> list[dict[str, str]]:
    return [turn(("human", "gpt")[i % 2], value) for i, value in enumerate(values)]


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def only(path: Path, record: Any, **options: Any) -> Sample:
    return LlavaReader(lines(path / "a.jsonl", record), **options)[0]


def test_video(tmp_path: Path) -> None:
    record = {"id": 7, "video": "clips/7.mp4", "conversations": talk("<video>\nWhat moves?", "A ball."), "kind": "x"}
    sample = only(tmp_path, record)
    video = Media("video", str(tmp_path / "clips/7.mp4"))
    assert sample.id == "7"
    assert sample.source == str(tmp_path / "a.jsonl")
    assert sample.messages == (Message("user", (video, "What moves?")), Message("assistant", ("A ball.",)))
    assert sample.meta == {"kind": "x"}


def test_media_stand_where_they_are_named(tmp_path: Path) -> None:
    record = {
        "image": ["a.png", "b.png"],
        "conversations": talk("Compare <image> and\n<image>\nnow.", "They differ.", "How?", "So."),
    }
    sample = only(tmp_path, record)
    a, b = (Media("image", str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert sample.messages[0].content == ("Compare ", a, " and", b, "now.")
    assert sample.media == (a, b)
    assert sample.id == "a-0"


def test_media_that_are_not_named_come_first(tmp_path: Path) -> None:
    conversations = [turn("system", "Be brief."), *talk("What?", "A.", "And?", "B.")]
    sample = only(tmp_path, {"image": "a.png", "conversations": conversations})
    assert [m.role for m in sample.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert sample.messages[1].content == (Media("image", str(tmp_path / "a.png")), "What?")


def test_images_and_videos_mixed(tmp_path: Path) -> None:
    record = {"image": "a.png", "video": "b.mp4", "conversations": talk("<video> or <image>?", "Yes.")}
    assert [m.kind for m in only(tmp_path, record).media] == ["video", "image"]


def test_a_video_called_image(tmp_path: Path) -> None:
    sample = only(tmp_path, {"video": "b.mp4", "conversations": talk("<image>\nWhat?", "A.")})
    assert sample.messages[0].content == (Media("video", str(tmp_path / "b.mp4")), "What?")


def test_segment(tmp_path: Path) -> None:
    record = {"video": "b.mp4", "start": 2, "end": 4.5, "conversations": talk("<video>What?", "A.")}
    assert only(tmp_path, record).media == (Media("video", str(tmp_path / "b.mp4"), 2.0, 4.5),)


def test_media_root_and_absolute_paths(tmp_path: Path) -> None:
    record = {"image": ["a.png", "/data/b.png"], "conversations": talk("<image><image>", "A.")}
    sample = only(tmp_path, record, media_root="/media")
    assert [m.path for m in sample.media] == ["/media/a.png", "/data/b.png"]


def test_leading_answers_are_dropped(tmp_path: Path) -> None:
    conversations = [turn("gpt", "Hello."), *talk("Hi?", "Yes.")]
    assert [m.role for m in only(tmp_path, {"conversations": conversations}).messages] == ["user", "assistant"]


def test_cambrian(tmp_path: Path) -> None:
    """System prompts, as a turn or as a key; text alone, its image empty."""
    turns = [turn("system", "Be brief."), *talk("<image>\nWhat?", "A.")]
    record = {"id": "c", "image": "coco/1.jpg", "source": "sqa.json", "conversations": turns}
    sample = only(tmp_path, record)
    assert sample.messages[0] == Message("system", ("Be brief.",))
    assert sample.messages[1].content == (Media("image", str(tmp_path / "coco/1.jpg")), "What?")
    assert sample.meta == {"source": "sqa.json"}
    assert only(tmp_path, record | {"system_prompt": "Another."}).messages == sample.messages
    text = {"image": "", "system_prompt": "Be kind.", "conversations": talk("Hi?", "Yes.")}
    sample = only(tmp_path, text)
    assert only(tmp_path, {"system": "Be kind.", "conversations": talk("Hi?", "Yes.")}).messages == sample.messages
    assert [(m.role, m.content) for m in sample.messages[:2]] == [("system", ("Be kind.",)), ("user", ("Hi?",))]
    assert sample.media == ()


def test_m4_instruct(tmp_path: Path) -> None:
    record = {
        "sample_id": 12,
        "image": ["HQ-Edit/a.jpg", "HQ-Edit/b.jpg"],
        "conversations": talk("<image><image>\nWhat changed?", "The sky."),
        "choice_list": None,
        "metadata": {"dataset": "HQ-Edit"},
    }
    sample = only(tmp_path, record, media_root="/m4")
    assert sample.id == "12"
    assert [m.path for m in sample.media] == ["/m4/HQ-Edit/a.jpg", "/m4/HQ-Edit/b.jpg"]
    assert sample.meta == {"choice_list": None, "metadata": {"dataset": "HQ-Edit"}}


def test_allava_and_sharegpt4v(tmp_path: Path) -> None:
    allava = {"id": "allava_laion_inst_0", "image": "allava_laion/images/1.jpeg", "conversations": talk("Q?", "A.")}
    shared = {"id": "0001", "image": "sam/images/sa_1.jpg", "conversations": talk("Describe it.\n<image>", "A hill.")}
    assert only(tmp_path, allava).messages[0].content[1] == "Q?"
    assert only(tmp_path, shared).messages[0].content[0] == "Describe it."


def test_list_and_lines_give_the_same(tmp_path: Path) -> None:
    records = [{"id": str(i), "conversations": talk(f"{i}?", f"{i}.")} for i in range(5)]
    listed = tmp_path / "b.json"
    listed.write_text(json.dumps(records, indent=1))
    one, other = LlavaReader(lines(tmp_path / "a.jsonl", *records)), LlavaReader(listed)
    assert len(one) == len(other) == 5
    assert [s.messages for s in one] == [s.messages for s in other]
    assert one[-1].id == "4"
    with pytest.raises(IndexError):
        one[5]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, last: bool) -> None:
    """Blank lines, a byte order mark, letters of several bytes, no line break at the end, chunks that cut lines."""
    monkeypatch.setattr(records, "CHUNK", 64)
    texts = [json.dumps({"id": str(i), "conversations": talk("é" * i, "ü")}, ensure_ascii=False) for i in range(30)]
    text = "\ufeff" + f"{end}  {end}{end}".join(texts) + end * last
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode())
    reader = LlavaReader(path)
    assert [sample.id for sample in reader] == [str(i) for i in range(30)]
    assert reader[29].messages[0].content == ("é" * 29,)
    assert reader.location(1) == f"{path}:4"


GOOD = {"id": "g", "conversations": talk("Q?", "A.")}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"conversations": talk("<image><image>", "A."), "image": "a.png"}, "more placeholders than media"),
        ({"conversations": talk("<image>", "A.")}, "more placeholders than media: the text has 1 <image>; the record"),
        ({"conversations": talk("<video>", "A."), "image": "a.png"}, "more placeholders than media"),
        ({"conversations": talk("<image>", "A."), "image": ["a.png", "b.png"]}, "more media than placeholders"),
        ({"conversations": [turn("robot", "A.")]}, "turn 1: \"from\": got 'robot', expected one of human, gpt, system"),
        ({"conversations": [{"from": "human"}]}, "turn 1: got {'from': 'human'}, expected"),
        ({"conversations": "Q?"}, "got str, expected a list of turns"),
        ({"text": "Q?"}, "got NoneType, expected a list of turns"),
        ({"conversations": []}, "no human turn"),
        ({"conversations": [turn("gpt", "A.")]}, "no human turn"),
        ({"conversations": talk("Q?", "A."), "system_prompt": 3}, '"system_prompt": got 3, expected text'),
        ({"conversations": talk("Q?", "A."), "video": 3}, '"video": got 3, expected a path or a list of paths'),
        ({"conversations": talk("Q?", "A."), "video": "v", "start": "0:10"}, "\"start\": got '0:10', expected seconds"),
        ({"conversations": talk("Q?", "A."), "video": "v", "start": 3, "end": 3}, "expected start < end"),
    ],
)
def test_bad_record(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    reader = LlavaReader(lines(tmp_path / "a.jsonl", GOOD, {"id": "bad", **record}))
    with pytest.raises(DataError) as caught:
        reader[1]
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}:2: id 'bad': ")
    assert message in str(caught.value)
    listed = tmp_path / "b.json"
    listed.write_text(json.dumps([GOOD, record]))
    with pytest.raises(DataError, match=r"b\.json: record 2: id 'b-1': "):
        LlavaReader(listed)[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "x", ', r"a\.jsonl:3: not JSON: .*column"),
        (b"hello", r"a\.jsonl:3: not JSON"),
        (b'{"id": "\xff\xfe"}', r"a\.jsonl:3: not UTF-8"),
        (b"[1, 2]", r"a\.jsonl:3: got list, expected a JSON object"),
    ],
)
def test_a_line_that_is_no_record(tmp_path: Path, line: bytes, message: str) -> None:
    good = json.dumps(GOOD).encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good, b"", line, good]))
    reader = LlavaReader(path)
    assert reader[2].id == "g"
    with pytest.raises(DataError, match=message):
        reader[1]


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_empty_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json: no records"):
        LlavaReader(tmp_path / "a.json")


def test_broken_list_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"id": 1},\n{"id" 2}]')
    with pytest.raises(DataError, match=r"a\.json:3: not JSON"):
        LlavaReader(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"gone\.json: cannot read the data file: No such file"):
        LlavaReader(tmp_path / "gone.json")


def test_two_records_of_one_id(tmp_path: Path) -> None:
    first = LlavaReader(lines(tmp_path / "a.jsonl", GOOD, {**GOOD, "id": "h"}))
    assert [sample.id for sample in unique_samples([first])] == [first[0].id, "h"]
    second = LlavaReader(lines(tmp_path / "b.jsonl", {**GOOD, "id": "h"}))
    with pytest.raises(DataError, match=r"b\.jsonl:1: id 'h' is already that of .*a\.jsonl:2; give each record"):
        list(unique_samples([first, second]))


@pytest.mark.parametrize("key", ["loss", "weight"])
def test_answers_are_trained_on_as_their_turns_say(tmp_path: Path, key: str) -> None:
    flags = [None, 0, 1, False, True, 1.0, 0.0]
    turns = [turn("system", "S.") | {key: 0}]
    for flag in flags:
        turns += [turn("human", "Q?"), turn("gpt", "A.") | {key: flag}]  # type: ignore[dict-item]
    turns += [turn("human", "Q?"), turn("gpt", " "), turn("human", "Q?"), turn("gpt", "A.")]
    messages = only(tmp_path, {"conversations": turns}).messages
    has_loss = [message.loss for message in messages if message.role == "assistant"]
    assert has_loss == [flag is None or bool(flag) for flag in flags] + [False, True]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"loss": 0.5}, '"loss": got 0.5, expected 0, 1, false or true'),
        ({"weight": "0"}, "\"weight\": got '0', expected 0, 1, false or true"),
        ({"loss": [1]}, '"loss": got [1], expected'),
        ({"loss": 1, "weight": 0}, 'got "loss" and "weight" with different values'),
        ({"from": "human", "loss": True}, '"loss": got True in a turn of the user: only assistant turns can have loss'),
    ],
)
def test_flags_that_say_nothing(tmp_path: Path, answer: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        only(tmp_path, {"conversations": [turn("human", "Q?"), turn("gpt", "A.") | answer]})
    assert f'"conversations", turn 2: {words}' in str(caught.value)


def test_other_names_of_roles(tmp_path: Path) -> None:
    conversations = [turn("user", "Q?"), turn("assistant", "A."), turn("user", "And?"), turn("bot", "B.")]
    roles = [message.role for message in only(tmp_path, {"conversations": conversations}).messages]
    assert roles == ["user", "assistant", "user", "assistant"]
    with pytest.raises(DataError, match="turn 2: got a tool call or a tool result"):
        only(tmp_path, {"conversations": [turn("human", "Q?"), turn("function_call", "f()")]})
